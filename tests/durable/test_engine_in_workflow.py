"""Workflow code that uses the engine's own methods is told what to use instead, and harms nobody else."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from headrace import Headrace, NotDeterministic, query, wait_for_signal, workflow
from headrace.backends.stores.sqlite_thread import ConnectionThread
from headrace.durable.loop import WorkflowLoop

SECONDS = 60
ENGINE: list[Headrace] = []
USES: dict[str, Callable[[Headrace, Any], Awaitable[Any]]] = {
    "signal": lambda hr, run: hr.signal(run, "go"),
    "start": lambda hr, run: hr.start(fine),
    "query": lambda hr, run: hr.query(run, "state"),
    "lists": lambda hr, run: hr.runs(),
    "looks": lambda hr, run: hr.get(run),
}


@workflow
async def fine() -> str:
    return "fine"


@workflow
async def waits() -> None:
    @query
    def state() -> int:
        ENGINE[0].live(None)  # type: ignore[arg-type]
        return 1

    await wait_for_signal("go")


@workflow
async def uses(how: str, other: str) -> Any:
    return await USES[how](ENGINE[0], other)


@pytest.mark.parametrize("how", USES)
def test_a_run_that_uses_its_engine_is_suspended_and_the_engine_goes_on(how: str, tmp_path: Path) -> None:
    async def test(hr: Headrace) -> None:
        other = await hr.start(waits)
        run = await hr.start(uses, how, other.id)
        while (view := await run.show()).state == "running":
            await asyncio.sleep(0)
        assert view.state == "suspended"
        assert "used the engine at test_engine_in_workflow.py:" in (view.reason or "")
        assert "start_child" in (view.reason or "")
        with pytest.raises(NotDeterministic, match="used the engine at test_engine_in_workflow"):
            await hr.query(other.id, "state")
        assert await (await hr.start(fine)).result() == "fine"
        assert len(await hr.runs()) == 3

    play(tmp_path, test)


def test_a_connections_thread_outlives_a_loop_that_takes_no_answer(tmp_path: Path) -> None:
    import sqlite3

    async def test() -> None:
        thread = ConnectionThread("test", sqlite3.connect(tmp_path / "x.db", check_same_thread=False))
        asked = thread.call(lambda connection: 1)
        outer = asyncio.get_running_loop()
        loop = WorkflowLoop(0.0)
        entered = loop.enter()
        try:
            asked.send(None)
        finally:
            loop.leave(entered)
        asked.close()
        assert asyncio.get_running_loop() is outer
        async with asyncio.timeout(SECONDS):
            assert await thread.call(lambda connection: 2) == 2
        await thread.stop()

    asyncio.run(test())


def play(folder: Path, test: Callable[[Headrace], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(SECONDS), Headrace(f"sqlite:///{folder}/headrace.db") as hr:
            ENGINE[:] = [hr]
            await test(hr)

    asyncio.run(run())
