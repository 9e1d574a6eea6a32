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
from typing import Protocol

from headrace.core.errors import HeadraceError
from headrace.core.ids import Epoch, NodeId

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
    """Renews one lease until stopped or lost. ``on_lost`` is called on the event loop, once."""

    def __init__(
        self, leases: Renewing, node: NodeId, epoch: Epoch, lease_seconds: float, on_lost: Callable[[str], None]
    ) -> None:
        self._leases = leases
        self._node = node
        self._epoch = epoch
        self._lease = lease_seconds
        self._on_lost = on_lost
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
        trusted_until = time.monotonic() + self._lease * (1 - MARGIN_SHARE)
        interval = self._lease / RENEWALS_PER_LEASE
        wait = interval
        while not self._stop.wait(wait):
            begun = time.monotonic()
            try:
                if not self._leases.renew(self._node, self._epoch, self._lease):
                    self._lost("the lease was taken over")
                    return
                trusted_until = begun + self._lease * (1 - MARGIN_SHARE)
                wait = interval
            except HeadraceError as error:
                logger.warning("the lease could not be renewed", extra={"error": str(error)})
                wait = interval / 4
            except Exception:
                logger.exception("the lease could not be renewed")
                wait = interval / 4
            if time.monotonic() >= trusted_until:
                self._lost("the lease could not be renewed in time")
                return

    def _lost(self, why: str) -> None:
        if not self._stop.is_set():
            self._loop.call_soon_threadsafe(self._on_lost, why)
