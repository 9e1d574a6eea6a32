"""Locks for workers without database access: each is taken in the worker's name, and depends on the worker's lease.

Nothing is remembered here but who waits, to ask again for them when the node's bell rings.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from headrace.contracts import remote as wire
from headrace.contracts.locks import RESERVED, LockClaim, LockRenewal
from headrace.core.errors import ServerUnavailable
from headrace.core.ids import NodeId
from headrace.server.desk import WAITING_MAX, BadRequest

if TYPE_CHECKING:
    from headrace.engine.node import Node

POLL_SECONDS = 0.5
"""How often is asked for those who wait: the bell may ring at another node."""


class LockDesk:
    """One node's."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._waiting: set[asyncio.Event] = set()
        self._closed = False
        node.waker.on_lock = self._wake

    def close(self) -> None:
        """Send everybody who waits away. Idempotent."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        for waiting in self._waiting:
            waiting.set()

    async def take(self, asked: wire.AskTakeLock) -> wire.LockTaken:
        """See :meth:`headrace.contracts.locks.Locks.take_lock`; waits for the worker's turn for a while."""
        if asked.name.startswith(RESERVED):
            raise BadRequest(f"{asked.name!r}: names that begin with {RESERVED!r} are Headrace's own")
        if len(self._waiting) >= WAITING_MAX:
            raise ServerUnavailable(f"{WAITING_MAX:,} wait for locks here already")
        claim = LockClaim(
            name=asked.name,
            holder=_holder(asked.worker, asked.holder),
            node=NodeId(asked.worker),
            epoch=asked.epoch,
            ttl_seconds=asked.ttl_seconds,
            queue=asked.queue,
        )
        until = time.monotonic() + min(asked.wait_seconds, wire.LOCK_WAIT_SECONDS_MAX)
        rung = asyncio.Event()
        self._waiting.add(rung)
        try:
            while True:
                rung.clear()
                turn = await self._node.locks.take_lock(claim)
                left = until - time.monotonic()
                if turn.token or left <= 0 or not asked.queue or self._closed:
                    return wire.LockTaken(
                        token=turn.token,
                        node=turn.node,
                        ahead=turn.ahead,
                        frees_in_seconds=turn.frees_in_seconds,
                    )
                try:
                    async with asyncio.timeout(min(left, POLL_SECONDS)):
                        await rung.wait()
                except TimeoutError:
                    pass
        finally:
            self._waiting.discard(rung)

    async def renew(self, asked: wire.AskRenewLocks) -> wire.LocksRenewed:
        """See :meth:`headrace.contracts.locks.Locks.renew_locks`."""
        renewals = [
            LockRenewal(one.name, _holder(asked.worker, one.holder), one.token, asked.ttl_seconds)
            for one in asked.locks
        ]
        kept = await asyncio.to_thread(self._node.locks.renew_locks, NodeId(asked.worker), asked.epoch, renewals)
        return wire.LocksRenewed(kept=kept)

    async def release(self, asked: wire.AskReleaseLock) -> wire.Nothing:
        """See :meth:`headrace.contracts.locks.Locks.release_lock`; rings whoever is next."""
        bell = await self._node.locks.release_lock(asked.name, _holder(asked.worker, asked.holder))
        if bell:
            self._node.lock_freed(bell)
            self._node.locker.wake()
        return wire.Nothing()


def _holder(worker: str, holder: str) -> str:
    """Of that worker alone: nobody gives back what another one has."""
    return f"{worker}/{holder}"
