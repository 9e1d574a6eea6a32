"""One SQLite file that is open: its connections, the way to their threads, and the commits of the journal.

A small commit is made on the event loop, where the disk is quick: handing it to a thread would cost more than it takes
(:mod:`.sqlite_pace`). It is the hop of every chain of tasks, so what it does not need it does not call.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from time import perf_counter  # by its own name: where workflow code runs, time.perf_counter is replaced
from typing import Any, Concatenate, ParamSpec, TypeVar

from headrace.backends.stores import sqlite_history
from headrace.backends.stores.sqlite_connection import (
    BUSY_SECONDS,
    RenewalGate,
    checkpoint,
    patiently,
    reading,
    roll_back,
    try_begin,
    writing,
)
from headrace.backends.stores.sqlite_errors import LOCKED, primary_code, translated, translating
from headrace.backends.stores.sqlite_files import file_system_of, path_of_url, prepare_place
from headrace.backends.stores.sqlite_locks import NodeLock, NodeLocks
from headrace.backends.stores.sqlite_opened import Opened
from headrace.backends.stores.sqlite_pace import Pace, is_small
from headrace.contracts.store import Flush
from headrace.core.errors import StoreError
from headrace.core.ids import Epoch, NodeId

P = ParamSpec("P")
T = TypeVar("T")


class SqliteFile:
    """What :class:`~headrace.backends.stores.sqlite.SqliteStore`, which says what the parameters are, stands on."""

    def __init__(
        self,
        url: str,
        *,
        busy_seconds: float = BUSY_SECONDS,
        clock: Callable[[], float] = time.time,
        file_system: Callable[[Path], str] = file_system_of,
    ) -> None:
        self.url = url
        self._path = path_of_url(url)
        self._busy_seconds = busy_seconds
        self._clock = clock
        self._file_system = file_system
        self._temporary: Path | None = None
        self._locks = NodeLocks(self._path or Path())
        self._held: dict[NodeId, tuple[Epoch, NodeLock]] = {}
        self._opened: Opened | None = None
        self._gate = RenewalGate()
        self._pace = Pace()
        self._renewing = threading.Lock()

    @property
    def path(self) -> Path:
        """The database file. Of a temporary database it is known once the store is open."""
        if self._path is None:
            raise StoreError("a temporary database has no file before it is opened")
        return self._path

    async def open(self) -> None:
        """See the contract. Creates the file and its folder if needed. Idempotent."""
        if self._opened is None:
            self._opened = await asyncio.to_thread(self._open)

    def _open(self) -> Opened:
        if self._path is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="headrace-"))
            self._path = self._temporary / "headrace.db"
            self._locks = NodeLocks(self._path)
        prepare_place(self._path, self._file_system)
        return Opened(self._path, "OFF" if self._temporary else "FULL", self._busy_seconds)

    async def close(self) -> None:
        """Finish what was asked, release everything. A node that has not left counts as dead from now on.
        Idempotent."""
        opened, self._opened = self._opened, None
        if opened is None:
            return
        await opened.stop()
        await asyncio.to_thread(self._close, opened)

    def _close(self, opened: Opened) -> None:
        with self._renewing:
            opened.renewer.close()
        for _, lock in self._held.values():
            lock.release(remove=False)
        self._held.clear()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = self._path = None

    # ---- the ways to the threads ------------------------------------------------------------------------------------

    def _ready(self) -> Opened:
        if self._opened is None:
            raise StoreError(
                f"the store {self.url} is not open", hint="call open() first; a closed store may be opened again"
            )
        return self._opened

    async def _write(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a function in one write transaction on the writer's thread; durable on return."""
        assert not kwargs
        return await self._ready().writer.call(self._transaction, function, args)

    def _transaction(self, db: sqlite3.Connection, function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        self._gate.pass_()
        with translating(str(self._path)), writing(db, self._busy_seconds):
            return function(db, *arguments)

    async def _read(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a function over one snapshot on the reader's thread."""
        assert not kwargs
        return await self._ready().reader.call(self._snapshot, function, args)

    def _snapshot(self, db: sqlite3.Connection, function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        with translating(str(self._path)), reading(db):
            return function(db, *arguments)

    # ---- commits -------------------------------------------------------------------------------------------------

    async def commit(self, flush: Flush) -> None:
        """See the contract. The caller leaves the flush alone until this returns."""
        await self._ready().writer.call(self._commit, flush)

    def commit_now(self, flush: Flush) -> bool:
        """See the contract. Small flushes only, and only while the disk is quick: see :mod:`.sqlite_pace`."""
        if not (self._pace.is_quick and self._gate.is_open):
            return False
        rest = flush.new_runs or flush.updates or flush.inbox_done or flush.outcomes_done
        if len(flush.events) == 1 and not rest:
            commit = self._commit_event
        elif is_small(flush):
            commit = self._commit_idle
        else:
            return False
        return (self._opened or self._ready()).writer.now(commit, flush) or False

    def _commit(self, db: sqlite3.Connection, flush: Flush) -> None:
        self._gate.pass_()
        with translating(str(self._path)):
            patiently(lambda: db.execute("BEGIN IMMEDIATE"), self._busy_seconds)
            self._commit_begun(db, flush, small=is_small(flush))

    def _commit_event(self, db: sqlite3.Connection, flush: Flush) -> bool:
        """One statement, and a transaction of its own: this is the hop of every chain, and what is not done costs
        nothing. A store that is locked and an event that cannot be inserted are left to the long way."""
        begun = perf_counter()
        try:  # what translating() does, without the cost of a generator
            run_id, seq, data = flush.events[0]  # sqlite_history.insert_fenced, without the call
            event = (run_id, seq, data.decode(), flush.node, flush.epoch)
            if db.execute(sqlite_history.INSERT_FENCED, event).rowcount != 1:
                return False
        except (sqlite3.IntegrityError, UnicodeDecodeError):
            return False
        except sqlite3.Error as error:
            if primary_code(error) in LOCKED:
                return False
            raise translated(error, str(self._path)) from error
        if self._pace.saw(perf_counter() - begun):
            self._checkpoint()
        return True

    def _commit_idle(self, db: sqlite3.Connection, flush: Flush) -> bool:
        with translating(str(self._path)):
            if not try_begin(db):
                return False
            self._commit_begun(db, flush, small=True)
        return True

    def _commit_begun(self, db: sqlite3.Connection, flush: Flush, *, small: bool) -> None:
        begun = perf_counter()
        try:
            sqlite_history.commit(db, flush)
            db.execute("COMMIT")
        except BaseException:
            roll_back(db)
            raise
        if small and self._pace.saw(perf_counter() - begun):
            self._checkpoint()

    def _checkpoint(self) -> None:
        opened = self._opened  # None for the last commit before the end, which closing checkpoints anyway
        if opened is not None:
            opened.writer.give(checkpoint)
