"""Wishes in memory: see :mod:`headrace.contracts.wishes`.

A mix-in of :class:`headrace.backends.stores.memory.MemoryStore`; every method holds the database's lock throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headrace.contracts.wishes import Wish, Wished
from headrace.core.ids import NodeId, RunId

if TYPE_CHECKING:
    from headrace.backends.stores.memory import MemoryDatabase


class MemoryWishes:
    """The methods of :class:`headrace.contracts.wishes.Wishes`."""

    database: MemoryDatabase

    async def wish(self, node: NodeId, run_ids: Sequence[RunId], changes: Sequence[RunId] = ()) -> list[Wished]:
        """See the contract."""
        base = self.database
        with base.lock:
            found = [run for run_id in dict.fromkeys(run_ids) if (run := base.runs.get(run_id)) is not None]
            for run in found:
                if run.ended_at is None:
                    wanted = run.run_id in changes
                    base.wishes[run.run_id, node] = base.wishes.get((run.run_id, node), False) or wanted
            return [Wished(run.run_id, run.ended_at is not None, run.owner) for run in found]

    async def wishes(self, node: NodeId, run_ids: Sequence[RunId] | None = None) -> list[Wish]:
        """See the contract."""
        base = self.database
        asked = None if run_ids is None else set(run_ids)
        found: list[Wish] = []
        with base.lock:
            for (run_id, who), changes in base.wishes.items():
                run = base.runs.get(run_id)
                wish = Wish(
                    run_id,
                    who,
                    base.nodes[who].bell if base.is_live(who) else None,
                    changes,
                    run is None or run.ended_at is not None,
                )
                is_due = wish.ended or wish.bell is None or (run is not None and run.owner == node)
                if is_due if asked is None else run_id in asked:
                    found.append(wish)
        return found

    async def forget_wishes(self, wishes: Sequence[tuple[RunId, NodeId]]) -> None:
        """See the contract."""
        with self.database.lock:
            for wish in wishes:
                self.database.wishes.pop(wish, None)
