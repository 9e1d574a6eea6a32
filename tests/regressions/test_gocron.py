"""Failures of gocron that Headrace must never have, as far as they concern running tasks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from headrace import Headrace, RunFailed, dag, task
from headrace.contracts.execution import Attempt

from graphs import graph  # isort: skip
from rig import Work, ended, memory_rig, play, start, states  # isort: skip


class Odd(BaseException):
    """Not an Exception."""


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        StopIteration(),
        asyncio.CancelledError(),
        Odd(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_task_raises_the_process_goes_on(error: BaseException, tmp_path: Path) -> None:
    """There a panic in a job ends the process."""

    async def test() -> None:
        async def raises() -> None:
            raise error

        async def well() -> int:
            return 7

        with dag("panic") as panic:
            task(raises)()
        with dag("calm") as calm:
            task(well)()
        async with Headrace("memory://", data_dir=tmp_path) as headrace:
            run = await headrace.run(panic)
            with pytest.raises(RunFailed) as failed:
                await run.result(20)
            assert type(error).__name__ in str(failed.value)
            assert await (await headrace.run(calm)).result(20) == {"well": 7}

    play(test())


def test_a_wait_for_a_retry_holds_no_slot(tmp_path: Path) -> None:
    """There a job that sleeps before its retry keeps its place in the concurrency limit, for hours."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:

            async def fails(attempt: Attempt) -> Any:
                if attempt.attempt == 1:
                    raise ValueError
                return await other_done.wait()

            async def other(attempt: Attempt) -> None:
                other_done.set()

            other_done = asyncio.Event()
            node = await rig.node(Work(a=fails, b=other), slots={"inline": 1})
            again = {"attempts": 2, "backoff": "fixed", "initial": 0.05, "jitter": "none"}
            live = await start(node, graph(a={"retries": again}, b=None))
            assert states(await ended(live)) == {"a": "succeeded", "b": "succeeded"}

    play(test())


def test_a_run_can_be_stopped_from_another_process(tmp_path: Path) -> None:
    """There stopping needs the very process that started the job: the list of what can be stopped is in its memory."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:

            async def hang(attempt: Attempt) -> None:
                await asyncio.Event().wait()

            owner = await rig.node(Work(a=hang), poll_seconds=3600.0)
            other = await rig.node(adopt=False)
            live = await start(owner, graph(a=None))
            await other.command(live.run_id, "cancel", {"reason": "from elsewhere"})
            run = await ended(live)
            assert (run.state, run.reason) == ("cancelled", "from elsewhere")

    play(test())
