"""A process dies at every call it makes to its store, before and after the call took effect; another one goes on.

For each scenario and each point: every acknowledged run reaches its right final state; no outcome is recorded twice; no
code runs before what it follows from is durable, nor after its own outcome is (``World`` looks at each start).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.backends.stores.sqlite import SqliteStore
from headrace.contracts.execution import Attempt
from headrace.contracts.store import RunFilter
from headrace.core import events as ev
from headrace.core.errors import InvalidCommand, PermanentError, SkipTask
from headrace.core.ids import RunId
from headrace.core.spec import WorkflowSpec
from headrace.engine.node import Node

from graphs import graph, graph_of  # isort: skip
from mortal import ENDS, World, name_of  # isort: skip
from rig import ended, events_of, final, folded, start, states, until  # isort: skip

EVERYTHING = RunFilter(limit=100)

Client = Callable[[World, Node], Awaitable[None]]


class Scenario:
    """A graph, what its tasks and its client do, and what must have become of it."""

    def __init__(
        self,
        spec: WorkflowSpec,
        expected: dict[str, str | set[str]],
        *,
        state: str | set[str] = "succeeded",
        client: Client | None = None,
        again: Client | None = None,
        **functions: Callable[[Attempt], Awaitable[Any]],
    ) -> None:
        self.spec = spec
        self.expected = expected
        self.state = state
        self.client = client or run_to_end
        self.again = again or wait_for_all
        self.functions = functions

    def check(self, world: World, run: Any, where: str) -> None:
        found = states(run)
        wrong = {
            name: state
            for name, state in found.items()
            if state not in (self.expected[name] if isinstance(self.expected[name], set) else {self.expected[name]})
        }
        assert not wrong, f"{where}: {wrong}"
        assert set(found) == set(self.expected), where
        assert str(run.state) in (self.state if isinstance(self.state, set) else {self.state}), where
        if "once" in found:
            assert world.work.begun["once"] <= len(world.database.runs or [1]), f"{where}: at most once"


async def run_to_end(world: World, node: Node) -> None:
    live = await start(node, world.spec)
    world.acknowledged.append(live.run_id)
    await ended(live)


async def wait_for_all(world: World, node: Node) -> None:
    for run_id in world.acknowledged:
        await final(node, run_id)
    for row in await node.store.runs(EVERYTHING):  # a run nobody was told of may exist; it must end as well
        await final(node, row.run_id)


async def run_and_cancel(world: World, node: Node) -> None:
    live = await start(node, world.spec)
    world.acknowledged.append(live.run_id)
    await until(lambda: world.work.begun["forever"] or world.process.dead)
    await node.command(live.run_id, "cancel", {"reason": "enough"})
    world.promised.append("cancelled")
    await ended(live)


async def cancel_again(world: World, node: Node) -> None:
    for row in await node.store.runs(EVERYTHING):
        if row.ended_at is None and "cancelled" not in world.promised:
            try:
                await node.command(row.run_id, "cancel", {})
            except InvalidCommand:
                assert (await node.store.run(row.run_id)).ended_at is not None  # type: ignore[union-attr]
        await final(node, row.run_id)


async def pause_and_resume(world: World, node: Node) -> None:
    live = await start(node, world.spec)
    world.acknowledged.append(live.run_id)
    await node.command(live.run_id, "pause", {})
    await node.command(live.run_id, "resume", {})
    await ended(live)


async def resume_again(world: World, node: Node) -> None:
    for row in await node.store.runs(EVERYTHING):
        if row.ended_at is None:
            with contextlib.suppress(InvalidCommand):  # it ended in between
                await node.command(row.run_id, "resume", {})
        await final(node, row.run_id)


async def run_and_retry(world: World, node: Node) -> None:
    live = await start(node, world.spec)
    world.acknowledged.append(live.run_id)
    await ended(live)
    await node.command(live.run_id, "retry", {})
    world.promised.append("retried")
    await final(node, live.run_id)


async def retry_again(world: World, node: Node) -> None:
    await wait_for_all(world, node)
    for row in await node.store.runs(EVERYTHING):
        if row.state == "failed":
            assert "retried" not in world.promised, "an acknowledged retry was forgotten"
            await node.command(row.run_id, "retry", {})
            await final(node, row.run_id)


async def forever(attempt: Attempt) -> None:
    await asyncio.Event().wait()


async def fails(attempt: Attempt) -> None:
    raise PermanentError("no")


async def fails_twice(attempt: Attempt) -> int:
    if attempt.attempt < 3:
        raise ValueError(attempt.attempt)
    return attempt.attempt


async def skips(attempt: Attempt) -> None:
    raise SkipTask("not today")


async def three(attempt: Attempt) -> list[int]:
    return [10, 20, 30]


async def large(attempt: Attempt) -> list[str]:
    return ["x" * 50_000, "y" * 50_000]


def fails_first() -> Callable[[Attempt], Awaitable[str]]:
    """Fails until its failure was recorded once and somebody retried."""

    async def flaky(attempt: Attempt) -> str:
        world = WORLDS[-1]
        if not any(isinstance(event, ev.RunRetried) for event in world.stored(RunId(attempt.run_id))):
            raise ValueError("not yet")
        return "now"

    return flaky


WORLDS: list[World] = []
_again = {"attempts": 3, "backoff": "fixed", "initial": 0.001, "jitter": "none"}
_ok = "succeeded"
SCENARIOS: dict[str, Scenario] = {
    "chain": Scenario(graph(a=None, b=["a"], c=["b"]), {"a": _ok, "b": _ok, "c": _ok}),
    "diamond": Scenario(graph(a=None, b=["a"], c=["a"], d=["b", "c"]), {"a": _ok, "b": _ok, "c": _ok, "d": _ok}),
    "map": Scenario(
        graph(list=None, each={"map": "{{ tasks.list.output }}", "max_parallel": 2}, join=["each"]),
        {"list": _ok, "each": _ok, "each[0]": _ok, "each[1]": _ok, "each[2]": _ok, "join": _ok},
        list=three,
    ),
    "retry": Scenario(graph(a={"retries": _again}, b=["a"]), {"a": _ok, "b": _ok}, a=fails_twice),
    "failure-and-alert": Scenario(
        graph(a=None, b=["a"], alert={"needs": ["b"], "trigger": "one_failed"}),
        {"a": "failed", "b": "upstream_failed", "alert": _ok},
        state="failed",
        a=fails,
    ),
    "skip": Scenario(
        graph(a=None, b=["a"], c={"when": False}, d={"needs": ["a", "c"], "trigger": "all_done"}),
        {"a": "skipped", "b": "skipped", "c": "skipped", "d": _ok},
        a=skips,
    ),
    "cancel": Scenario(
        graph(a=None, forever=["a"], after=["forever"]),
        {"a": {_ok, "cancelled"}, "forever": "cancelled", "after": "cancelled"},
        state="cancelled",
        client=run_and_cancel,
        again=cancel_again,
        forever=forever,
    ),
    "pause": Scenario(graph(a=None, b=["a"]), {"a": _ok, "b": _ok}, client=pause_and_resume, again=resume_again),
    "retry-command": Scenario(
        graph(a=None, flaky=["a"], b=["flaky"]),
        {"a": _ok, "flaky": _ok, "b": _ok},
        client=run_and_retry,
        again=retry_again,
        flaky=fails_first(),
    ),
    "at-most-once": Scenario(
        graph(a=None, once={"needs": ["a"], "at_most_once": True}, b={"needs": ["once"], "trigger": "all_done"}),
        {"a": _ok, "once": {_ok, "failed"}, "b": _ok},
        state={"succeeded", "failed"},
    ),
    "large-value": Scenario(
        graph_of(
            {
                "large": None,
                "b": {
                    "when": "{{ tasks.large.output | length == 2 }}",
                    "args": {"value": "{{ tasks.large.output[1] | length }}"},
                },
            },
            output="{{ tasks.large.output | length }}",
        ),
        {"large": _ok, "b": _ok},
        large=large,
    ),
}


def world_of(scenario: Scenario, folder: Path, **options: Any) -> World:
    world = World(folder, scenario.spec, **options)
    world.work.functions = scenario.functions
    WORLDS[:] = [world]
    return world


async def look(world: World, where: str, scenario: Scenario) -> None:
    """What must hold of the stored truth in the end."""
    store = world.open_handle()
    await store.open()
    rows = await store.runs(EVERYTHING)
    assert not world.defects, f"{where}: {world.defects}"
    assert set(world.acknowledged) <= {row.run_id for row in rows}, f"{where}: an acknowledged run is gone"
    for row in rows:
        run = await folded(store, row.run_id)
        scenario.check(world, run, where)
        assert (row.state, row.last_seq, row.owner) == (str(run.state), run.seq, None), f"{where}: the row is behind"
        check_once(run.run_id, await events_of(store, row.run_id), where)
    await store.close()


def check_once(run_id: str, events: list[ev.Event], where: str) -> None:
    """Between two retries each unit ends once, each attempt fails once, and the run ends once."""
    ends: Counter[str] = Counter()
    for event in events:
        if isinstance(event, ev.RunRetried):
            ends = Counter({name: count for name, count in ends.items() if name.partition("[")[0] not in event.tasks})
            ends["run"] = 0
        elif isinstance(event, ENDS):
            ends[name_of(event)] += 1
        elif isinstance(event, ev.AttemptFailed):
            ends[f"{name_of(event)}#{event.attempt}"] += 1
        elif isinstance(event, ev.RunFinished):
            ends["run"] += 1
    twice = [name for name, count in ends.items() if count > 1]
    assert not twice, f"{where}: {run_id} recorded twice: {twice}"
    assert ends["run"] == 1, f"{where}: {run_id} did not end"


@pytest.mark.parametrize("name", SCENARIOS)
def test_death_at_every_store_call(name: str, tmp_path: Path) -> None:
    scenario = SCENARIOS[name]
    undisturbed = world_of(scenario, tmp_path)
    calls = undisturbed.live(scenario.client).names
    asyncio.run(look(undisturbed, "undisturbed", scenario))
    assert len(calls) > 5
    for at in range(1, len(calls) + 1):
        for after in (False, True):
            where = f"{name}, died {'after' if after else 'before'} call {at} ({calls[at - 1]})"
            world = world_of(scenario, tmp_path)
            try:
                world.live(scenario.client, at, after=after)
                world.live(scenario.again, 3 + at * 5 % 11, after=not after)  # dies again while it recovers
                world.live(scenario.again)
                asyncio.run(look(world, where, scenario))
            except BaseException as error:
                error.add_note(where)
                raise


@pytest.mark.parametrize("name", ["chain", "map", "cancel"])
def test_death_at_some_store_calls_on_sqlite(name: str, tmp_path: Path) -> None:
    scenario = SCENARIOS[name]

    def fresh(number: int) -> World:
        folder = tmp_path / str(number)
        world = world_of(scenario, folder)
        world.open_handle = lambda: SqliteStore(f"sqlite:///{folder}/headrace.db", clock=world.clock)
        world.peeks = False
        return world

    calls = fresh(0).live(scenario.client).names
    for at in range(1, len(calls) + 1, 3):
        for after in (False, True):
            where = f"{name}, died {'after' if after else 'before'} call {at} ({calls[at - 1]})"
            world = fresh(2 * at + after)
            try:
                world.live(scenario.client, at, after=after)
                world.live(scenario.again)
                asyncio.run(look(world, where, scenario))
            except BaseException as error:
                error.add_note(where)
                raise
