"""The connections of an open SQLite store and their threads: what exists only between its opening and its end."""

from __future__ import annotations

import contextlib
from pathlib import Path

from headrace.backends.stores.sqlite_connection import connect, grow_wal
from headrace.backends.stores.sqlite_errors import translating
from headrace.backends.stores.sqlite_lent import Lender
from headrace.backends.stores.sqlite_schema import prepare_database
from headrace.backends.stores.sqlite_thread import ConnectionThread


class Opened:
    """Brings the database up to date and opens its connections. ``synchronous``: the pragma of those that write for
    good. Blocks. Raises :class:`StoreError`."""

    def __init__(self, path: Path, synchronous: str, busy_seconds: float) -> None:
        name = str(path)
        with contextlib.ExitStack() as undo, translating(name):
            writer = connect(name, synchronous=synchronous, busy_seconds=busy_seconds)
            undo.callback(writer.close)
            prepare_database(writer, name, busy_seconds)
            reader = connect(name, busy_seconds=busy_seconds)
            undo.callback(reader.close)
            reader.execute("PRAGMA query_only = ON")
            # A renewed lease need not survive power loss: the node would not either.
            renewer = connect(name, synchronous="NORMAL", busy_seconds=busy_seconds)
            undo.pop_all()
        # These poll for themselves, see patiently.
        for connection in (writer, renewer):
            connection.execute("PRAGMA busy_timeout = 0")
        if synchronous == "FULL":
            grow_wal(writer, name)
        self._name = name
        self._synchronous = synchronous
        self._busy_seconds = busy_seconds
        self._tasks: ConnectionThread[Lender] | None = None
        """Database tasks, from the first one on."""
        self.renewer = renewer
        self.writer = ConnectionThread("headrace-sqlite-writer", writer)
        self.reader = ConnectionThread("headrace-sqlite-reader", reader)

    def tasks_thread(self) -> ConnectionThread[Lender]:
        """The thread of database tasks."""
        if self._tasks is None:
            self._tasks = ConnectionThread(
                "headrace-sqlite-tasks", Lender(self._name, self._synchronous, self._busy_seconds)
            )
        return self._tasks

    async def stop(self) -> None:
        """Finish what the threads were asked for and close their connections; the renewer stays open."""
        if self._tasks is not None:
            await self._tasks.stop()
        await self.reader.stop()
        await self.writer.stop()
