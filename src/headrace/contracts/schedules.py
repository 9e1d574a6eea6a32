"""Schedules in a store: the documents, when each has to be looked at next, and the transaction in which one fires.

What a document says is :mod:`headrace.core.schedules`' business; the store compares revisions. Every change names the
revision that it was made from, so of two who change a schedule at once, or fire it, the second is told and looks again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from headrace.contracts.locks import Term

if TYPE_CHECKING:
    from headrace.contracts.store import Flush


class ScheduleRow(msgspec.Struct, frozen=True):
    """One schedule. ``revision`` rises by one with every change, from 1. ``wake_at``: when the leader is to look at it,
    in seconds since the epoch; None: not before it is changed. ``data``: UTF-8 text."""

    name: str
    revision: int
    wake_at: float | None
    data: bytes


class Due(msgspec.Struct, frozen=True):
    """What is due: ``rows``, by the time they have been due since; ``next_at``: the earliest ``wake_at`` of all the
    others, or None; ``now``: the database's clock, by which it was judged."""

    rows: list[ScheduleRow]
    next_at: float | None
    now: float


class Firing(msgspec.Struct, frozen=True):
    """One decision of the leader: the schedule as it is from then on (``row.revision`` is one more than that which the
    decision was made from), and the ``flush`` that makes the run which it starts, if any; such a run is owned by
    nobody."""

    row: ScheduleRow
    flush: Flush
    term: Term | None


class Schedules(Protocol):
    """Who fires when, durably."""

    async def schedules(self, after: str = "", limit: int = 1000) -> list[ScheduleRow]:
        """Schedules by name (compared byte by byte), those whose name is greater than ``after``."""
        ...

    async def schedule(self, name: str) -> ScheduleRow | None:
        """One by its name."""
        ...

    async def due_schedules(self, limit: int = 100) -> Due:
        """Those whose ``wake_at`` is not after the database's clock, up to ``limit``."""
        ...

    async def put_schedule(self, row: ScheduleRow) -> bool:
        """Add (revision 1) or change a schedule that has the revision before the row's; False if there is one already, or
        none, or another revision: nothing was changed then. Durable on return."""
        ...

    async def remove_schedule(self, name: str) -> bool:
        """Remove it, whatever its revision; False if there is none. Its runs go on."""
        ...

    async def fire(self, firing: Firing) -> bool:
        """Store a decision of the leader and the run that it starts, in one transaction; on return both survive power
        loss.

        Checks in the same transaction that the flush's node holds its epoch (:class:`Fenced`), that the term is not over
        (:class:`NotLeader`), and that the schedule has the revision before the row's: False otherwise, and nothing was
        stored. An answer that was lost needs no care: whoever reads the schedule again sees what became of it. Raises
        :class:`HistoryConflict` if there is a run of that id already."""
        ...
