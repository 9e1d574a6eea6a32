"""Calls whose types a checker would get wrong: plain task functions in workflow code (:func:`run_task`), asynchronous
ones and workflows in graphs (:func:`add_task`)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, overload

from headrace.authoring.builder import Dag
from headrace.authoring.tasks import TaskFunction, call_listener
from headrace.durable.access import run_or_none
from headrace.durable.workflow import WorkflowFunction

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


@overload
def add_task(task: WorkflowFunction[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
@overload
def add_task(task: TaskFunction[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
@overload
def add_task(task: TaskFunction[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
def add_task(task: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Add a task to the graph that is being built: ``receipt = add_task(approved, order)``. Returns its node.

    The same as ``task(...)`` there, whose type checkers see what the function itself returns: for an ``async`` function
    or a workflow that is something to await, which no other task takes. Raises ``TypeError`` for what is neither a
    ``@task`` nor a ``@workflow`` function, and outside of ``with dag(...)``.
    """
    graph: Any = call_listener.get()
    if not isinstance(task, TaskFunction | WorkflowFunction):
        raise TypeError(f"add_task takes a @task or @workflow function, not {task!r}")
    if not isinstance(graph, Dag):
        raise TypeError(
            f"add_task({task!r}, ...) describes a task of a graph: call it inside `with dag(...)`; in workflow code "
            "await the call itself"
        )
    if isinstance(task, WorkflowFunction):
        return task.add_to(graph, *args, **kwargs)
    return task(*args, **kwargs)


async def _plainly(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    result = function(*args, **kwargs)
    return await result if inspect.isawaitable(result) else result
