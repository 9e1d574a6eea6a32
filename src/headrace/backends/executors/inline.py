"""Executor ``inline``: coroutines on the engine's own event loop.

The cheapest way to run work that waits. A plain function may be run here too, and then blocks the whole node while it
runs: right for microseconds, wrong for anything else.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from types import CoroutineType
from typing import Any, ClassVar

from headrace.contracts.current import AttemptInfo, attempt_var
from headrace.contracts.execution import Attempt, AttemptLog
from headrace.contracts.outcome import tame


class InlineExecutor:
    """Awaits coroutine functions in the caller's task. Safe to cancel: the coroutine is cancelled."""

    name: ClassVar[str] = "inline"

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self) -> None:
        """Nothing to stop: calls live in their callers' tasks."""

    async def call(
        self, target: str, function: Callable[..., Any], args: dict[str, Any], attempt: Attempt, log: AttemptLog
    ) -> Any:
        """Call and, if the result is awaitable, await it."""
        info = AttemptInfo(attempt, log)
        token = attempt_var.set(info)
        try:
            result = function(**args)
            if type(result) is CoroutineType or inspect.isawaitable(result):
                result = await result
            return result
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling() == 0:
                raise tame(error) from error  # nobody asked: the user's code raised it
            info.mark_cancelled()
            raise
        except (SystemExit, StopIteration, GeneratorExit) as error:
            raise tame(error) from error
        finally:
            attempt_var.reset(token)
