"""Connections to PostgreSQL: see :mod:`headrace.backends.stores.database_pool`.

Nothing is kept in a session: no temporary tables, no settings, no session locks, no LISTEN. So a pooler in transaction
mode may stand between. There nothing is prepared in advance: the driver (0.29 or newer) then sends each statement whole,
in one message.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import asyncpg

from headrace.backends.stores.database_pool import CLOSE_SECONDS, Driver, Pool
from headrace.backends.stores.postgres_errors import DRIVER_ERRORS, is_lost, translated
from headrace.backends.stores.postgres_url import Place
from headrace.core.errors import HeadraceError

CONNECT_SECONDS = 10.0
"""One try to connect may take this long."""

COMMAND_SECONDS = 30.0
"""How long a statement may take."""

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


class _Postgres:
    """See :class:`headrace.backends.stores.database_pool.Driver`."""

    errors: tuple[type[BaseException], ...] = DRIVER_ERRORS

    def __init__(self, place: Place) -> None:
        self._place = place
        self.shown = place.shown

    async def connect(self) -> Connection:
        try:
            return await connect(self._place)
        except (*DRIVER_ERRORS, ValueError) as error:
            raise translated(error, self.shown) from error

    def is_lost(self, error: BaseException) -> bool:
        return is_lost(error)

    def translated(self, error: BaseException) -> HeadraceError:
        return translated(error, self.shown)

    async def hang_up(self, connection: Connection) -> None:
        try:
            await connection.close(timeout=CLOSE_SECONDS)
        except DRIVER_ERRORS:
            connection.terminate()


def driver(place: Place) -> Driver[Connection]:
    """PostgreSQL at a place."""
    return _Postgres(place)


Connections = Pool[Connection]


def pool_of(place: Place, count: int) -> Connections:
    """Up to ``count`` connections to PostgreSQL at a place."""
    return Pool(driver(place), count)


def rows_affected(status: Any) -> int:
    """The number at the end of a command's status, such as ``UPDATE 1``."""
    return int(str(status).rpartition(" ")[2])
