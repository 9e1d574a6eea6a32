"""Failures of Fastflow that Headrace must never have, each by name."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from pathlib import Path

import pytest

from headrace.contracts.execution import Attempt
from headrace.core.errors import InvalidDefinition, InvalidParams
from headrace.core.events import TaskStarted, TaskSucceeded
from headrace.core.params import resolve_params
from headrace.core.spec import ParamSpec

from graphs import graph, graph_of, plan_of  # isort: skip
from rig import Work, ended, events_of, final, memory_rig, play, start, states, turns, until, within  # isort: skip


def test_a_cycle_that_no_start_task_reaches_is_refused() -> None:
    """There it is accepted, its tasks never run, and the run ends as a success."""
    with pytest.raises(InvalidDefinition, match="cycle"):
        graph(a=None, b=["c"], c=["b"])


def test_the_cost_of_a_graph_does_not_grow_with_its_paths() -> None:
    """100 layers of 100 tasks, each needing the whole layer before: 990,000 edges and 100^100 paths. There 70 tasks are
    already more than five million visits."""
    names = [[f"t{layer}_{place}" for place in range(100)] for layer in range(100)]
    tasks = dict.fromkeys(names[0]) | {name: above for above, layer in pairwise(names) for name in layer}
    begun = time.process_time()
    plan = plan_of(graph_of(tasks))
    assert len(plan) == 10_000
    assert time.process_time() - begun < 10  # seconds of this process; the bound of the bench is tighter


def test_the_clock_of_a_timeout_starts_with_the_attempt(tmp_path: Path) -> None:
    """There a task that waits for a worker longer than its timeout fails without having run."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            free = asyncio.Event()

            async def first(attempt: Attempt) -> None:
                await free.wait()

            node = await rig.node(Work(first=first), slots={"inline": 1, "other": 1})
            spec = graph(first=None, second={"timeouts": {"attempt": 0.05}})
            live = await start(node, spec)
            await asyncio.sleep(0.15)  # three times the bound of the task that has to wait
            free.set()
            assert states(await ended(live)) == {"first": "succeeded", "second": "succeeded"}

    play(test())


@pytest.mark.parametrize("delay", range(12))
def test_a_cancel_between_two_serial_tasks_wins(delay: int, tmp_path: Path) -> None:
    """There it is lost without a word when no task runs at that moment. Here it is given at every turn of the event loop
    around the end of the first task."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            go, reached = asyncio.Event(), asyncio.Event()

            async def first(attempt: Attempt) -> None:
                await go.wait()

            async def third(attempt: Attempt) -> None:
                reached.set()

            async def second(attempt: Attempt) -> None:
                await asyncio.Event().wait()

            node = await rig.node(Work(first=first, second=second, third=third))
            live = await start(node, graph(first=None, second=["first"], third=["second"]))
            await turns(5)
            go.set()
            for _ in range(delay):
                await asyncio.sleep(0)
            await node.command(live.run_id, "cancel", {})
            run = await ended(live)
            assert run.state == "cancelled"
            assert not reached.is_set()

    play(test())


def test_runs_of_a_dead_node_are_taken_over(tmp_path: Path) -> None:
    """There a running instance is never given to another node: it is failed later, or stuck for ever."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:

            async def hang(attempt: Attempt) -> None:
                await asyncio.Event().wait()

            dead = await rig.node(Work(b=hang), lease_seconds=3600.0)
            live = await start(dead, graph(a=None, b=["a"]))
            await until(lambda: dead.launcher.running == 1 and live.run.tasks[0].done)
            await dead.journal.drained()
            rig.clock.offset += 7200  # the node does not renew while its clock stands still: it is dead to the others
            work = Work()
            node = await rig.node(work)
            run = await final(node, live.run_id)
            assert states(run) == {"a": "succeeded", "b": "succeeded"}
            assert work.begun == {"b": 1}, "a completed task ran again"

    play(test())


def test_one_bad_definition_stops_nobody_else_and_no_restart(tmp_path: Path) -> None:
    """There a poison definition ends the process, and again at every start; one bad instance stops all later ones."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            holder = rig.build(slots={"inline": 0})
            await holder.start()
            poisoned = [await start(holder, graph_of({"a": None, f"x{n}": ["a"]}, name="poison")) for n in range(3)]
            good = await start(holder, graph(a=None))
            database = holder.store.database  # type: ignore[attr-defined]
            database.events[poisoned[0].run_id][1] = b"not an event"
            database.events[poisoned[1].run_id][3] = database.events[poisoned[1].run_id][1]
            del database.workflows[poisoned[2].run.plan.version]
            await holder.stop()
            for _ in range(2):
                node = await rig.node()
                row = await node.store.run(good.run_id)
                assert row is not None
                assert states(await final(node, good.run_id)) == {"a": "succeeded"}
                assert set(node.adopter.refused) == {live.run_id for live in poisoned}
                await node.stop()

    play(test())


def test_an_outcome_is_recorded_once_and_its_task_runs_once(tmp_path: Path) -> None:
    """There "exactly once" is at most once or twice, depending on the luck of the poll."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            work = Work()
            node = await rig.node(work)
            live = await start(node, graph(a=None, b=["a"]))
            await ended(live)
            assert work.begun == {"a": 1, "b": 1}
            events = await events_of(node.store, live.run_id)
            assert [event.task for event in events if isinstance(event, TaskSucceeded)] == ["a", "b"]
            assert not [event for event in events if isinstance(event, TaskStarted)], "short attempts are one event"

    play(test())


def test_an_unknown_parameter_is_an_error_and_an_empty_text_is_a_value() -> None:
    """There unknown ones are dropped without a word, and an empty override becomes the default."""
    specs = {"city": ParamSpec(type="str", default="Oslo")}
    with pytest.raises(InvalidParams, match="ctiy"):
        resolve_params(specs, {"ctiy": "Bergen"})
    assert resolve_params(specs, {"city": ""}) == {"city": ""}


def test_a_finished_run_does_not_wait_for_a_poll(tmp_path: Path) -> None:
    """There a task waits about a second for two polls before it starts."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:
            node = await rig.node(poll_seconds=3600.0, lease_seconds=3600.0)
            live = await start(node, graph(a=None, b=["a"], c=["b"]))
            await within(live.until_closed(), 5)
            assert live.done

    play(test())
