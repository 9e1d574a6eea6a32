"""Renews leases over a connection of its own, on a thread and an event loop of its own: neither the engine's loop nor a
pool that is busy with other calls costs a healthy node its lease."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Generic, TypeVar

from headrace.backends.stores.database_pool import C, Driver
from headrace.core.errors import StoreUnavailable

T = TypeVar("T")

_GRACE_SECONDS = 1.0


class LeaseLine(Generic[C]):
    """One connection for renewals; made when first needed. Callable from any thread."""

    def __init__(self, driver: Driver[C]) -> None:
        self._driver = driver
        self._connection: C | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._turn = threading.Lock()

    def call(self, work: Callable[[C], Awaitable[T]], patience: float) -> T:
        """Do something else over the same connection, one after the other. Waits at most ``patience`` seconds. Raises
        Headrace's errors."""
        with self._turn:
            future = asyncio.run_coroutine_threadsafe(self._call(work, patience), self._running())
            try:
                return future.result(patience + _GRACE_SECONDS)
            except FutureTimeout:
                future.cancel()
                raise StoreUnavailable(f"the database {self._driver.shown} did not answer in time") from None

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="headrace-lease-line", daemon=True)
            self._thread.start()
        return self._loop

    async def _call(self, work: Callable[[C], Awaitable[T]], patience: float) -> T:
        try:
            async with asyncio.timeout(patience):
                if self._connection is None or self._connection.is_closed():
                    self._connection = await self._driver.connect()
                return await work(self._connection)
        except self._driver.errors as error:
            self._drop()
            raise self._driver.translated(error) from error
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
            await self._driver.hang_up(connection)
