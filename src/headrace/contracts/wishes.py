"""Wishes: which nodes want to be told of the end of a run that they do not have.

A node that waits for such a run makes a wish and wakes the run's owner, which reads the wishes for its runs and from
then on wakes those that wait: at the run's end, or at every change. Whoever claims a run reads the wishes for it, too,
so a wish outlives the owners of its run and costs a parked run nothing. A run that nobody waits for has no row, and
nobody asks.

A wish is a hint like the wake-up that it leads to, and need not survive power loss: who waits looks now and then, and
wishes again. What is left over is found by whoever reads wishes (:attr:`Wish.ended`, :attr:`Wish.bell`) and forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from headrace.core.ids import NodeId, RunId


class Wish(msgspec.Struct, frozen=True):
    """A node's wish. ``bell`` wakes the node; None if it lives no more. ``changes``: it wants to be told of every change
    of the run, not of its end alone. ``ended``: the run has ended, or is gone: the wish is due, and to be forgotten."""

    run_id: RunId
    node: NodeId
    bell: str | None
    changes: bool
    ended: bool


class Wished(msgspec.Struct, frozen=True):
    """A run that a node waits for, as it was after all others could see the wish. ``owner``: the node that has the run,
    living or not; None if nobody has."""

    run_id: RunId
    ended: bool
    owner: NodeId | None = None


class Wishes(Protocol):
    """Who waits for whose runs. Nothing here checks an epoch: a wish changes no run."""

    async def wish(self, node: NodeId, run_ids: Sequence[RunId], changes: Sequence[RunId] = ()) -> list[Wished]:
        """Wish to be told of the ends of runs, and of all changes of those that are in ``changes`` as well. Idempotent; a
        wish for changes stays one. None is kept for runs that have ended. Returns what became of the runs, in any order,
        read after the wishes were committed: whoever claims a run later finds the wish. Unknown runs are left out."""
        ...

    async def wishes(self, node: NodeId, run_ids: Sequence[RunId] | None = None) -> list[Wish]:
        """The wishes for ``run_ids``; or, by default, for all runs that ``node`` owns, and all that are to be forgotten:
        for runs that have ended or are gone, and of nodes that live no more."""
        ...

    async def forget_wishes(self, wishes: Sequence[tuple[RunId, NodeId]]) -> None:
        """Remove wishes. Idempotent."""
        ...
