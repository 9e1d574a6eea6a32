"""Keeps the node's lease, from a thread and a connection of its own: neither a blocked event loop nor user code costs a
healthy node its lease.

The thread also judges itself: by the monotonic clock, counted from *before* the last renewal that succeeded, less a
margin. When that time is over without a renewal, the node is told to stop before the store would let anyone take over.
Source: River's ``internal/leadership`` (the local trust window).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable

from headrace.contracts.store import Leases
from headrace.core.errors import HeadraceError
from headrace.core.ids import Epoch, NodeId

logger = logging.getLogger("headrace.keeper")

RENEWALS_PER_LEASE = 3
MARGIN_SHARE = 0.15
"""Share of the lease by which a node stops itself early."""


class Keeper:
    """Renews one lease until stopped or lost. ``on_lost`` is called on the event loop, once."""

    def __init__(
        self, leases: Leases, node: NodeId, epoch: Epoch, lease_seconds: float, on_lost: Callable[[str], None]
    ) -> None:
        self._leases = leases
        self._node = node
        self._epoch = epoch
        self._lease = lease_seconds
        self._on_lost = on_lost
        self.trusted_until = time.monotonic() + lease_seconds * (1 - MARGIN_SHARE)
        """Until when, by the monotonic clock, nobody else can have taken the lease."""
        self._stop = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._keep, name=f"headrace-keeper-{node}", daemon=True)

    def start(self) -> None:
        """Begin renewing; the lease was just taken."""
        self._thread.start()

    def let_go(self) -> None:
        """Tell the thread to end; it may take a moment. Idempotent; does not give the lease up."""
        self._stop.set()

    async def stop(self) -> None:
        """End the thread. Idempotent; does not give the lease up."""
        self.let_go()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    def _keep(self) -> None:
        interval = self._lease / RENEWALS_PER_LEASE
        wait = interval
        while not self._stop.wait(wait):
            begun = time.monotonic()
            try:
                if not self._leases.renew(self._node, self._epoch, self._lease):
                    self._lost("the lease was taken over")
                    return
                self.trusted_until = begun + self._lease * (1 - MARGIN_SHARE)
                wait = interval
            except HeadraceError as error:
                logger.warning("the lease could not be renewed", extra={"error": str(error)})
                wait = interval / 4
            except Exception:
                logger.exception("the lease could not be renewed")
                wait = interval / 4
            if time.monotonic() >= self.trusted_until:
                self._lost("the lease could not be renewed in time")
                return

    def _lost(self, why: str) -> None:
        if not self._stop.is_set():
            self._loop.call_soon_threadsafe(self._on_lost, why)
