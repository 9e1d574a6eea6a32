"""Executor ``database``: functions that write into the database of the engine's own store, exactly once.

The function runs inside a transaction that also holds its outcome; see
:func:`headrace.durable.database.database_task`. With SQLite it is a plain function and runs in a thread, with PostgreSQL
and MySQL a coroutine function on the engine's loop.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, ClassVar

import msgspec

from headrace.contracts.current import AttemptInfo, attempt_var
from headrace.contracts.database import connection_var
from headrace.contracts.execution import Attempt, AttemptError, AttemptLog, CompletesLater
from headrace.contracts.outcome import encode_output, tame

OUTPUT_BYTES_MAX = 1024 * 1024
"""The largest output of a database task, as JSON: it is written with the rows."""

Transact = Callable[[str, str, Callable[[Any], Any]], Awaitable[bytes]]
"""Given a run, a task (``task`` or ``task[item]``) and a function of a connection: run the function in a transaction that
keeps the bytes that it returns; or return what an earlier one kept."""


class DatabaseExecutor:
    """One function at a time: they all need the same lock, or connection. Safe to cancel: the transaction is rolled back,
    unless its commit has begun; then the next attempt finds its outcome. ``waits``: functions are coroutine functions."""

    name: ClassVar[str] = "database"

    def __init__(self, transact: Transact, *, waits: bool) -> None:
        self._transact = transact
        self.waits = waits

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
            with _failures_of(target):
                return _encoded(context.run(invoke, connection), target)

        async def work_later(connection: Any) -> bytes:
            with _failures_of(target):
                tokens = attempt_var.set(info), connection_var.set(connection)
                try:
                    result = await function(**args)
                finally:
                    attempt_var.reset(tokens[0])
                    connection_var.reset(tokens[1])
                return _encoded(result, target)

        name = attempt.task if attempt.item is None else f"{attempt.task}[{attempt.item}]"
        try:
            kept = await self._transact(attempt.run_id, name, work_later if self.waits else work)
            return msgspec.json.decode(kept)
        finally:
            info.mark_cancelled()


@contextmanager
def _failures_of(target: str) -> Generator[None]:
    """What a function raises, as an outcome."""
    try:
        yield
    except CompletesLater:
        raise AttemptError(
            "bad_result", f"{target} is a database task: nobody else can complete it", retryable=False
        ) from None
    except asyncio.CancelledError as error:
        task = _current_task()
        if task is not None and task.cancelling():
            raise
        raise tame(error) from error  # nobody asked: the user's code raised it
    except BaseException as error:
        raise tame(error) from error


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # a thread
        return None


def _encoded(result: Any, target: str) -> bytes:
    output = encode_output(result)
    if len(output) > OUTPUT_BYTES_MAX:
        raise AttemptError(
            "result_too_large",
            f"{target} returned {len(output):,} bytes of JSON, a database task at most {OUTPUT_BYTES_MAX:,}",
            retryable=False,
        )
    return output
