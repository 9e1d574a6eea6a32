"""Connections to MySQL: see :mod:`headrace.backends.stores.database_pool`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from headrace.backends.stores.database_pool import CLOSE_SECONDS, Driver, Pool
from headrace.backends.stores.mysql_errors import DRIVER_ERRORS, asyncmy, code_of, is_lost, translated
from headrace.backends.stores.mysql_text import Room, Value, call
from headrace.backends.stores.mysql_url import Place
from headrace.core.errors import HeadraceError, StoreError

CONNECT_SECONDS = 10
"""One try to connect may take this long."""

COMMAND_SECONDS = 30.0
"""How long a call may take."""

LOCK_SECONDS = 5
"""How long a statement waits for a row that somebody else has locked; then it is to be tried again."""

PACKET_BYTES_MAX = 8 << 20
"""Packets stay below this even where the server takes more, unless a single value is larger."""

_UNKNOWN_DATABASE = 1049

# READ COMMITTED: the procedures rely on it. Backslash escapes (no NO_BACKSLASH_ESCAPES): the literals do. wait_timeout:
# MySQL's own default; some servers set it to seconds. group_concat_max_len: the procedures make lists of keys.
_SESSION = (
    b"SET SESSION sql_mode='STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION',time_zone='+00:00',"
    b"autocommit=1,wait_timeout=28800,lock_wait_timeout=30,innodb_lock_wait_timeout=%d,group_concat_max_len=1073741824;"
    b"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"
)


def session_settings(lock_seconds: int) -> bytes:
    """Statements that make a session as the store needs it, whatever it was told before."""
    return _SESSION % lock_seconds


class Result:
    """What one statement gave: ``rows``, or how many it changed."""

    def __init__(self, rows: Sequence[Any] | None, changed: int) -> None:
        self.rows = list(rows or ())
        self.changed = changed
        self.is_table = rows is not None


class Connection:
    """One session with the server. Rows are tuples of the values that the statement selects: hence Any."""

    def __init__(self, driver: Any) -> None:  # Any: the driver's types are incomplete
        self._driver = driver
        self.room = Room(PACKET_BYTES_MAX, PACKET_BYTES_MAX)

    @property
    def driver(self) -> Any:
        """The driver's own connection, for users' statements."""
        return self._driver

    async def run(self, text: bytes, *, seconds: float = COMMAND_SECONDS) -> list[Result]:
        """Send a packet of statements, return what each gave. Stops at the first error and raises it: the driver's, or
        :class:`TimeoutError`. Cancelled or timed out, the connection is of no use any more."""
        driver = self._driver
        found: list[Result] = []
        try:
            async with asyncio.timeout(seconds):
                await driver.query(text)
                while True:
                    result = driver._result
                    found.append(Result(result.rows, result.affected_rows))
                    if not result.has_next:
                        return found
                    await driver.next_result()
        except (TimeoutError, asyncio.CancelledError):
            self.terminate()
            raise

    async def rows(self, text: bytes) -> list[Any]:
        """The rows of a query, or of the first one in a procedure."""
        return next((result.rows for result in await self.run(text) if result.is_table), [])

    async def value(self, text: bytes) -> Any:
        """The first value of the first row, or None."""
        rows = await self.rows(text)
        return rows[0][0] if rows else None

    async def call(self, procedure: str, *values: Value) -> list[Any]:
        """Call a procedure, return the rows it gives."""
        return await self.rows(call(procedure, *values))

    def is_closed(self) -> bool:
        """Whether it is known to be of no use any more."""
        return not self._driver.connected

    async def close(self) -> None:
        """Say goodbye if the server listens; in any case the connection is gone afterwards."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._driver.ensure_closed()
        except DRIVER_ERRORS:
            self.terminate()

    def terminate(self) -> None:
        """Close without a word."""
        transport = self._driver._transport
        self._driver.close()
        if transport is not None:
            transport.abort()  # whatever was not yet sent is not to be sent any more


_connect: Any = asyncmy.connect  # its annotations are incomplete and partly wrong


async def connect(place: Place, *, database: bool = True) -> Connection:
    """A new connection. Raises the driver's errors; :class:`StoreError` for certificates that cannot be used."""
    tls = place.tls_context()
    async with asyncio.timeout(CONNECT_SECONDS):  # the driver's own one ends before the server has said anything
        driver = await _connect(
            host=place.host,
            port=place.port,
            unix_socket=place.unix_socket or None,
            user=place.user,
            password=place.password,  # bytes: the driver would encode a text as latin1
            database=place.database if database else None,
            charset="utf8mb4",
            connect_timeout=CONNECT_SECONDS,
            ssl=tls,
            autocommit=None,
            program_name="headrace",
        )
    connection = Connection(driver)
    settings = session_settings(LOCK_SECONDS) + b";SELECT @@max_allowed_packet"
    try:
        packet = (await connection.run(settings, seconds=CONNECT_SECONDS))[-1].rows[0][0]
    except BaseException:
        connection.terminate()
        raise
    most = int(packet) - 1024
    connection.room = Room(min(PACKET_BYTES_MAX, most), most)
    return connection


class _Mysql:
    """See :class:`headrace.backends.stores.database_pool.Driver`. Makes the database if there is none."""

    errors: tuple[type[BaseException], ...] = DRIVER_ERRORS

    def __init__(self, place: Place) -> None:
        self._place = place
        self.shown = place.shown

    async def connect(self) -> Connection:
        try:
            return await self._connect()
        except DRIVER_ERRORS as error:
            raise translated(error, self.shown) from error
        except (RuntimeError, ValueError) as error:  # of the driver: how to log in
            raise StoreError(f"cannot log in at {self.shown} ({error})") from error

    async def _connect(self) -> Connection:
        try:
            return await connect(self._place)
        except DRIVER_ERRORS as error:
            if code_of(error) != _UNKNOWN_DATABASE:
                raise
            unknown = error
        bare = await connect(self._place, database=False)
        try:
            await bare.run(b"CREATE DATABASE IF NOT EXISTS %s CHARACTER SET utf8mb4" % self._place.quoted.encode())
        except DRIVER_ERRORS as error:
            raise unknown from error
        finally:
            await bare.close()
        return await connect(self._place)

    def is_lost(self, error: BaseException) -> bool:
        return is_lost(error)

    def translated(self, error: BaseException) -> HeadraceError:
        return translated(error, self.shown)

    async def hang_up(self, connection: Connection) -> None:
        await connection.close()


def driver(place: Place) -> Driver[Connection]:
    """MySQL at a place."""
    return _Mysql(place)


Connections = Pool[Connection]


def pool_of(place: Place, count: int) -> Connections:
    """Up to ``count`` connections to MySQL at a place."""
    return Pool(driver(place), count)
