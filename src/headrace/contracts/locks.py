"""Locks between processes, each with a number that rises when the right changes hands; a leader is who holds one of them.

A lock is held under a *token*. Tokens rise: whoever gets a lock later has a higher one, so that a system which remembers
the highest token it has seen can refuse a holder that does not know yet that it lost the lock. Source: Chubby's
sequencers (Burrows 2006), and Kleppmann's "How to do distributed locking" (2016) on why expiry alone protects nothing.

A lock is free when its holder released it, when its time is over without a renewal, or when its node is gone: its lease
has ended or was taken, or its process is known to be dead. All of this is judged by the clock of whoever keeps the
locks. A keeper beside the store (etcd) does not know the nodes' leases: there the lock's own time decides alone, and
nobody is :class:`Fenced`. Who holds a lock judges itself by the monotonic clock, counted from before the last renewal,
and stops earlier.

The leader of a cluster is the node that holds the lock :data:`LEADER`; its token is the *term*. What a leader does to
the store is checked against the term in the same transaction (:class:`Term`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from headrace.core.ids import Epoch, NodeId

LEADER = "headrace.leader"
"""The lock whose holder leads. Names that begin with ``headrace.`` are not for users."""

RESERVED = "headrace."

NAME_CHARS_MAX = 200
"""The longest name of a lock."""

TTL_SECONDS_MIN = 1.0
TTL_SECONDS_MAX = 24 * 3600.0

PLACE_SECONDS = 10.0
"""A place in the queue is lost when whoever waits has not asked again for this long: it must not hold up the others."""

STORE = "store"
"""The :attr:`Term.authority` of terms that the store itself gives."""


class Term(msgspec.Struct, frozen=True):
    """Under which right a leader acts. ``number`` rises with every leader that ``authority`` appoints."""

    number: int
    authority: str = STORE


class LockClaim(msgspec.Struct, frozen=True, kw_only=True):
    """Who wants a lock. ``holder`` is new for every acquisition: two tasks of one node are two holders. ``node`` and
    ``epoch`` are whose lease the lock depends on. ``ttl_seconds``: how long it is held without a renewal. ``queue``: get
    in line if it is not free; without, only ask. ``wait_seconds``: how long the answer may wait for our turn to come; a
    store answers at once, a server may not."""

    name: str
    holder: str
    node: NodeId
    epoch: Epoch
    ttl_seconds: float
    queue: bool = True
    wait_seconds: float = 0.0


class LockTurn(msgspec.Struct, frozen=True):
    """The answer to a claim. ``token`` is 0 as long as the lock is not yours; then ``node`` has it ("" for nobody: it is
    somebody else's turn), ``ahead`` wait before you, and ``frees_in_seconds`` is when it falls free at the latest unless
    it is renewed."""

    token: int
    node: str = ""
    ahead: int = 0
    frees_in_seconds: float = 0.0


class LockRenewal(msgspec.Struct, frozen=True):
    """A lock that its holder wants to keep."""

    name: str
    holder: str
    token: int
    ttl_seconds: float


class LockRow(msgspec.Struct, frozen=True):
    """A lock that is held. ``expires_at`` and ``taken_at`` are seconds since the epoch by the keeper's clock;
    ``waiting`` is how many stand in line."""

    name: str
    token: int
    holder: str
    node: NodeId
    taken_at: float
    expires_at: float
    waiting: int


class Locks(Protocol):
    """Keeps locks. One that is not the store has an attribute ``authority``: the :attr:`Term.authority` of the terms it
    gives, new whenever its tokens may begin anew.

    Coroutines are safe to cancel: a cancelled claim may have been granted, and is taken back by :meth:`release_lock`."""

    async def take_lock(self, claim: LockClaim) -> LockTurn:
        """Take the lock if it is free and nobody is before us in the line, else take or keep our place in the line.

        Whoever waits asks again, at least every few seconds (see :data:`PLACE_SECONDS`). First come, first served, as
        far as those who wait are alive. Idempotent by ``holder``: who has the lock gets the same token again, and its
        time begins anew. Raises :class:`Fenced` if ``node`` no longer holds ``epoch``."""
        ...

    def renew_locks(self, node: NodeId, epoch: Epoch, renewals: Sequence[LockRenewal]) -> list[bool]:
        """Begin the time of held locks anew; False for each that is lost. Synchronous on purpose: called from a thread
        of its own, so that a blocked event loop costs nobody a lock. Raises :class:`StoreUnavailable`."""
        ...

    async def release_lock(self, name: str, holder: str) -> str:
        """Give a lock or a place in the line up. Idempotent; does nothing to others. Returns the bell of the node that
        is next, or ''."""
        ...

    async def locks(self) -> list[LockRow]:
        """The locks that are held, by name, that of the leader among them."""
        ...


__all__ = [
    "LEADER",
    "NAME_CHARS_MAX",
    "PLACE_SECONDS",
    "RESERVED",
    "STORE",
    "TTL_SECONDS_MAX",
    "TTL_SECONDS_MIN",
    "LockClaim",
    "LockRenewal",
    "LockRow",
    "LockTurn",
    "Locks",
    "Term",
]
