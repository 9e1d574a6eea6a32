"""SQLite connections: settings, and transactions that wait their turn.

Settings and why: WAL lets readers and the writer work side by side; ``synchronous=FULL`` makes every commit survive
power loss; ``foreign_keys`` lets the inbox of a run go with it. Write transactions are always ``BEGIN IMMEDIATE``:
a transaction that starts by reading and is upgraded later fails at once when another wrote in between, and no
``busy_timeout`` covers that.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from headrace.backends.stores.sqlite_errors import LOCKED, primary_code

C = TypeVar("C", bound=sqlite3.Connection)
T = TypeVar("T")

BUSY_SECONDS = 10.0
"""How long to wait for another process's lock before giving up, unless told otherwise."""

CHECKPOINT_PAGES = 2000
"""Copy the WAL back once it holds this many pages (8 MB). Small enough that the file is overwritten, not extended:
an fsync that must also record a new length costs twice."""

WAL_BYTES_GROWN = 4 * 1024 * 1024
"""How long the WAL is made when the store is opened: more than small commits fill between two checkpoints."""

WAL_BYTES_KEPT = 64 * 1024 * 1024
"""After a peak the WAL is cut back to this."""

CACHE_KIB = 16 * 1024
"""Page cache of the writer: a large flush stays in memory until its commit."""

_POLL_SECONDS_MIN, _POLL_SECONDS_MAX = 0.0003, 0.003
_random = random.Random()  # noqa: S311 - jitter


def connect(
    path: str,
    *,
    synchronous: str = "FULL",
    busy_seconds: float = BUSY_SECONDS,
    factory: type[C] = sqlite3.Connection,
) -> C:
    """Open a connection (of the class ``factory``) that any one thread at a time may use. The journal mode is a property
    of the file: see :func:`use_wal`."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=busy_seconds, factory=factory)
    try:
        db.execute("PRAGMA foreign_keys = ON")
        db.execute(f"PRAGMA synchronous = {synchronous}")
        db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        db.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    except BaseException:
        db.close()
        raise
    return db


def patiently(action: Callable[[], T], busy_seconds: float) -> T:
    """Call ``action`` until it does not fail for a lock, at most ``busy_seconds`` long; then its error passes.

    SQLite's own waiting backs off to 100 ms between tries, so a busy neighbour that commits back to back starves
    whoever waits longest; and some statements (the switch to WAL) do not wait at all.
    """
    deadline = time.monotonic() + busy_seconds
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if primary_code(error) not in LOCKED or time.monotonic() >= deadline:
                raise
        time.sleep(_random.uniform(_POLL_SECONDS_MIN, _POLL_SECONDS_MAX))


def use_wal(db: sqlite3.Connection, busy_seconds: float) -> bool:
    """Make the file a WAL database; False where the file system cannot do it."""

    def switch() -> str:
        mode = db.execute("PRAGMA journal_mode").fetchone()[0]
        return mode if mode == "wal" else db.execute("PRAGMA journal_mode = WAL").fetchone()[0]

    return patiently(switch, busy_seconds) == "wal"


def grow_wal(db: sqlite3.Connection, path: str) -> None:
    """Make the WAL long before it is needed: a commit that overwrites it takes two thirds of the time of one that makes
    it longer. SQLite removes the WAL with the last connection, so a new process would pay for its first thousand
    commits.

    A transaction too large for the page cache spills into the WAL and is rolled back: the database stays as it was.
    Takes some 10 ms. Never raises: without a lock or space the commits are only slower.
    """
    try:
        if Path(path + "-wal").stat().st_size >= WAL_BYTES_GROWN:
            return
    except OSError:
        pass
    with contextlib.suppress(sqlite3.Error):
        db.execute("PRAGMA cache_size = 1")
        try:
            db.execute("BEGIN IMMEDIATE")
            db.execute("CREATE TABLE growing (filler)")
            for _ in range(16):
                db.execute("INSERT INTO growing VALUES (zeroblob(?))", (WAL_BYTES_GROWN // 16,))
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
            db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")


class RenewalGate:
    """Lets the renewal of the lease go before the writer's next transaction, so that a flood of commits cannot starve
    it: SQLite's lock is not fair."""

    GRACE_SECONDS = 0.25
    """The longest the writer stands aside."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()
        self.is_open = True
        """False while somebody renews."""

    @contextmanager
    def first(self) -> Generator[None]:
        """Held by the one who renews."""
        self.is_open = False
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()
            self.is_open = True

    def pass_(self) -> None:
        """Called by the writer before each transaction."""
        if not self._open.is_set():
            self._open.wait(self.GRACE_SECONDS)


@contextmanager
def writing(db: sqlite3.Connection, busy_seconds: float) -> Generator[None]:
    """One write transaction: committed at the end, rolled back when an exception passes."""
    patiently(lambda: db.execute("BEGIN IMMEDIATE"), busy_seconds)
    with ending(db):
        yield


def try_begin(db: sqlite3.Connection) -> bool:
    """Begin a write transaction if nobody else is in one; the connection must have no busy timeout."""
    try:
        db.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if primary_code(error) in LOCKED:
            return False
        raise
    return True


@contextmanager
def ending(db: sqlite3.Connection) -> Generator[None]:
    """The rest of a transaction that has begun: see :func:`writing`."""
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        roll_back(db)
        raise


def roll_back(db: sqlite3.Connection) -> None:
    """End a transaction that failed. Some errors (a full disk) have rolled back already."""
    if db.in_transaction:
        db.execute("ROLLBACK")


@contextmanager
def reading(db: sqlite3.Connection) -> Generator[None]:
    """One snapshot for several statements."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        if db.in_transaction:
            db.execute("COMMIT")


def checkpoint(db: sqlite3.Connection) -> None:
    """Copy the WAL back into the database, as far as readers allow. Never raises: what fails here is tried again by
    the next one, and a disk in trouble shows itself to the next commit."""
    with contextlib.suppress(sqlite3.Error):
        db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
