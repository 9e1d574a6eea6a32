"""Executor ``database``: functions that write into the database of the engine's own store, exactly once.

The function runs in a thread, inside a transaction that also holds its outcome; see
:func:`headrace.durable.database.database_task`. Only for stores that can do that (SQLite).
"""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import msgspec

from headrace.contracts.current import AttemptInfo, attempt_var
from headrace.contracts.database import connection_var
from headrace.contracts.execution import Attempt, AttemptError, AttemptLog, CompletesLater
from headrace.contracts.outcome import encode_output, tame

OUTPUT_BYTES_MAX = 1024 * 1024
"""The largest output of a database task, as JSON: it is written with the rows."""

Transact = Callable[[str, str, Callable[[Any], bytes]], Awaitable[bytes]]
"""Given a run, a task (``task`` or ``task[item]``) and a function of a connection: run the function in a transaction that
keeps what it returns; or return what an earlier one kept."""


class DatabaseExecutor:
    """One function at a time: they all need the same lock. Safe to cancel: the transaction is rolled back, unless its
    commit has begun; then the next attempt finds its outcome."""

    name: ClassVar[str] = "database"

    def __init__(self, transact: Transact) -> None:
        self._transact = transact

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self) -> None:
        """Nothing to stop: calls live in their callers' tasks."""

    async def call(
        self, target: str, function: Callable[..., Any], args: dict[str, Any], attempt: Attempt, log: AttemptLog
    ) -> Any:
        """Call in a transaction; return its outcome, or that of an earlier call whose transaction was committed."""
        info = AttemptInfo(attempt, log)
        context = contextvars.copy_context()

        def invoke(connection: Any) -> Any:
            attempt_var.set(info)
            connection_var.set(connection)
            return function(**args)

        def work(connection: Any) -> bytes:
            try:
                output = encode_output(context.run(invoke, connection))
            except CompletesLater:
                raise AttemptError(
                    "bad_result", f"{target} is a database task: nobody else can complete it", retryable=False
                ) from None
            except BaseException as error:
                raise tame(error) from error
            if len(output) > OUTPUT_BYTES_MAX:
                raise AttemptError(
                    "result_too_large",
                    f"{target} returned {len(output):,} bytes of JSON, a database task at most {OUTPUT_BYTES_MAX:,}",
                    retryable=False,
                )
            return output

        name = attempt.task if attempt.item is None else f"{attempt.task}[{attempt.item}]"
        try:
            return msgspec.json.decode(await self._transact(attempt.run_id, name, work))
        finally:
            info.mark_cancelled()
