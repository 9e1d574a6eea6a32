"""Engines with schedules on one database in memory, whose clock moves when told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from headrace import Headrace
from headrace.backends.stores.memory import MemoryDatabase, MemoryStore
from headrace.contracts.store import RunRow, Store
from headrace.engine.schedule_runs import TIME_TAG

BEGIN = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
WAIT_SECONDS_MAX = 30.0


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while not condition():
            await asyncio.sleep(0.001)


class Clock:
    """Shows what it was told to."""

    def __init__(self) -> None:
        self.now = BEGIN

    def __call__(self) -> float:
        return self.now


class World:
    """The database and the engines on it."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.database = MemoryDatabase(self.clock)
        self.nodes: list[Headrace] = []
        self._folder = folder
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.__aexit__(None, None, None)

    async def node(self, name: str, *, store: Store | None = None, **options: Any) -> Headrace:
        """An engine. No lease ends by itself."""
        options = {"now": self.clock, "lease_seconds": 9e9, **options}
        hr = Headrace(store or MemoryStore(self.database), node=name, data_dir=self._folder / "files", **options)
        await self._stack.enter_async_context(hr)
        self.nodes.append(hr)
        return hr

    async def advance(self, seconds: float) -> None:
        """Let time pass, and everything happen that is due then."""
        self.clock.now += seconds
        await self.settle()

    async def settle(self) -> None:
        """Have the leader look, until nothing is due and no run goes on that could end by itself."""
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while True:
                for hr in self.nodes:
                    hr._node.scheduler.wake()
                await asyncio.sleep(0.002)
                due = await MemoryStore(self.database).due_schedules()
                leaders = [hr._node for hr in self.nodes if hr._node.leader.term() is not None]
                put_off = leaders[0].scheduler._put_off if leaders else {}
                if not leaders or all(row.name in put_off for row in due.rows):
                    return

    def runs(self, **tags: str) -> list[RunRow]:
        rows = [run for run in self.database.runs.values() if all(run.tags.get(k) == v for k, v in tags.items())]
        return sorted(rows, key=lambda run: run.run_id)

    def ended(self) -> int:
        """How many runs have succeeded, if none goes on; else 0."""
        runs = self.runs()
        return len(runs) if all(run.state == "succeeded" for run in runs) else 0

    def fire_times(self, name: str) -> Counter[float]:
        """How many runs each fire time has started, in seconds since the beginning."""
        return Counter(
            datetime.fromisoformat(run.tags[TIME_TAG]).timestamp() - BEGIN for run in self.runs(schedule=name)
        )


__all__ = ["BEGIN", "DAY", "HOUR", "MINUTE", "Clock", "World", "until"]
