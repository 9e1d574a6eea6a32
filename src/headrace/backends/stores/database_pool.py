"""Connections that mend themselves, for any asynchronous driver. A call gets a connection of its own for as long as it
takes; one that broke is replaced by the next call that needs it, with growing pauses while the server is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from headrace.contracts.store import BACK_SECONDS
from headrace.core.errors import HeadraceError, StoreUnavailable

logger = logging.getLogger("headrace.database")

T = TypeVar("T")

PATIENCE_SECONDS = 5.0
"""How long a call waits for a server that went away, before :class:`StoreUnavailable`."""

CLOSE_SECONDS = 5.0
PAUSES_SECONDS = (0.02, 0.05, 0.1, 0.2, BACK_SECONDS)


class Session(Protocol):
    """One session with the server."""

    def is_closed(self) -> bool:
        """Whether it is of no use any more."""
        ...

    def terminate(self) -> None:
        """Close without waiting for anything."""
        ...


C = TypeVar("C", bound=Session)


class Driver(Protocol[C]):
    """One database behind its driver."""

    shown: str
    """Its address without secrets, for messages."""
    errors: tuple[type[BaseException], ...]
    """What calls of the driver raise."""

    async def connect(self) -> C:
        """A new session, made ready. Raises Headrace's errors."""
        ...

    def is_lost(self, error: BaseException) -> bool:
        """Whether the session that raised this can no longer be used."""
        ...

    def translated(self, error: BaseException) -> HeadraceError:
        """The Headrace error for the driver's."""
        ...

    async def hang_up(self, connection: C) -> None:
        """Say goodbye if the server listens; in any case the session is gone afterwards."""
        ...


class Pool(Generic[C]):
    """Up to ``count`` connections, made when needed, the last used one first."""

    def __init__(self, driver: Driver[C], count: int) -> None:
        self._driver = driver
        self._count = count
        self._idle: asyncio.LifoQueue[C | None] = asyncio.LifoQueue()
        for _ in range(count):
            self._idle.put_nowait(None)

    async def open(self) -> None:
        """Make the first connection, without patience. Raises Headrace's errors."""
        slot = await self._idle.get()
        try:
            slot = slot or await self._connect(patience_seconds=0.0)
        finally:
            self._idle.put_nowait(slot)

    async def call(self, function: Callable[[C], Awaitable[T]], *, repeatable: bool = False) -> T:
        """Run ``function`` with a connection; its driver's errors leave as Headrace's.

        ``repeatable``: doing it twice does no harm, so it is tried again, once, if the connection broke under it.
        """
        connection = await self._idle.get()
        try:
            while True:
                if connection is None or connection.is_closed():
                    connection = None
                    connection = await self._connect(patience_seconds=PATIENCE_SECONDS)
                try:
                    return await function(connection)
                except self._driver.errors as error:
                    if self._driver.is_lost(error) or connection.is_closed():
                        connection.terminate()
                        connection = None
                        if repeatable:
                            repeatable = False
                            continue
                    raise self._driver.translated(error) from error
        finally:
            self._idle.put_nowait(connection)

    async def _connect(self, *, patience_seconds: float) -> C:
        """Raises Headrace's errors: at once what waiting cannot mend."""
        deadline = time.monotonic() + patience_seconds
        tries = 0
        while True:
            try:
                return await self._driver.connect()
            except StoreUnavailable as error:
                pause = PAUSES_SECONDS[min(tries, len(PAUSES_SECONDS) - 1)]
                if time.monotonic() + pause > deadline:
                    raise
                tries += 1
                logger.debug("connecting failed, trying again", extra={"error": str(error), "pause_seconds": pause})
                await asyncio.sleep(pause)

    async def split_off(self) -> Pool[C]:
        """One of these connections as a pool of its own; here is one fewer from now on."""
        slot = await self._idle.get()
        self._count -= 1
        part = Pool(self._driver, 0)
        part._count = 1
        part._idle.put_nowait(slot)
        return part

    async def close(self) -> None:
        """Wait for the calls under way, then close everything."""
        found: list[C | None] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                while len(found) < self._count:
                    found.append(await self._idle.get())
        for connection in found:
            if connection is not None:
                await self._driver.hang_up(connection)
