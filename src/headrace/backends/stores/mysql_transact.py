"""Database tasks on MySQL: a user's writes and the outcome of the task that made them, in one transaction.

The function is a coroutine function and gets the driver's connection (``asyncmy.Connection``), in a transaction that has
begun. The outcome's row is written first, without an output, and gets it in the packet that commits, which also takes the
fence. So:

- whoever runs the task again finds the outcome and runs no code; meanwhile it waits for the row;
- the lease is locked for one round trip, however long the function takes;
- a function that ended its transaction (any change of a table does) is found out: its savepoint is gone. What it has
  committed holds the row without an output, which says so for ever;
- if the connection breaks during the commit, the row tells what became of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from headrace.backends.stores import task_transactions as words
from headrace.backends.stores.mysql_connections import Connection, Connections, session_settings
from headrace.backends.stores.mysql_errors import DRIVER_ERRORS, code_of, state_of
from headrace.backends.stores.mysql_text import call
from headrace.backends.stores.mysql_url import Place
from headrace.core.errors import StoreUnavailable
from headrace.core.ids import Epoch, NodeId, RunId

Work = Callable[[Any], Awaitable[bytes]]
"""The function: it writes, and returns the outcome as JSON."""

_NO_SAVEPOINT = 1305
_FORBIDDEN = frozenset({"begin", "commit", "rollback", "autocommit", "close", "ensure_closed", "connect"})
_ROW_SECONDS = int(words.TRANSACTION_SECONDS_MAX) + 2
"""How long a statement waits for a row: a transaction that was given up lasts as long as its session may be idle."""


class TaskConnection:
    """The driver's connection without what would end the transaction: a habit of its users."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def __getattr__(self, name: str) -> Any:  # Any: whatever the driver has
        if name in _FORBIDDEN:
            raise words.ended_by_function()
        return getattr(self._driver, name)


class Transaction:
    """One attempt at a database task. Cancelled, it is rolled back unless the commit has begun."""

    def __init__(self, place: Place, node: NodeId, epoch: Epoch, run_id: RunId, task: str, work: Work) -> None:
        self._place = place
        self._who = node, epoch, run_id, task
        self._work = work
        self._has_run = False
        self._may_be_committed = False

    async def run(self, connections: Connections) -> bytes:
        """The outcome, stored before or now; durable on return. Raises what the function raises, and :class:`Fenced`."""
        try:
            return await self._try(connections)
        except StoreUnavailable:
            if self._has_run and not self._may_be_committed:
                raise
            return await self._try(connections)  # the code has not run, or we look what became of it

    async def _try(self, connections: Connections) -> bytes:
        try:
            return await connections.call(self._transact)
        except words.RaisedInTask as raised:
            raise raised.error from raised.error.__cause__

    async def _transact(self, db: Connection) -> bytes:
        try:
            return await self._outcome(db)
        except asyncio.CancelledError:
            db.terminate()  # in the middle of a conversation
            raise
        except BaseException:
            await _roll_back(db)
            raise

    async def _outcome(self, db: Connection) -> bytes:
        settings = session_settings(_ROW_SECONDS) + b";SET SESSION wait_timeout=%d;" % words.TRANSACTION_SECONDS_MAX
        found = await db.rows(settings + call("begin_task_1", *self._who) + b";SAVEPOINT headrace_task")
        is_new, stored = found[0]
        if stored is not None:
            await _roll_back(db)
            return stored
        if not is_new:
            raise words.ended_earlier(*self._who[2:])
        if self._has_run:
            raise words.not_committed(self._place.shown)
        self._has_run = True
        output = await self._call(db)
        self._may_be_committed = True
        finish = b"RELEASE SAVEPOINT headrace_task;" + call("finish_task_1", *self._who, output)
        try:
            await db.run(finish + b";SET SESSION wait_timeout=28800")
        except DRIVER_ERRORS as error:
            if code_of(error) == _NO_SAVEPOINT or state_of(error) == "HR007":
                raise words.ended_by_function() from error
            raise
        return output

    async def _call(self, db: Connection) -> bytes:
        bound = asyncio.timeout(words.TRANSACTION_SECONDS_MAX)
        try:
            async with bound:
                output = await self._work(TaskConnection(db.driver))
        except Exception as error:
            if bound.expired():
                db.terminate()
                raise words.RaisedInTask(words.overdue()) from error
            raise words.RaisedInTask(error) from error
        if bound.expired():  # and the function has swallowed it
            db.terminate()
            raise words.overdue()
        return output


async def _roll_back(db: Connection) -> None:
    """If that cannot be done, the session ends, which is the same."""
    if db.is_closed():
        return
    try:
        await db.run(b"ROLLBACK;SET SESSION wait_timeout=28800")
    except DRIVER_ERRORS:
        db.terminate()
