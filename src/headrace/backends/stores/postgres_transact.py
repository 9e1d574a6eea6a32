"""Database tasks on PostgreSQL: a user's writes and the outcome of the task that made them, in one transaction.

The function is a coroutine function and gets the driver's connection (``asyncpg.Connection``), in a transaction that has
begun. The outcome's row is written first, without an output, and gets it in the transaction's last statement, which also
takes the fence. So:

- whoever runs the task again finds the outcome and runs no code; meanwhile it waits for the row;
- the lease is locked for two round trips, however long the function takes;
- a function that ended its transaction is found out: the last statement asks for the transaction's id. What it has
  committed holds the row without an output, which says so for ever;
- if the connection breaks during the commit, the row tells what became of it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from headrace.backends.stores import task_transactions as words
from headrace.backends.stores.postgres_connections import CLOSE_SECONDS, Connection
from headrace.backends.stores.postgres_errors import DRIVER_ERRORS, sqlstate_of
from headrace.backends.stores.postgres_history import call_text
from headrace.backends.stores.postgres_url import Place
from headrace.backends.stores.server_transaction import ServerTransaction, Work
from headrace.core.ids import Epoch, NodeId, RunId


class Transaction(ServerTransaction[Connection]):
    """See :class:`~headrace.backends.stores.server_transaction.ServerTransaction`."""

    def __init__(self, place: Place, node: NodeId, epoch: Epoch, run_id: RunId, task: str, work: Work) -> None:
        super().__init__(place.shown, node, epoch, run_id, task, work)
        self._place = place

    async def _transact(self, db: Connection) -> bytes:
        driver: Any = db
        transaction = driver.transaction(isolation="read_committed")
        try:
            await transaction.start()
            output = await self._outcome(db)
            await transaction.commit()
        except BaseException:
            await self._clean(db, transaction)
            raise
        await self._clean(db)
        return output

    async def _outcome(self, db: Connection) -> bytes:
        begin = call_text(self._place.schema, "begin_task_1", 5).replace("SELECT ", "SELECT * FROM ", 1)
        is_new, stored, transaction_id = await db.fetchrow(begin, *self._who, int(words.TRANSACTION_SECONDS_MAX))
        if stored is not None:
            return stored.encode()
        output = await self._call(db, is_new=is_new)
        finish = call_text(self._place.schema, "finish_task_1", 6)
        try:
            await db.fetchval(finish, *self._who, output.decode(), transaction_id)
        except asyncpg.PostgresError as error:
            match sqlstate_of(error):
                case "HR007":
                    raise words.ended_by_function() from error
                case "25P02":
                    raise words.went_on_after_error() from error
                case _:
                    raise
        return output

    async def _clean(self, db: Connection, transaction: Any = None) -> None:
        """Roll back, and leave nothing of the user's in the session; if that cannot be done, the session ends."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                if transaction is not None and not db.is_closed():
                    await _roll_back(transaction)
                if not self._place.pooled and not db.is_closed():
                    await db.reset()
        except DRIVER_ERRORS:
            db.terminate()
        except BaseException:
            db.terminate()
            raise


async def _roll_back(transaction: Any) -> None:
    try:
        await transaction.rollback()
    except asyncpg.InterfaceError:  # it has not begun, or has failed to end: the reset does the rest
        return
