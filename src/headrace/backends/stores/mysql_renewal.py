"""Renews leases over a connection of its own, on a thread and an event loop of its own: neither the engine's loop nor a
pool that is busy with other calls costs a healthy node its lease."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TypeVar

from headrace.backends.stores.mysql_connections import Connection, connect
from headrace.backends.stores.mysql_errors import DRIVER_ERRORS, translated
from headrace.backends.stores.mysql_text import placed
from headrace.backends.stores.mysql_url import Place
from headrace.core.errors import StoreError, StoreUnavailable
from headrace.core.ids import Epoch, NodeId

T = TypeVar("T")

_GRACE_SECONDS = 1.0

_RENEW = """UPDATE leases SET expires_at = (SELECT seconds FROM clock) + ? WHERE node = ? AND epoch = ?;
SELECT EXISTS (SELECT 1 FROM leases WHERE node = ? AND epoch = ?)"""


class Renewal:
    """One connection for renewals; made when first needed. Callable from any thread."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._connection: Connection | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._turn = threading.Lock()

    def renew(self, node: NodeId, epoch: Epoch, lease_seconds: float) -> bool:
        """Extend a lease; False if it is not held. Waits at most a third of the lease. Raises Headrace's errors."""

        async def work(connection: Connection) -> bool:
            # Found, not changed: two renewals within one tick of the clock change nothing the second time.
            text = placed(_RENEW, (lease_seconds, node, epoch, node, epoch))
            return (await connection.run(text))[-1].rows[0][0] == 1

        return self.call(work, lease_seconds / 3)

    def call(self, work: Callable[[Connection], Awaitable[T]], patience: float) -> T:
        """Do something else over the same connection, one after the other. Waits at most ``patience`` seconds. Raises
        Headrace's errors."""
        with self._turn:
            future = asyncio.run_coroutine_threadsafe(self._call(work, patience), self._running())
            try:
                return future.result(patience + _GRACE_SECONDS)
            except FutureTimeout:
                future.cancel()
                raise StoreUnavailable(f"the database {self._place.shown} did not answer in time") from None

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="headrace-mysql-lease", daemon=True)
            self._thread.start()
        return self._loop

    async def _call(self, work: Callable[[Connection], Awaitable[T]], patience: float) -> T:
        try:
            async with asyncio.timeout(patience):
                if self._connection is None or self._connection.is_closed():
                    self._connection = await connect(self._place)
                return await work(self._connection)
        except DRIVER_ERRORS as error:
            self._drop()
            raise translated(error, self._place.shown) from error
        except (RuntimeError, ValueError) as error:  # of the driver: how to log in
            self._drop()
            raise StoreError(f"cannot log in at {self._place.shown} ({error})") from error
        except asyncio.CancelledError:
            self._drop()
            raise

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def close(self) -> None:
        """Close the connection and end the thread. Idempotent; blocks shortly."""
        with self._turn:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
            if loop is None or thread is None:
                return
            asyncio.run_coroutine_threadsafe(self._hang_up(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
