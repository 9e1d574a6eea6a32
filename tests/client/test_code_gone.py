"""A run whose workflow function is gone: the reason can be read, signals are taken, and nodes that have the code go on."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from headrace import Headrace

CODE = """
from headrace import wait_for_signal, workflow

@workflow
async def patient() -> list[str]:
    return [await wait_for_signal("word") for _ in range(2)]
"""


def play(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(bounded())


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    while not (found := await condition()):
        await asyncio.sleep(0.01)
    return found


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module with the workflow, which a test may change."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    file = tmp_path / "headrace_code_gone.py"
    file.write_text(CODE)
    forget()
    return file


def forget() -> None:
    importlib.invalidate_caches()
    sys.modules.pop("headrace_code_gone", None)


async def begin(url: str) -> str:
    """A run that waits, and whose process is gone."""
    import headrace_code_gone  # type: ignore[import-not-found]

    async with Headrace(url, node="first") as hr:
        return (await hr.start(headrace_code_gone.patient)).id


@pytest.mark.parametrize("loss", ["", "raise ImportError('no driver')"], ids=["removed", "import error"])
def test_the_reason_is_told_and_signals_are_kept(module: Path, loss: str, tmp_path: Path) -> None:
    async def test() -> None:
        url = f"sqlite:///{tmp_path}/x.db"
        run_id = await begin(url)
        module.write_text(loss)
        forget()
        async with Headrace(url, node="without") as without:
            await without.signal(run_id, "word", "one")
            [reason] = await until(lambda: refusals(without, run_id))
            assert reason.stuck
            assert reason.why.startswith("node without cannot take it over: ")
            assert ("no driver" if loss else "patient") in reason.why
            assert f"headrace runs resume {run_id}" in (reason.hint or "")
            assert list(await without.refused_by(run_id)) == ["without"]
            assert (await without.row(run_id)).state == "running"
            assert "  refused    by node without: " in await shown(run_id, url)
            assert "without" in json.loads(await shown(run_id, url, "-o", "json"))["refused_by"]
            module.write_text(CODE)
            forget()
            async with Headrace(url, node="able") as able:
                assert await until(lambda: lives(able, run_id))
                await without.signal(run_id, "word", "two")
                assert await (await able.get(run_id)).result() == ["one", "two"]

    play(test)


def test_signals_do_not_overtake_those_that_wait(module: Path, tmp_path: Path) -> None:
    async def test() -> None:
        url = f"sqlite:///{tmp_path}/x.db"
        run_id = await begin(url)
        module.write_text("")
        forget()
        async with Headrace(url, node="without", adopt=False) as without:
            await without.signal(run_id, "word", "one")
        module.write_text(CODE)
        forget()
        async with Headrace(url, node="able", adopt=False) as able:
            await able.signal(run_id, "word", "two")
            assert await (await able.get(run_id)).result() == ["one", "two"]

    play(test)


def test_a_node_goes_on_once_its_code_is_mended(module: Path, tmp_path: Path) -> None:
    async def test() -> None:
        url = f"sqlite:///{tmp_path}/x.db"
        run_id = await begin(url)
        module.write_text("")
        forget()
        async with Headrace(url, node="only") as hr:
            await hr.signal(run_id, "word", "one")
            await hr.signal(run_id, "word", "two")
            await until(lambda: refusals(hr, run_id))
            module.write_text(CODE)
            forget()
            hr.forget_code()
            assert await (await hr.get(run_id)).result() == ["one", "two"]
            assert not hr._node.adopter.refused

    play(test)


async def refusals(hr: Headrace, run_id: str) -> list[Any]:
    return [reason for reason in await hr.why(run_id) if "cannot take it over" in reason.why]


async def lives(hr: Headrace, run_id: str) -> bool:
    return run_id in hr._node.live


async def shown(run_id: str, url: str, *more: str) -> str:
    """What the command tells, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "headrace.cli", "runs", "show", run_id, "--store", url, *more),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    return output.decode()
