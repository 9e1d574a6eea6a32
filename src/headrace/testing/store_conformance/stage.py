"""What the scenarios are written with: handles that close themselves, nodes, and short ways to write runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from headrace.contracts.store import Flush, RunRow, RunUpdate, Store, WorkflowRow
from headrace.core.ids import Epoch, NodeId, RunId, WorkflowVersion

SCENARIO_SECONDS_MAX = 60.0
"""A scenario that takes longer has failed."""

S = TypeVar("S")


class StoreHarness(Protocol):
    """What a store under test provides, as the pytest fixture ``harness``: a fresh database for every test."""

    def handle(self) -> Store:
        """A new handle on the same database, not yet opened; several are open at once, as by several nodes."""
        ...

    async def advance(self, seconds: float) -> None:
        """Let that much time pass on the database's clock: move a clock made for tests, or really wait."""
        ...


class Stage:
    """One scenario's database and everything opened on it."""

    def __init__(self, harness: StoreHarness) -> None:
        self._harness = harness
        self._handles: list[Store] = []

    async def store(self) -> Store:
        """A new opened handle."""
        store = self._harness.handle()
        self._handles.append(store)
        await store.open()
        return store

    async def node(
        self, name: str = "a", *, lease_seconds: float = 60.0, bell: str = "", store: Store | None = None
    ) -> Node:
        """A node that has joined, on a handle of its own unless one is given."""
        store = store or await self.store()
        epoch = await store.join(NodeId(name), lease_seconds, bell, {"pid": 1})
        return Node(store, NodeId(name), epoch)

    async def advance(self, seconds: float) -> None:
        """Let time pass."""
        await self._harness.advance(seconds)

    async def close(self) -> None:
        """Close every handle."""
        for store in self._handles:
            await store.close()


class Node:
    """A joined node and the writes it makes."""

    def __init__(self, store: Store, name: NodeId, epoch: Epoch) -> None:
        self.store = store
        self.name = name
        self.epoch = epoch

    def flush(
        self,
        events: Sequence[tuple[RunId, int, bytes]] = (),
        *,
        new_runs: Sequence[RunRow] = (),
        updates: Sequence[RunUpdate] = (),
        inbox_done: Sequence[int] = (),
    ) -> Flush:
        """A flush of this node under its epoch."""
        return Flush(self.name, self.epoch, list(events), list(new_runs), list(updates), list(inbox_done))

    async def commit(self, events: Sequence[tuple[RunId, int, bytes]] = (), **more: Any) -> None:
        """Commit a flush of the given parts."""
        await self.store.commit(self.flush(events, **more))

    async def start(self, *rows: RunRow) -> None:
        """Create runs, each with its first event, owned by this node."""
        mine = [msgspec.structs.replace(row, owner=self.name, last_seq=1) for row in rows]
        await self.commit([event(row.run_id, 1) for row in mine], new_runs=mine)

    async def go_on(self, run_id: RunId, seq: int, *, inbox_done: Sequence[int] = (), **fields: Any) -> None:
        """Append one event with its update."""
        await self.commit([event(run_id, seq)], updates=[update(run_id, seq, **fields)], inbox_done=inbox_done)

    async def finish(self, run_id: RunId, seq: int = 2, *, ended_at: float = 100.0, state: str = "succeeded") -> None:
        """End a run and give it up."""
        await self.go_on(run_id, seq, state=state, ended_at=ended_at, release=True)

    async def park(self, run_id: RunId, seq: int = 2, *, wake_at: float | None = None) -> None:
        """Give a waiting run up."""
        await self.go_on(run_id, seq, wake_at=wake_at, release=True)

    async def claim(self, limit: int = 100, run_ids: Sequence[RunId] | None = None) -> list[RunId]:
        """Claim runs."""
        return await self.store.claim(self.name, self.epoch, limit, run_ids)


def run_id(number: int) -> RunId:
    """A run id; a higher number is a newer run."""
    return RunId(f"01HZ{number:022}")


def new_run(number: int, **fields: Any) -> RunRow:
    """The row of a new run."""
    defaults: dict[str, Any] = {
        "workflow": "nightly",
        "version": "0" * 16,
        "state": "running",
        "created_at": float(number),
    }
    return RunRow(run_id=run_id(number), **(defaults | fields))


def event(run: RunId, seq: int, text: str = "") -> tuple[RunId, int, bytes]:
    """An event; ``text`` makes it another one."""
    return run, seq, msgspec.json.encode({"type": "task.succeeded", "at": float(seq), "task": text or f"task-{seq}"})


def update(run: RunId, seq: int, **fields: Any) -> RunUpdate:
    """An update of a run as of event ``seq``."""
    defaults: dict[str, Any] = {"state": "running", "tasks_total": 3, "tasks_done": seq, "tasks_failed": 0}
    return RunUpdate(run_id=run, last_seq=seq, **(defaults | fields))


def version(name: str, number: int, created_at: float, source: str = "") -> WorkflowRow:
    """A workflow version."""
    data = msgspec.json.encode({"name": name, "number": number})
    return WorkflowRow(WorkflowVersion(f"{name}-{number}"), name, data, source, created_at)


def scenario(test: Callable[[S, Stage], Awaitable[None]]) -> Callable[[S, StoreHarness], None]:
    """Make a coroutine test an ordinary pytest method that takes the ``harness`` fixture, with bounded time and with
    every handle closed at the end."""

    async def bounded(self: S, harness: StoreHarness) -> None:
        stage = Stage(harness)
        try:
            async with asyncio.timeout(SCENARIO_SECONDS_MAX):
                await test(self, stage)
        finally:
            await stage.close()

    # Not functools.wraps: pytest would look through it and see the coroutine's own parameters.
    def run(self: S, harness: StoreHarness) -> None:
        asyncio.run(bounded(self, harness))

    run.__name__, run.__qualname__, run.__doc__ = test.__name__, test.__qualname__, test.__doc__
    return run
