"""Slots, ``max_parallel`` and priorities: never exceeded, never leaked, in the right order."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from headrace.contracts.execution import Attempt
from headrace.core.spec import WorkflowSpec

from graphs import graph, graph_of  # isort: skip
from rig import Work, ended, memory_rig, play, start, states, turns, until  # isort: skip


async def brief(attempt: Attempt) -> Any:
    for _ in range(3):
        await asyncio.sleep(0)
    if attempt.item is not None and attempt.item % 5 == 3 and attempt.attempt == 1:
        raise ValueError("once")
    return attempt.item


async def forever(attempt: Attempt) -> None:
    await asyncio.Event().wait()


async def hold(attempt: Attempt) -> None:
    await asyncio.Event().wait()


AGAIN = {"attempts": 2, "backoff": "fixed", "initial": 0.001, "jitter": "none"}


@pytest.mark.parametrize(
    ("spec", "slots", "bound"),
    [
        (graph(each={"map": list(range(40)), "max_parallel": 3, "retries": AGAIN}), 100, 3),
        (graph_of({"each": {"map": list(range(40)), "retries": AGAIN}}, max_parallel=4), 100, 4),
        (graph(each={"map": list(range(40)), "retries": AGAIN}), 5, 5),
        (graph_of({"each": {"map": list(range(40)), "max_parallel": 6, "retries": AGAIN}}, max_parallel=2), 100, 2),
    ],
    ids=["map", "run", "executor", "map in run"],
)
def test_a_limit_is_used_and_never_exceeded(spec: WorkflowSpec, slots: int, bound: int, tmp_path: Path) -> None:
    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            work = Work(each=brief)
            node = await rig.node(work, slots={"inline": slots})
            run = await ended(await start(node, spec))
            assert run.state == "succeeded"
            assert work.most[""] == bound
            assert sum(work.begun.values()) == 48  # every fifth item failed once
            assert work.order[:bound] == [f"each[{item}]" for item in range(bound)], "items start in order"
            assert all(gate.inside == 0 and not gate.waiting for gate in node.planner._executor_gates.values())

    play(test())


def test_higher_priorities_start_first_and_equals_in_order(tmp_path: Path) -> None:
    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            free = asyncio.Event()

            async def first(attempt: Attempt) -> None:
                await free.wait()

            work = Work(first=first)
            node = await rig.node(work, slots={"inline": 1})
            tasks = {"first": {"priority": 9}, "low": {"priority": -1}, "a": None, "b": None, "high": {"priority": 5}}
            live = await start(node, graph_of(tasks))
            await until(lambda: work.begun["first"])
            free.set()
            await ended(live)
            assert work.order == ["first", "high", "a", "b", "low"]

    play(test())


def test_a_cancelled_run_gives_every_slot_back(tmp_path: Path) -> None:
    """Attempts under way, waiting at each gate and waiting for a retry: after the cancel another run has all the room."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            work = Work(each=hold, other=brief)
            node = await rig.node(work, slots={"inline": 4})
            spec = graph_of({"each": {"map": list(range(20)), "max_parallel": 6}, "low": None}, max_parallel=5)
            live = await start(node, spec)
            await until(lambda: work.under_way["each"] == 4)
            await node.command(live.run_id, "cancel", {})
            assert (await ended(live)).state == "cancelled"
            assert not live.tickets
            run = await ended(await start(node, graph(other={"map": list(range(8)), "retries": AGAIN})))
            assert run.state == "succeeded"
            assert work.most["other"] == 4

    play(test())


def test_the_queue_bound_counts_the_wait_only(tmp_path: Path) -> None:
    """The one that waits too long fails without having started; the one that runs for longer than the bound does not."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            waits = asyncio.Event()

            async def long(attempt: Attempt) -> None:
                await waits.wait()

            work = Work(long=long)
            node = await rig.node(work, slots={"inline": 1})
            bound = {"timeouts": {"queue": 0.05}}
            live = await start(node, graph(long=bound, waiting=bound))
            await until(lambda: live.run.tasks[1].done)
            unit = live.run.tasks[1]
            assert unit.failure is not None
            assert (unit.failure.type, unit.started_at, work.begun["waiting"]) == ("queue_timeout", None, 0)
            waits.set()
            assert states(await ended(live)) == {"long": "succeeded", "waiting": "failed"}

    play(test())


def test_a_pause_takes_no_slot_and_a_resume_takes_up_everything(tmp_path: Path) -> None:
    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            free = asyncio.Event()

            async def first(attempt: Attempt) -> None:
                await free.wait()

            work = Work(first=first)
            node = await rig.node(work, slots={"inline": 1})
            live = await start(node, graph(first=None, waiting=None, after=["first"]))
            await until(lambda: work.begun["first"])
            await node.command(live.run_id, "pause", {})
            free.set()
            await until(lambda: live.run.tasks[0].done)
            await node.journal.drained()
            await turns()
            assert work.order == ["first"], "nothing starts in a paused run"
            await ended(await start(node, graph(elsewhere=None)))
            await node.command(live.run_id, "resume", {})
            assert (await ended(live)).state == "succeeded"

    play(test())
