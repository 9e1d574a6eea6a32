"""Connections that mend themselves. A call gets a connection of its own for as long as it takes; one that broke is
replaced by the next call that needs it, with growing pauses while the server is away.

Nothing is kept in a session: no temporary tables, no settings, no session locks, no LISTEN. So a pooler in transaction
mode may stand between. There nothing is prepared in advance: the driver (0.29 or newer) then sends each statement whole,
in one message.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

import asyncpg

from headrace.backends.stores.postgres_errors import DRIVER_ERRORS, is_lost, translated
from headrace.backends.stores.postgres_url import Place
from headrace.contracts.store import BACK_SECONDS
from headrace.core.errors import StoreUnavailable

logger = logging.getLogger("headrace.postgres")

T = TypeVar("T")

CONNECT_SECONDS = 10.0
"""One try to connect may take this long."""

PATIENCE_SECONDS = 5.0
"""How long a call waits for a server that went away, before :class:`StoreUnavailable`."""

COMMAND_SECONDS = 30.0
"""How long a statement may take."""

CLOSE_SECONDS = 5.0
PAUSES_SECONDS = (0.02, 0.05, 0.1, 0.2, BACK_SECONDS)

_SETTINGS = {
    "application_name": "headrace",
    "default_transaction_isolation": "read committed",  # the functions rely on it
    "jit": "off",  # the statements are short
}


class Connection(Protocol):
    """What is used of the driver's connection, with types, which it does not have. Rows are sequences of the values that
    the statement selects, of the types that its columns have: hence Any."""

    async def execute(self, query: str, *args: Any) -> str:
        """Returns the status, such as ``UPDATE 1``."""
        ...

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """All rows."""
        ...

    async def fetchrow(self, query: str, *args: Any) -> Any:
        """The first row, or None."""
        ...

    async def fetchval(self, query: str, *args: Any) -> Any:
        """The first value of the first row, or None."""
        ...

    def transaction(self, *, isolation: str | None = None) -> AbstractAsyncContextManager[Any]:
        """BEGIN and COMMIT around a block; within another one, a savepoint."""
        ...

    async def reset(self) -> None:
        """Roll back and forget what the session was told: settings, locks, listening."""
        ...

    def is_closed(self) -> bool:
        """Whether it is known to be of no use any more."""
        ...

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the driver's signature
        """Say goodbye and close."""
        ...

    def terminate(self) -> None:
        """Close without a word."""
        ...


async def connect(place: Place, *, command_seconds: float = COMMAND_SECONDS) -> Connection:
    """A new connection. Raises the driver's errors."""
    driver: Any = asyncpg  # its annotations are incomplete and partly wrong
    return await driver.connect(
        place.dsn,
        timeout=CONNECT_SECONDS,
        command_timeout=command_seconds,
        # A pooler knows neither statements that another session prepared nor most settings.
        statement_cache_size=0 if place.pooled else 100,
        server_settings={} if place.pooled else _SETTINGS,
    )


class Connections:
    """Up to ``count`` connections, made when needed, the last used one first."""

    def __init__(self, place: Place, count: int) -> None:
        self._place = place
        self._count = count
        self._idle: asyncio.LifoQueue[Connection | None] = asyncio.LifoQueue()
        for _ in range(count):
            self._idle.put_nowait(None)

    async def open(self) -> None:
        """Make the first connection, without patience. Raises Headrace's errors."""
        slot = await self._idle.get()
        try:
            slot = slot or await self._connect(patience_seconds=0.0)
        finally:
            self._idle.put_nowait(slot)

    async def call(self, function: Callable[[Connection], Awaitable[T]], *, repeatable: bool = False) -> T:
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
                except DRIVER_ERRORS as error:
                    if is_lost(error) or connection.is_closed():
                        connection.terminate()
                        connection = None
                        if repeatable:
                            repeatable = False
                            continue
                    raise translated(error, self._place.shown) from error
        finally:
            self._idle.put_nowait(connection)

    async def _connect(self, *, patience_seconds: float) -> Connection:
        """Raises Headrace's errors: at once what waiting cannot mend."""
        deadline = time.monotonic() + patience_seconds
        tries = 0
        while True:
            try:
                return await connect(self._place)
            except (*DRIVER_ERRORS, ValueError) as error:
                found = translated(error, self._place.shown)
                pause = PAUSES_SECONDS[min(tries, len(PAUSES_SECONDS) - 1)]
                if not isinstance(found, StoreUnavailable) or time.monotonic() + pause > deadline:
                    raise found from error
                tries += 1
                logger.debug("connecting failed, trying again", extra={"error": str(found), "pause_seconds": pause})
                await asyncio.sleep(pause)

    async def split_off(self) -> Connections:
        """One of these connections as a pool of its own; here is one fewer from now on."""
        slot = await self._idle.get()
        self._count -= 1
        part = Connections(self._place, 0)
        part._count = 1
        part._idle.put_nowait(slot)
        return part

    async def close(self) -> None:
        """Wait for the calls under way, then close everything."""
        found: list[Connection | None] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                while len(found) < self._count:
                    found.append(await self._idle.get())
        for connection in found:
            if connection is not None:
                await hang_up(connection)


async def hang_up(connection: Connection) -> None:
    """Say goodbye if the server listens; in any case the connection is gone afterwards."""
    try:
        await connection.close(timeout=CLOSE_SECONDS)
    except DRIVER_ERRORS:
        connection.terminate()


def rows_affected(status: Any) -> int:
    """The number at the end of a command's status, such as ``UPDATE 1``."""
    return int(str(status).rpartition(" ")[2])
