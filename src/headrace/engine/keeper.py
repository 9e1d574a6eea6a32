"""Keeps the node's lease, from a thread and a connection of its own: neither a blocked event loop nor user code costs a
healthy node its lease.

The same thread keeps the locks that the node holds (:mod:`~headrace.engine.holding`), the leader's among them. It also
judges itself: by the monotonic clock, counted from *before* the last renewal that succeeded, less a
margin. When that time is over without a renewal, the node is told to stop before the store would let anyone take over.
Source: River's ``internal/leadership`` (the local trust window).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from headrace.contracts.store import BACK_SECONDS
from headrace.core.errors import HeadraceError
from headrace.core.ids import Epoch, NodeId

if TYPE_CHECKING:
    from headrace.engine.holding import Holding

logger = logging.getLogger("headrace.keeper")

RENEWALS_PER_LEASE = 3
MARGIN_SHARE = 0.15
"""Share of the lease by which a node stops itself early."""


class Renewing(Protocol):
    """Who extends a lease: a store, or a server for a worker that has no store."""

    def renew(self, node: NodeId, epoch: Epoch, lease_seconds: float) -> bool:
        """See :meth:`headrace.contracts.store.Leases.renew`."""
        ...


class Keeper:
    """Renews one lease, and with it the locks that ``holding`` has, if any, until stopped or lost. ``taken_at`` is the
    monotonic time from before the lease was taken. ``on_lost`` is called on the event loop, once."""

    def __init__(
        self,
        leases: Renewing,
        node: NodeId,
        epoch: Epoch,
        lease_seconds: float,
        on_lost: Callable[[str], None],
        *,
        taken_at: float,
        holding: Holding | None = None,
    ) -> None:
        self._leases = leases
        self._node = node
        self._epoch = epoch
        self._lease = lease_seconds
        self._on_lost = on_lost
        self._holding = holding
        self.trusted_until = 0.0
        """Until when, by the monotonic clock, nobody else can have taken the lease."""
        self._trust(taken_at)
        self._stop = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._keep, name=f"headrace-keeper-{node}", daemon=True)

    def start(self) -> None:
        """Begin renewing; the lease was just taken."""
        self._thread.start()

    def let_go(self) -> None:
        """Tell the thread to end; it may take a moment. Idempotent; does not give the lease up."""
        self._stop.set()

    async def stop(self, seconds: float | None = None) -> None:
        """End the thread; waits for it no longer than ``seconds``, None for as long as a renewal may take. Idempotent;
        does not give the lease up."""
        self.let_go()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, seconds)

    def _trust(self, begun: float) -> None:
        self.trusted_until = begun + self._lease * (1 - MARGIN_SHARE)
        if self._holding is not None:
            self._holding.lease_until = self.trusted_until

    def _judge(self) -> None:
        """Not renewed: who keeps the locks may be as slow, and the lease comes first."""
        if self._holding is not None:
            self._holding.judge()

    def _keep(self) -> None:
        wait: float | None = self._lease / RENEWALS_PER_LEASE
        while wait is not None and not self._stop.wait(wait):
            wait = self.round()

    def round(self) -> float | None:
        """Renew once; the seconds until the next time, None if the lease is lost. The thread does nothing else."""
        interval = self._lease / RENEWALS_PER_LEASE
        again = min(interval / 4, BACK_SECONDS)
        begun = time.monotonic()
        try:
            if not self._leases.renew(self._node, self._epoch, self._lease):
                self._lost("the lease was taken over")
                return None
            if self._stop.is_set():  # another keeper may keep another lease by now
                return None
            self._trust(begun)
            if self._holding is not None:
                self._holding.renew(self._node, self._epoch)
            wait = max(begun + interval - time.monotonic(), 0.0)  # in time again, however long this one took
        except HeadraceError as error:
            logger.warning("the lease could not be renewed", extra={"error": str(error)})
            self._judge()
            wait = again
        except Exception:
            logger.exception("the lease could not be renewed")
            self._judge()
            wait = again
        if time.monotonic() >= self.trusted_until:
            self._lost("the lease could not be renewed in time")
            return None
        return wait

    def _lost(self, why: str) -> None:
        if not self._stop.is_set():
            self._loop.call_soon_threadsafe(self._on_lost, why)
