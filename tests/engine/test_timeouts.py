"""Bounds of attempts, tasks and runs, on a real loop with short times."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headrace.contracts.execution import Attempt
from headrace.core import events as ev
from headrace.core.errors import SkipTask
from headrace.engine import timers

from graphs import graph, graph_of  # isort: skip
from rig import Work, ended, events_of, memory_rig, play, start, states  # isort: skip


async def forever(attempt: Attempt) -> None:
    await asyncio.Event().wait()


async def raises_when_stopped(attempt: Attempt) -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise RuntimeError("clean-up went wrong") from None


async def returns_when_stopped(attempt: Attempt) -> str:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return "too late"
    raise AssertionError


@pytest.mark.parametrize("stubborn", [forever, raises_when_stopped, returns_when_stopped])
def test_an_attempt_over_its_bound_is_tried_again(stubborn: object, tmp_path: Path) -> None:
    """However the code takes it, the failure is ``timeout``."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            work = Work(a=stubborn)  # type: ignore[arg-type]
            node = await rig.node(work)
            again = {"attempts": 2, "backoff": "fixed", "initial": 0.001, "jitter": "none", "retry_on": ["timeout"]}
            live = await start(node, graph(a={"timeouts": {"attempt": 0.02}, "retries": again}))
            await ended(live)
            failures = [
                event.failure.type
                for event in await events_of(node.store, live.run_id)
                if isinstance(event, ev.AttemptFailed | ev.TaskFailed)
            ]
            assert failures == ["timeout", "timeout"]
            assert work.begun["a"] == 2

    play(test())


def test_a_task_over_its_bound_is_stopped_with_its_retries(tmp_path: Path) -> None:
    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            work = Work(a=forever, each=forever)
            node = await rig.node(work)
            live = await start(
                node, graph(a={"timeouts": {"task": 0.05}}, each={"map": [1, 2], "timeouts": {"task": 0.05}})
            )
            run = await ended(live)
            assert states(run) == {"a": "failed", "each": "failed", "each[0]": "cancelled", "each[1]": "cancelled"}
            assert {unit.failure.type for unit in run.tasks if unit.failure} == {"task_timeout"}
            await node.launcher.idle()
            assert not work.under_way[""], "what was under way was stopped"

    play(test())


def test_a_run_over_its_bound_fails_once_everything_has_stopped(tmp_path: Path) -> None:
    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            work = Work(a=forever)
            node = await rig.node(work)
            run = await ended(await start(node, graph_of({"a": None, "b": ["a"]}, timeout=0.05)))
            assert (str(run.state), run.failure and run.failure.type) == ("failed", "run_timeout")
            assert states(run) == {"a": "cancelled", "b": "cancelled"}
            assert not work.under_way[""]

    play(test())


def test_deadlines_survive_a_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timers, "PIECE_SECONDS_MAX", 0.01)

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            node = await rig.node(Work(a=forever), slots={"inline": 0}, lease_seconds=1e6)
            live = await start(node, graph_of({"a": None}, timeout=500.0))
            await node.command(live.run_id, "pause", {})
            rig.clock.offset += 1000
            assert (await ended(live)).state == "failed"

    play(test())


def test_a_task_may_skip_itself(tmp_path: Path) -> None:
    async def test() -> None:
        async with memory_rig(tmp_path) as rig:

            async def skips(attempt: Attempt) -> None:
                raise SkipTask("no data today")

            node = await rig.node(Work(a=skips))
            run = await ended(await start(node, graph(a=None)))
            assert (states(run), run.tasks[0].reason) == ({"a": "skipped"}, "no data today")

    play(test())
