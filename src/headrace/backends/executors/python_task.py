"""Task kind ``python``: call a function."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

import msgspec

from headrace.backends.executors.arguments import Convert, misfits, plan_conversion
from headrace.backends.executors.settings import check_config, has_template
from headrace.backends.executors.targets import resolve
from headrace.contracts.database import DATABASE
from headrace.contracts.execution import Attempt, AttemptLog, BindContext
from headrace.core.errors import InvalidDefinition, Problem
from headrace.core.spec import TaskSpec

_Call = Callable[[str, Callable[..., Any], dict[str, Any], Attempt, AttemptLog], Coroutine[Any, Any, Any]]


class PythonConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``function``: ``module:qualname`` or ``path/file.py:qualname``, looked up from the workflow's folder first."""

    function: str


class BoundPython:
    """A function, its conversions and its executor, ready to be called: for any task that names them."""

    __slots__ = ("_call", "_context", "_convert", "_function", "_target", "executor")

    def __init__(
        self,
        executor: str,
        call: _Call,
        target: str,
        function: Callable[..., Any],
        convert: Convert | None,
        context: BindContext,
    ) -> None:
        self.executor = executor
        self._call = call
        self._target = target
        self._function = function
        self._convert = convert
        self._context = context

    @property
    def portable(self) -> bool:
        """Whether another process can find the function by its name."""
        return not self._target.startswith("__main__:") and "<locals>" not in self._target

    def run(self, attempt: Attempt) -> Coroutine[Any, Any, Any]:
        """Call the function once. No coroutine of its own: this is the hot path of in-process work."""
        args = attempt.args
        for value in args.values():
            if type(value) is list or type(value) is dict:
                # They belong to the definition, to another task's output or to the item: the function may change its
                # own copy, not what a retry, another task or the view will see.
                args = {name: copied(part) for name, part in args.items()}
                break
        if self._convert is not None:
            args = self._convert(args)
        return self._call(self._target, self._function, args, attempt, self._context.log(attempt))


class PythonTask:
    """Calls a Python function with the task's ``with`` as keyword arguments.

    Coroutine functions run on executor ``inline``, plain functions on ``thread``, unless the task names one.
    ``inline`` with a plain function is allowed and blocks the engine while it runs.
    """

    name: ClassVar[str] = "python"
    shorthand: ClassVar[str | None] = "function"
    Config: ClassVar[type[msgspec.Struct]] = PythonConfig

    def bind(self, task: TaskSpec, context: BindContext) -> BoundPython:
        """Import the function and check that its parameters fit."""
        if has_template(task.config.get("function")):
            raise InvalidDefinition(
                [
                    Problem(
                        "the function's name cannot be a template: it is imported before a run starts",
                        path=("tasks", task.id, task.kind, "function"),
                        hint="choose inside one function, or use several tasks with `when`",
                    )
                ]
            )
        config = check_config(task, PythonConfig)
        assert config is not None
        target = config.function
        key = (PythonTask.name, target, task.executor, *task.args)
        bound: BoundPython | None = context.memo.get(key)
        if bound is None:
            bound = context.memo[key] = self._bind(task, target, context)
        return bound

    @staticmethod
    def _bind(task: TaskSpec, target: str, context: BindContext) -> BoundPython:
        """The same for all tasks with this function, executor and argument names."""
        function = resolve(target, context.source_dir, context.functions)
        problems = [
            Problem(message, path=("tasks", task.id, "with", name), hint=hint)
            for name, message, hint in misfits(function, task.args)
        ]
        own = getattr(function, "__headrace_executor__", None)
        executor = task.executor or own or ("inline" if _is_coroutine_function(function) else "thread")
        problems += _executor_problems(task, executor, target, function, context)
        if problems:
            raise InvalidDefinition(problems, source=f"task {task.id!r}")
        # Across a process border plain values travel; the child converts them.
        convert = None if executor == "process" else plan_conversion(function, target)
        return BoundPython(executor, context.executors[executor].call, target, function, convert, context)


def copied(value: Any) -> Any:
    """A plain value with containers of its own."""
    if type(value) is list:
        return [copied(part) for part in value]
    if type(value) is dict:
        return {name: copied(part) for name, part in value.items()}
    return value


def _executor_problems(
    task: TaskSpec, executor: str, target: str, function: Callable[..., Any], context: BindContext
) -> list[Problem]:
    path = ("tasks", task.id, "executor")
    own = getattr(function, "__headrace_executor__", None)
    if DATABASE in (executor, own) and executor != own:
        message = (
            f"{target!r} runs on executor {executor!r}, but only database tasks run on {DATABASE!r}, and only there"
        )
        return [Problem(message, path=path, hint="decorate it with @database_task, or leave the executor out")]
    if executor == DATABASE and DATABASE not in context.executors:
        message = f"{target!r} is a database task, and this store cannot run any"
        return [Problem(message, path=path, hint="use a store on SQLite, PostgreSQL or MySQL: sqlite:///jobs.db")]
    if executor == DATABASE:
        return _database_problems(target, function, context, path)
    if executor not in context.executors:
        close = difflib.get_close_matches(executor, context.executors, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(sorted(context.executors))}"
        return [Problem(f"there is no executor {executor!r} for python tasks", path=path, hint=hint)]
    if executor == "process" and (
        target.startswith("__main__:") or "<locals>" in getattr(function, "__qualname__", "<locals>")
    ):
        return [
            Problem(
                f"{target!r} cannot be imported by another process",
                path=path,
                hint="move the function to the top level of a module, or use executor `thread`",
            )
        ]
    return []


def _database_problems(
    target: str, function: Callable[..., Any], context: BindContext, path: tuple[str, ...]
) -> list[Problem]:
    waits: bool = getattr(context.executors[DATABASE], "waits", False)
    if waits == _is_coroutine_function(function):
        return []
    if waits:
        message = f"{target!r} is a plain function, and the connections of this store are asynchronous"
        return [Problem(message, path=path, hint="make it `async def`, and await what it asks of its connection")]
    message = f"{target!r} is a coroutine function, and a database task on SQLite holds a lock and must not wait"
    return [Problem(message, path=path, hint="make it a plain function: `def`, with a sqlite3.Connection")]


def _is_coroutine_function(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - the method itself is wanted: an object with async __call__
    )
