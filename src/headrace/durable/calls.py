"""Calling plain (synchronous) task functions from workflow code: :func:`run_task`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, overload

from headrace.authoring.tasks import TaskFunction
from headrace.durable.access import run_or_none

P = ParamSpec("P")
R = TypeVar("R")


@overload
def run_task(
    task: TaskFunction[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
) -> Coroutine[Any, Any, R]: ...
@overload
def run_task(task: TaskFunction[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]: ...
def run_task(task: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Call a task and await its result: ``total = await run_task(add_up, rows)``.

    The same as ``await task(...)``, whose type checkers see what the function itself returns: for an ``async`` function
    that is something to await, for a plain one it is not. Outside of workflow code the function just runs, in the
    caller's thread. Raises ``TypeError`` for what is no ``@task`` function.
    """
    if not isinstance(task, TaskFunction):
        raise TypeError(f"run_task takes a @task function, not {task!r}")
    if run_or_none() is not None:
        return task(*args, **kwargs)
    return _plainly(task.__headrace_function__, args, kwargs)


async def _plainly(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    result = function(*args, **kwargs)
    return await result if inspect.isawaitable(result) else result
