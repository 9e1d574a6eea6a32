"""Database tasks: a user's writes and the outcome of the task that made them, in one transaction.

The outcome's row is the proof that the writes are there. Whoever runs the task again (after a crash between this commit
and the one that records the event, or another attempt while an abandoned thread still worked) finds it and runs no code.
Transactions that write take turns, and each looks first, so of any number of attempts one commits.

The function has the connection for the length of the transaction and cannot end it: COMMIT, ROLLBACK, ATTACH and changes
of Headrace's own tables are refused by SQLite's authorizer. A transaction holds the database's one write lock, which the
engine's own commits need too; so it is bounded.
"""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections.abc import Callable
from functools import cache

from headrace.backends.stores.sqlite_connection import patiently
from headrace.backends.stores.sqlite_errors import primary_code
from headrace.backends.stores.sqlite_history import check_fence
from headrace.backends.stores.sqlite_schema import migrations
from headrace.contracts.execution import AttemptError
from headrace.core.errors import Fenced
from headrace.core.ids import Epoch, NodeId, RunId

TRANSACTION_SECONDS_MAX = 3.0
"""How long a function may hold the lock: below a third of the usual lease, whose renewal waits for the same lock."""

_STEPS_PER_LOOK = 10_000
"""Instructions of SQLite's machine between two looks at the clock: some 0.1 ms."""

_SQLITE_AUTH = 23
_CHANGES = frozenset({sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE})
_SCHEMA_CHANGES = frozenset(
    {
        *(sqlite3.SQLITE_DROP_TABLE, sqlite3.SQLITE_CREATE_INDEX, sqlite3.SQLITE_DROP_INDEX),
        *(sqlite3.SQLITE_CREATE_TRIGGER, sqlite3.SQLITE_CREATE_TEMP_TRIGGER, sqlite3.SQLITE_DROP_TRIGGER),
    }
)
_NEVER = frozenset({sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH})
_ASKING = frozenset({"table_info", "table_xinfo", "table_list", "index_list", "index_info", "foreign_key_list"})
"""Pragmas whose value is what they ask about; a value given to any other sets something."""

Work = Callable[[sqlite3.Connection], bytes]
"""The function: it writes, and returns the outcome as JSON."""


class Transaction:
    """One attempt at a database task. ``cancel`` may be called from another thread, any time."""

    def __init__(self, node: NodeId, epoch: Epoch, run_id: RunId, task: str, work: Work) -> None:
        self._node = node
        self._epoch = epoch
        self._run_id = run_id
        self._task = task
        self._work = work
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()
        self.cancelled = False

    def cancel(self) -> None:
        """Roll back if the commit has not begun: nobody waits for it any more."""
        self.cancelled = True
        with self._lock:
            if self._connection is not None:
                self._connection.interrupt()

    def run(self, db: sqlite3.Connection, busy_seconds: float) -> bytes:
        """The outcome, stored before or now; durable on return. Raises what the function raises, and :class:`Fenced`."""
        if self.cancelled:
            raise AttemptError("cancelled", "the task was cancelled before its transaction began")
        patiently(lambda: db.execute("BEGIN IMMEDIATE"), busy_seconds)
        try:
            stored = self._find(db)
            if stored is None:
                stored = self._do(db)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        return stored

    def _find(self, db: sqlite3.Connection) -> bytes | None:
        check_fence(db, self._node, self._epoch)
        row = db.execute("SELECT owner FROM runs WHERE run_id = ?", (self._run_id,)).fetchone()
        if row is None or row[0] != self._node:
            raise Fenced(f"run {self._run_id} is no longer owned by {self._node}")
        found = db.execute(
            "SELECT output FROM task_outcomes WHERE run_id = ? AND task = ?", (self._run_id, self._task)
        ).fetchone()
        return None if found is None else found[0].encode()

    def _do(self, db: sqlite3.Connection) -> bytes:
        deadline = time.monotonic() + TRANSACTION_SECONDS_MAX
        with self._lock:
            self._connection = db
        db.set_progress_handler(lambda: int(self.cancelled or time.monotonic() > deadline), _STEPS_PER_LOOK)
        db.set_authorizer(_authorize)
        try:
            output = self._work(db)
        except sqlite3.OperationalError as error:
            if primary_code(error) == sqlite3.SQLITE_INTERRUPT:
                raise self._overdue() from error
            raise
        except sqlite3.DatabaseError as error:
            if primary_code(error) == _SQLITE_AUTH:
                raise AttemptError("forbidden_statement", _FORBIDDEN, retryable=False) from error
            raise
        finally:
            with self._lock:
                self._connection = None
            db.set_authorizer(None)
            db.set_progress_handler(None, 0)
        if self.cancelled or time.monotonic() > deadline:
            raise self._overdue()
        if not db.in_transaction:  # OR ROLLBACK, RAISE(ROLLBACK), a full disk: no statement that the authorizer sees
            raise AttemptError("forbidden_statement", _ENDED, retryable=False)
        insert = "INSERT INTO task_outcomes (run_id, task, output) VALUES (?, ?, ?)"
        db.execute(insert, (self._run_id, self._task, output.decode()))
        return output

    def _overdue(self) -> AttemptError:
        if self.cancelled:
            return AttemptError("cancelled", "the task was cancelled; its transaction was rolled back")
        return AttemptError(
            "transaction_timeout",
            f"the transaction took longer than {TRANSACTION_SECONDS_MAX:g} s and was rolled back: it keeps everybody "
            "else from writing; do what takes long in a task before it",
        )


_FORBIDDEN = (
    "a database task used COMMIT, ROLLBACK, ATTACH or one of Headrace's own tables: its transaction is committed with "
    "its outcome when it returns, so do not call commit() and do not use the connection in a `with`; SAVEPOINT may be "
    "used"
)


_ENDED = (
    "a database task's transaction was over before it returned (a statement with OR ROLLBACK, RAISE(ROLLBACK) in a "
    "trigger, or a full disk): what it wrote before is rolled back, what it wrote after is not; let the error pass, or "
    "use SAVEPOINT"
)


def _authorize(action: int, first: str | None, second: str | None, _base: str | None, _trigger: str | None) -> int:
    if action in _NEVER:
        return sqlite3.SQLITE_DENY
    if action in _CHANGES and first in own_tables():
        return sqlite3.SQLITE_DENY
    if action in _SCHEMA_CHANGES and own_tables() & {first, second}:
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_ALTER_TABLE and second in own_tables():
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_PRAGMA and second is not None and first not in _ASKING:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


@cache
def own_tables() -> frozenset[str]:
    """The tables of Headrace's schema."""
    text = "".join(text for _, text in migrations())
    return frozenset(re.findall(r"^CREATE TABLE (\w+)", text, re.MULTILINE))
