"""The locks that this node holds, kept by the thread that keeps its lease.

A lock is trusted by the monotonic clock, counted from *before* the call that took or renewed it, less a margin: whoever
holds it stops before it would be given to anyone else. The same holds of the node's lease, with which its locks end. What
stops a process that cannot know (it was suspended in between) is the lock's token, which whatever the lock protects can
check. Source: Burrows, "The Chubby lock
service" (2006), and Kleppmann, "How to do distributed locking" (2016).
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable

from headrace.contracts.locks import LockClaim, LockRenewal, Locks, LockTurn
from headrace.core.errors import HeadraceError
from headrace.core.ids import Epoch, NodeId
from headrace.engine.keeper import MARGIN_SHARE

logger = logging.getLogger("headrace.holding")


class Held:
    """One lock that this node has. ``on_lost`` is called on the event loop, at most once, with the reason."""

    def __init__(
        self, claim: LockClaim, token: int, trusted_until: float, on_lost: Callable[[str], None], holding: Holding
    ) -> None:
        self.claim = claim
        self.token = token
        self.trusted_until = trusted_until
        """When this node stops to believe that it has the lock, by its monotonic clock."""
        self.on_lost = on_lost
        self.loop = asyncio.get_running_loop()
        self.ended = False
        """Given back, or lost."""
        self._holding = holding

    @property
    def held_until(self) -> float:
        """Until when the lock is ours for certain unless it is renewed; in the past for one that has ended."""
        return -math.inf if self.ended else min(self.trusted_until, self._holding.lease_until)

    @property
    def is_held(self) -> bool:
        """Whether the lock is still ours, as far as this node can know. Safe from any thread."""
        return self._holding.monotonic() < self.held_until


class Holding:
    """All locks of one node, from ``locks``, each for ``ttl_seconds`` without a renewal."""

    def __init__(self, locks: Locks, ttl_seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.locks = locks
        self.ttl_seconds = ttl_seconds
        self.monotonic = monotonic
        self.lease_until = math.inf
        """When this node stops to believe in its lease: without that, its locks are free. Kept by the keeper."""
        self._held: dict[str, Held] = {}
        self._guard = threading.Lock()

    async def ask(
        self,
        name: str,
        holder: str,
        node: NodeId,
        epoch: Epoch,
        on_lost: Callable[[str], None],
        *,
        queue: bool,
        wait_seconds: float = 0.0,
    ) -> Held | LockTurn:
        """Claim a lock: what is held from now on, or the answer of who has it. Raises :class:`Fenced` and what the keeper
        of the locks raises; after that, and if it is cancelled, the lock may be ours: see :meth:`release`."""
        claim = LockClaim(
            name=name,
            holder=holder,
            node=node,
            epoch=epoch,
            ttl_seconds=self.ttl_seconds,
            queue=queue,
            wait_seconds=wait_seconds,
        )
        begun = self.monotonic()
        turn = await self.locks.take_lock(claim)
        if not turn.token:
            return turn
        held = Held(claim, turn.token, begun + self.ttl_seconds * (1 - MARGIN_SHARE), on_lost, self)
        with self._guard:
            self._held[holder] = held
        return held

    async def release(self, name: str, holder: str) -> str:
        """Give a lock or a place in the line back; the bell of the node that is next, or ''."""
        self.forget(holder)
        return await self.locks.release_lock(name, holder)

    def forget(self, holder: str) -> None:
        """Renew it no more. Idempotent."""
        with self._guard:
            held = self._held.pop(holder, None)
        if held is not None:
            held.ended = True

    def renew(self, node: NodeId, epoch: Epoch) -> None:
        """Begin the time of everything that is held anew. Called from the keeper's thread; raises nothing."""
        with self._guard:
            held = [one for one in self._held.values() if one.claim.epoch == epoch]
        if held:
            renewals = [LockRenewal(one.claim.name, one.claim.holder, one.token, self.ttl_seconds) for one in held]
            begun = self.monotonic()
            try:
                kept = self.locks.renew_locks(node, epoch, renewals)
            except HeadraceError as error:
                logger.warning("locks could not be renewed", extra={"error": str(error)})
            except Exception:
                logger.exception("locks could not be renewed")
            else:
                for one, is_kept in zip(held, kept, strict=True):
                    if is_kept:
                        one.trusted_until = begun + self.ttl_seconds * (1 - MARGIN_SHARE)
                    else:
                        self._tell(one, "another one may have it by now")
        self.judge()

    def judge(self) -> None:
        """Lose what could not be renewed in time. Called from the keeper's thread."""
        with self._guard:
            late = [one for one in self._held.values() if not one.is_held]
        for one in late:
            self._tell(one, "it could not be renewed in time")

    def lose_all(self, why: str) -> None:
        """The node lost its lease, and with it every lock. On the event loop."""
        with self._guard:
            held = list(self._held.values())
        for one in held:
            self._lose(one, why)

    def _tell(self, held: Held, why: str) -> None:
        try:
            held.loop.call_soon_threadsafe(self._lose, held, why)
        except RuntimeError:  # the loop was closed: nobody is left who relies on it
            self.forget(held.claim.holder)

    def _lose(self, held: Held, why: str) -> None:
        if not held.ended:
            self.forget(held.claim.holder)
            held.ended = True
            held.on_lost(why)
