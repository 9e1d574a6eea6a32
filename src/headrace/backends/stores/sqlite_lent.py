"""The connection that a database task gets: its own, and taken back whole.

A function may leave things behind: a row factory, a cursor that it has not read to its end, a temporary table. On a
shared connection the next function would find them; an open cursor alone keeps the connection on an old snapshot, from
which SQLite lets nobody write. Opening a connection takes some 0.3 ms, about as long as one commit.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Generator
from typing import Any
from weakref import WeakSet

from headrace.backends.stores.sqlite_connection import connect
from headrace.contracts.execution import AttemptError

_CLOSED = (
    "a database task closed its connection: it is Headrace's, and the transaction is committed with the outcome when the "
    "function returns; leave out close() and contextlib.closing"
)


class LentConnection(sqlite3.Connection):
    """Refuses to be closed by whom it was lent to; knows its cursors."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._cursors: WeakSet[sqlite3.Cursor] = WeakSet()

    def execute(self, *args: Any) -> sqlite3.Cursor:
        """As :meth:`sqlite3.Connection.execute`, which makes its cursor past :meth:`cursor`."""
        return self.cursor().execute(*args)

    def executemany(self, *args: Any) -> sqlite3.Cursor:
        """As :meth:`sqlite3.Connection.executemany`."""
        return self.cursor().executemany(*args)

    def cursor(self, factory: Any = sqlite3.Cursor) -> Any:
        """As :meth:`sqlite3.Connection.cursor`."""
        made = super().cursor(factory)
        self._cursors.add(made)
        return made

    def close(self) -> None:
        """Refused: see :meth:`take_back`."""
        raise AttemptError("forbidden_statement", _CLOSED, retryable=False)

    def take_back(self) -> None:
        """Close it with everything that was left open; whoever still has it is refused. Never raises."""
        for cursor in list(self._cursors):
            with contextlib.suppress(sqlite3.Error):
                cursor.close()
        with contextlib.suppress(sqlite3.Error):
            super().close()


class Lender:
    """Opens connections to one file, for one database task each."""

    def __init__(self, path: str, synchronous: str, busy_seconds: float) -> None:
        self._path = path
        self._synchronous = synchronous
        self._busy_seconds = busy_seconds

    @contextlib.contextmanager
    def lent(self) -> Generator[sqlite3.Connection]:
        """A connection until the end of the block."""
        db = connect(self._path, synchronous=self._synchronous, busy_seconds=self._busy_seconds, factory=LentConnection)
        try:
            db.execute("PRAGMA busy_timeout = 0")  # transactions poll for themselves, see patiently
            yield db
        finally:
            db.take_back()

    def close(self) -> None:
        """Nothing is kept open."""
