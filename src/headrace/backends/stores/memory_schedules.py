"""Schedules in memory: see :mod:`headrace.contracts.schedules`.

A mix-in of :class:`headrace.backends.stores.memory.MemoryStore`; every method holds the database's lock throughout.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from headrace.contracts.schedules import Due, Firing, ScheduleRow

if TYPE_CHECKING:
    from headrace.backends.stores.memory import MemoryDatabase
    from headrace.contracts.store import Flush


class MemorySchedules:
    """The methods of :class:`headrace.contracts.schedules.Schedules`."""

    database: MemoryDatabase

    def commit_now(self, flush: Flush) -> bool:
        """See :class:`headrace.contracts.store.History`."""
        raise NotImplementedError

    async def schedules(self, after: str = "", limit: int = 1000) -> list[ScheduleRow]:
        """See the contract."""
        base = self.database
        with base.lock:
            names = heapq.nsmallest(max(limit, 0), (name for name in base.schedules if name > after), key=str.encode)
            return [base.schedules[name] for name in names]

    async def schedule(self, name: str) -> ScheduleRow | None:
        """See the contract."""
        return self.database.schedules.get(name)

    async def due_schedules(self, limit: int = 100) -> Due:
        """See the contract."""
        base = self.database
        with base.lock:
            now = base.clock()
            waking = sorted((row.wake_at, name) for name, row in base.schedules.items() if row.wake_at is not None)
        due = [base.schedules[name] for at, name in waking if at <= now]
        return Due(due[: max(limit, 0)], next((at for at, _ in waking if at > now), None), now)

    def _follows(self, row: ScheduleRow) -> bool:
        known = self.database.schedules.get(row.name)
        return row.revision == (1 if known is None else known.revision + 1)

    async def put_schedule(self, row: ScheduleRow) -> bool:
        """See the contract."""
        base = self.database
        with base.lock:
            if not self._follows(row):
                return False
            base.schedules[row.name] = row
            return True

    async def remove_schedule(self, name: str) -> bool:
        """See the contract."""
        with self.database.lock:
            return self.database.schedules.pop(name, None) is not None

    async def fire(self, firing: Firing) -> bool:
        """See the contract."""
        base = self.database
        with base.lock:
            base.check_fence(firing.flush.node, firing.flush.epoch)
            base.named_locks.check_term(firing.term)
            if firing.row.name not in base.schedules or not self._follows(firing.row):
                return False
            self.commit_now(firing.flush)
            base.schedules[firing.row.name] = firing.row
            return True
