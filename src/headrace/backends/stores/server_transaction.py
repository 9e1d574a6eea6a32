"""A database task's transaction on a server, as far as it is the same on all of them: when it is tried again, and how the
user's function is called. The statements are each server's own, and what goes wrong is worded in
:mod:`headrace.backends.stores.task_transactions`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from headrace.backends.stores import task_transactions as words
from headrace.backends.stores.database_pool import Pool, Session
from headrace.core.errors import StoreUnavailable
from headrace.core.ids import Epoch, NodeId, RunId

Work = Callable[[Any], Awaitable[bytes]]
"""The function: it writes, and returns the outcome as JSON."""

C = TypeVar("C", bound=Session)


class ServerTransaction(ABC, Generic[C]):
    """One attempt at a database task. Cancelled, it is rolled back unless the commit has begun. ``shown``: the server's
    address without secrets."""

    def __init__(self, shown: str, node: NodeId, epoch: Epoch, run_id: RunId, task: str, work: Work) -> None:
        self._shown = shown
        self._who = node, epoch, run_id, task
        self._work = work
        self._has_run = False
        self._may_be_committed = False

    async def run(self, connections: Pool[C]) -> bytes:
        """The outcome, stored before or now; durable on return. Raises what the function raises, and :class:`Fenced`."""
        try:
            return await self._try(connections)
        except StoreUnavailable:
            if self._has_run and not self._may_be_committed:
                raise
            return await self._try(connections)  # the code has not run, or we look what became of it

    async def _try(self, connections: Pool[C]) -> bytes:
        try:
            return await connections.call(self._transact)
        except words.RaisedInTask as raised:
            raise raised.error from raised.error.__cause__

    @abstractmethod
    async def _transact(self, db: C) -> bytes:
        """Begin, :meth:`_call` unless the outcome is known, write the outcome, commit; or roll back."""

    async def _call(self, connection: Any, *, is_new: bool, give_up: Callable[[], None] = lambda: None) -> bytes:
        """Call the function with what it gets for a connection; its commit may begin on return. ``is_new``: whether the
        outcome's row was written just now. ``give_up`` is called if the function takes too long."""
        if not is_new:
            raise words.ended_earlier(*self._who[2:])
        if self._has_run:
            raise words.not_committed(self._shown)
        self._has_run = True
        bound = asyncio.timeout(words.TRANSACTION_SECONDS_MAX)
        try:
            async with bound:
                output = await self._work(connection)
        except Exception as error:
            if bound.expired():
                give_up()
                raise words.RaisedInTask(words.overdue()) from error
            raise words.RaisedInTask(error) from error
        if bound.expired():  # and the function has swallowed it
            give_up()
            raise words.overdue()
        self._may_be_committed = True
        return output
