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
from typing import Any

from headrace.backends.stores import task_transactions as words
from headrace.backends.stores.mysql_connections import Connection, session_settings
from headrace.backends.stores.mysql_errors import DRIVER_ERRORS, code_of, state_of
from headrace.backends.stores.mysql_text import call
from headrace.backends.stores.server_transaction import ServerTransaction

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


class Transaction(ServerTransaction[Connection]):
    """See :class:`~headrace.backends.stores.server_transaction.ServerTransaction`."""

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
        output = await self._call(TaskConnection(db.driver), is_new=is_new, give_up=db.terminate)
        finish = b"RELEASE SAVEPOINT headrace_task;" + call("finish_task_1", *self._who, output)
        try:
            await db.run(finish + b";SET SESSION wait_timeout=28800")
        except DRIVER_ERRORS as error:
            if code_of(error) == _NO_SAVEPOINT or state_of(error) == "HR007":
                raise words.ended_by_function() from error
            raise
        return output


async def _roll_back(db: Connection) -> None:
    """If that cannot be done, the session ends, which is the same."""
    if db.is_closed():
        return
    try:
        await db.run(b"ROLLBACK;SET SESSION wait_timeout=28800")
    except DRIVER_ERRORS:
        db.terminate()
