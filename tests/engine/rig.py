"""Real nodes for tests: real stores, real artifacts, and task functions that a test gives by task id."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from headrace.backends.artifacts.files import FileArtifacts
from headrace.backends.stores.memory import MemoryDatabase, MemoryStore
from headrace.contracts.execution import Attempt
from headrace.contracts.store import Store
from headrace.core.codec import decode_event
from headrace.core.events import Event
from headrace.core.fold import fold
from headrace.core.ids import RunId
from headrace.core.invariants import check
from headrace.core.plan import Plan
from headrace.core.run import GraphRun
from headrace.core.spec import WorkflowSpec, decode_spec
from headrace.engine.adopter import read_run
from headrace.engine.live import Binding, LiveRun
from headrace.engine.node import Node
from headrace.engine.options import NodeOptions

Function = Callable[[Attempt], Awaitable[Any]]

WAIT_SECONDS_MAX = 80.0
"""No test waits longer for anything; it is a failure then, never a way to pass."""


class Clock:
    """A wall clock that can be moved."""

    def __init__(self) -> None:
        self.offset = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset


class Work:
    """What tasks do, by task id; others return their argument ``value``. Keeps a ledger of what was begun and done."""

    def __init__(self, **functions: Function) -> None:
        self.functions: dict[str, Function] = functions
        self.begun: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.order: list[str] = []
        self.under_way: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        """The most attempts of a task that were under way at once; "" is all tasks."""

    async def run(self, attempt: Attempt) -> Any:
        name = unit_name(attempt)
        self.begun[name] += 1
        self.order.append(name)
        for key in (attempt.task, ""):
            self.under_way[key] += 1
            self.most[key] = max(self.most[key], self.under_way[key])
        try:
            function = self.functions.get(attempt.task)
            value = attempt.args.get("value") if function is None else await function(attempt)
            self.done[name] += 1
            return value
        finally:
            self.under_way[attempt.task] -= 1
            self.under_way[""] -= 1


def unit_name(attempt: Attempt) -> str:
    return attempt.task if attempt.item is None else f"{attempt.task}[{attempt.item}]"


class _Bound:
    def __init__(self, executor: str, run: Function) -> None:
        self.executor = executor
        self.run = run


class _Context:
    def finish(self, attempt: Attempt) -> None:
        """Nothing was opened for the attempt."""


def binder(work: Work) -> Callable[[Plan, str | None], Binding]:
    """Binds every task to ``work``; a task's ``executor`` names the gate it passes."""

    def bind(plan: Plan, source_dir: str | None) -> Binding:
        return Binding([_Bound(node.spec.executor or "inline", work.run) for node in plan.nodes], _Context())

    return bind


class Rig:
    """One database and the nodes that were started on it."""

    def __init__(self, folder: Path, open_handle: Callable[[], Store], clock: Clock) -> None:
        self.artifacts = FileArtifacts(folder / "artifacts")
        self.open_handle = open_handle
        self.clock = clock
        self.nodes: list[Node] = []

    async def node(
        self, work: Work | None = None, *, store: Store | None = None, bind: Any = None, **options: Any
    ) -> Node:
        """A started node on a handle of its own."""
        node = self.build(work, store=store, bind=bind, **options)
        await node.start()
        return node

    def build(self, work: Work | None = None, *, store: Store | None = None, bind: Any = None, **options: Any) -> Node:
        """A node that has not been started."""
        node = Node(
            store or self.open_handle(),
            self.artifacts,
            bind or binder(work or Work()),
            NodeOptions(**{"stop_seconds": 2.0, "lease_seconds": 30.0, **options}),
            now=self.clock,
        )
        self.nodes.append(node)
        return node

    async def close(self) -> None:
        """Stop every node."""
        for node in self.nodes:
            with contextlib.suppress(Exception):
                await node.stop()


@contextlib.asynccontextmanager
async def memory_rig(folder: Path) -> AsyncIterator[Rig]:
    """A rig on a memory database."""
    clock = Clock()
    database = MemoryDatabase(clock)
    rig = Rig(folder, lambda: MemoryStore(database), clock)
    try:
        yield rig
    finally:
        await rig.close()


async def start(node: Node, spec: WorkflowSpec, params: Mapping[str, Any] | None = None) -> LiveRun:
    """Register and run; durable on return."""
    version = await node.library.register(spec, now=node.now())
    return await node.starter.create_run(version, dict(params or {}))


async def ended(live: LiveRun) -> GraphRun:
    """Wait for a run's end on its node."""
    await within(live.until_closed())
    assert live.done, f"the node let go of the run: {live.error}"
    return live.run


async def final(node: Node, run_id: RunId) -> GraphRun:
    """Wait for the end of a run that any node may own, and fold its history."""
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while True:
            live = node.live.get(run_id)
            if live is not None and not live.closed:
                await live.until_closed()
            row = await node.store.run(run_id)
            assert row is not None
            if row.ended_at is not None:
                return await read_run(node, run_id)
            await asyncio.sleep(0.01)  # another node's run: there is nothing here to await


async def within(awaitable: Awaitable[Any], seconds: float = WAIT_SECONDS_MAX) -> Any:
    """Await with a bound."""
    async with asyncio.timeout(seconds):
        return await awaitable


async def until(condition: Callable[[], Any], seconds: float = WAIT_SECONDS_MAX) -> None:
    """Let the loop turn until a condition holds; for what no event tells."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


async def turns(count: int = 50) -> None:
    """Let everything that can happen without waiting happen."""
    for _ in range(count):
        await asyncio.sleep(0)


async def events_of(store: Store, run_id: RunId) -> list[Event]:
    """A run's stored history."""
    return [decode_event(data) for _, data in await store.history(run_id)]


async def folded(store: Store, run_id: RunId) -> GraphRun:
    """A run as its stored history tells, every step checked."""
    events = await events_of(store, run_id)
    row = await store.workflow(events[0].version)  # type: ignore[union-attr]
    assert row is not None
    run = GraphRun(Plan(decode_spec(row.data), row.version))
    for event in events:
        fold(run, event)
        check(run)
    return run


def states(run: GraphRun) -> dict[str, str]:
    """Unit names to states."""
    return {unit.name: str(unit.state) for unit in run.units()}


def play(test: Coroutine[Any, Any, None], seconds: float = 100.0) -> None:
    """Run a test's coroutine with a bound."""

    async def bounded() -> None:
        async with asyncio.timeout(seconds):
            await test

    asyncio.run(bounded())
