"""The ``@workflow`` decorator, and what a run needs to know about its function."""

from __future__ import annotations

import copy
import functools
import hashlib
import inspect
from collections.abc import Callable, Coroutine, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, ParamSpec, TypeVar, get_args, get_origin, get_type_hints, overload

import msgspec

from headrace.authoring.builder import Dag
from headrace.authoring.convert import to_duration, to_labels, to_retries, to_timeouts
from headrace.authoring.tasks import TaskFunction, call_listener, checked_retries, script_file
from headrace.contracts.converters import convert
from headrace.contracts.interceptor import Interceptors
from headrace.contracts.unions import readable
from headrace.core import spec as core
from headrace.core.durations import parse_duration
from headrace.core.errors import Problem
from headrace.durable.access import run_or_none
from headrace.durable.run import CodeRun, calling_place
from headrace.durable.running import plain
from headrace.durable.start import DEFAULT_START, OnConflict, OnReuse, StartOptions

P = ParamSpec("P")
R = TypeVar("R")

_PARAM_TYPES: dict[Any, core.ParamType] = {
    str: "str",
    int: "int",
    float: "float",
    bool: "bool",
    list: "list",
    dict: "dict",
}
"""Annotations that are checked when a run is started, and tell how the text of a command line is meant."""

_NAMELESS: dict[Any, tuple[str, str]] = {
    inspect.Parameter.POSITIONAL_ONLY: ("parameter {!r} is positional-only", "remove the `/`"),
    inspect.Parameter.VAR_POSITIONAL: ("it takes any number of arguments as *{}", "take one list"),
    inspect.Parameter.VAR_KEYWORD: ("it takes arguments of any name as **{}", "take one dict"),
}
"""Parameters whose arguments have no name of their own: what is wrong, and what to do."""

_JSON_TYPES = (inspect.Parameter.empty, Any, None, type(None), str, int, float, bool, list, dict, object)


class WorkflowFunction(Generic[P, R]):
    """A code workflow.

    Called inside another workflow's code it runs as a child; called anywhere else it is the plain function. ``spec`` is
    what the engine stores; ``target`` the name other processes import it by.
    """

    is_code_workflow: ClassVar[bool] = True
    """By this the loader of Python files knows it."""

    def __init__(
        self, function: Callable[P, Coroutine[Any, Any, R]], *, name: str | None, options: dict[str, Any]
    ) -> None:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(
                f"@workflow decorates an `async def` function; {getattr(function, '__name__', function)!r} is not one. "
                "Synchronous code cannot wait durably; put blocking work into @task functions"
            )
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind in _NAMELESS:
                what, remedy = _NAMELESS[parameter.kind]
                raise TypeError(
                    f"workflow {function.__name__}: {what.format(parameter.name)}, but parameters are stored by name; "
                    f"{remedy}"
                )
        self.function = function
        self._name = name or function.__name__
        self._options = options
        self.start_options = DEFAULT_START
        functools.update_wrapper(self, function)

    def options(
        self,
        *,
        key: str | None = None,
        on_conflict: OnConflict = "fail",
        on_reuse: OnReuse = "allow",
        tags: dict[str, str] | None = None,
        attributes: dict[str, Any] | None = None,
        memo: dict[str, Any] | None = None,
    ) -> WorkflowFunction[P, R]:
        """The same workflow, to be started with these: ``await hr.start(order.options(key="order-42"), o)``. See
        :class:`~headrace.durable.start.StartOptions`. Raises :class:`InvalidCommand` for what cannot be meant."""
        changed = copy.copy(self)
        changed.start_options = StartOptions(
            key=key,
            on_conflict=on_conflict,
            on_reuse=on_reuse,
            tags=tags or {},
            attributes=attributes or {},
            memo=memo or {},
        ).check()
        return changed

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Run as a child of the calling workflow, as a task of the graph that is being built, or as a plain function
        where there is neither."""
        run = run_or_none()
        if run is None:
            graph: Any = call_listener.get()
            if isinstance(graph, Dag):
                return self.add_to(graph, *args, **kwargs)
            return self.function(*args, **kwargs)
        call = self._as_child(run, run.call_count + 1, self.bind(*args, **kwargs))
        call.__name__ = self._name  # as a step of a saga
        return run.watch(call, self._name, calling_place())

    def add_to(self, graph: Dag, *args: Any, **kwargs: Any) -> Any:
        """A run of this workflow as a task of a graph; returns the task's node."""
        return graph.workflow(self, self._signature.bind(*args, **kwargs).arguments)

    async def _as_child(self, run: CodeRun, number: int, params: dict[str, Any]) -> Any:
        from headrace.durable.context import start_child  # noqa: PLC0415 - context is above

        run.watched.pop(number, None)
        return await start_child(self, params, key=self.start_options.key)

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        """Arguments as the run's parameters: plain values by name. Raises ``TypeError`` like a call would."""
        bound = self._signature.bind(*args, **kwargs)
        return {name: plain(value, f"argument {name!r} of {self._name}") for name, value in bound.arguments.items()}

    @property
    def target(self) -> str:
        """``module:qualname``, or ``path/file.py:qualname`` for scripts."""
        module = self.function.__module__
        file = script_file(module)
        return f"{module if file is None else file}:{self.function.__qualname__}"

    @functools.cached_property
    def _signature(self) -> inspect.Signature:
        return inspect.signature(self.function)

    @functools.cached_property
    def source_dir(self) -> str | None:
        """The folder of the function's file, from which child processes and other engines look for its modules; None for
        code that has no file."""
        path = Path(inspect.unwrap(self.function).__code__.co_filename)
        return str(path.resolve().parent) if path.is_file() else None

    @functools.cached_property
    def spec(self) -> core.CodeSpec:
        """The specification; its version changes with the function's source."""
        return core.CodeSpec(
            name=self._name,
            target=self.target,
            source_hash=source_hash(self.function),
            params=self._params(),
            description=inspect.getdoc(self.function) or "",
            **self._options,
        )

    def _params(self) -> dict[str, core.ParamSpec]:
        params: dict[str, core.ParamSpec] = {}
        hints = type_hints(self.function)
        for name, parameter in self._signature.parameters.items():
            default = msgspec.UNSET if parameter.default is inspect.Parameter.empty else plain(parameter.default)
            kind = _PARAM_TYPES.get(hints.get(name, Any), "any") if default is not None else "any"
            params[name] = core.ParamSpec(type=kind, default=default)
        return params

    @property
    def functions(self) -> dict[str, Any]:
        """Itself by target, for engines that cannot import it."""
        return {self.target: self}

    @functools.cached_property
    def converters(self) -> dict[str, Callable[[Any], Any]]:
        """How parameters become what the annotations say."""
        hints = type_hints(self.function)
        return {
            name: found for name in self._signature.parameters if (found := converter(hints.get(name, Any))) is not None
        }

    def problems(self, params: dict[str, Any]) -> list[Problem]:
        """Which parameters are not of the types that the annotations say, beyond what their ``ParamSpec`` can say."""
        found: list[Problem] = []
        for name, check in self._checks.items():
            if name not in params or (params[name] is None and self.spec.params[name].default is None):
                continue
            try:
                check(params[name])
            except (TypeError, ValueError) as error:  # msgspec's is a ValueError
                found.append(Problem(str(error), path=(name,), hint=self._expected(name)))
        return found

    def read_texts(self, params: dict[str, Any], texts: Mapping[str, Any]) -> None:
        """Put texts of a command line, which were read as JSON where they are JSON, back into ``params`` where the
        annotation says that the text is meant: ``123`` for ``str | None``, every digit of a ``Decimal``."""
        hints = type_hints(self.function)
        for name, text in texts.items():
            value, check = params.get(name), self._checks.get(name)
            spec = self.spec.params.get(name)
            if check is None or spec is None or spec.type != "any" or not isinstance(text, str):
                continue
            if value is None and spec.default is None:
                continue
            kinds = {hints.get(name), *get_args(hints.get(name))}
            is_exact = type(value) in (int, float) and Decimal in kinds and not kinds & {int, float}
            if (is_exact or not _fits(check, value)) and _fits(check, text):
                params[name] = text

    @functools.cached_property
    def _checks(self) -> dict[str, Callable[[Any], Any]]:
        hints = type_hints(self.function)
        checks: dict[str, Callable[[Any], Any]] = dict(self.converters)
        for name in inspect.signature(self.function).parameters:
            hint = hints.get(name, Any)
            is_open = self.spec.params[name].type == "any" and hint in _PARAM_TYPES  # `name: str = None`
            if name not in checks and (hint not in _JSON_TYPES or is_open):
                checks[name] = functools.partial(convert, hint=readable(hint), strict=True)
        return checks

    def _expected(self, name: str) -> str:
        hint = type_hints(self.function).get(name, Any)
        text = getattr(hint, "__name__", str(hint)) if isinstance(hint, type) else str(hint)
        return f"the workflow's parameter {name} is {text}{_for_example(hint)}"

    @functools.cached_property
    def convert_result(self) -> Callable[[Any], R] | None:
        """How the stored result becomes what the annotation says."""
        return converter(type_hints(self.function).get("return", Any))

    def __repr__(self) -> str:
        return f"<workflow {self.target}>"


def _fits(check: Callable[[Any], Any], value: Any) -> bool:
    try:
        check(value)
    except (TypeError, ValueError):
        return False
    return True


_EXAMPLES = {
    date: "2013-01-31",
    datetime: "2013-01-31T06:00:00Z",
    time: "06:00:00Z",
    timedelta: "PT90S",
    Decimal: "1.50",
}


def _for_example(hint: Any) -> str:
    """What a value of an annotated type looks like as text, where that has to be known."""
    for kind in (hint, *get_args(hint)):
        if get_origin(kind) is Literal:
            return f": one of {', '.join(map(str, get_args(kind)))}"
        if isinstance(kind, type) and issubclass(kind, Enum):
            return f": one of {', '.join(str(member.value) for member in kind)}"
        if isinstance(kind, type) and kind in _EXAMPLES:
            return f", for example {_EXAMPLES[kind]}"
    return ""


def source_hash(function: Callable[..., Any]) -> str:
    """16 hex digits that change with the text of the function."""
    try:
        text = inspect.getsource(function)
    except (OSError, TypeError):
        text = function.__code__.co_code.hex() + repr(function.__code__.co_consts)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def type_hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Resolved annotations; none where they cannot be resolved."""
    try:
        return get_type_hints(function)
    except Exception:  # names only known to type checkers
        return {}


def converter(hint: Any) -> Callable[[Any], Any] | None:
    """A conversion from plain values to an annotated type; None when plain values are what it says."""
    origin, args = get_origin(hint), get_args(hint)
    if hint in _JSON_TYPES or (origin is list and args[0] in _JSON_TYPES):
        return None
    if origin is dict and args[0] in (str, Any, object) and args[1] in _JSON_TYPES:
        return None
    known = readable(hint)
    return lambda value: convert(value, known, strict=False)


_SCALARS = frozenset({type(None), int, bool})
"""Types whose values the history gives back as they are, whatever they are."""

KNOWN_TASKS_MAX = 1_000
"""Task objects remembered with their options; ``options(...)`` in a loop makes a new one each time."""


class FunctionShape:
    """What is the same for every call of a function, whatever its options. ``places`` are its places in the binding, by
    executor."""

    __slots__ = ("convert", "parameters", "places", "positional", "signature")

    def __init__(self, function: Callable[..., Any]) -> None:
        self.signature = inspect.signature(function)
        self.parameters = tuple(
            name
            for name, parameter in self.signature.parameters.items()
            if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        )
        self.positional = len(self.parameters) if len(self.parameters) == len(self.signature.parameters) else -1
        """Arguments that may all be given by position; -1 if there are parameters of other kinds."""
        self.convert = converter(type_hints(function).get("return", Any))
        self.places: dict[str | None, int] = {}


class KnownTask:
    """A task function as a run calls it: its place in the binding, its options, its result's type."""

    __slots__ = ("_shape", "base", "convert", "index", "name", "on_cancel", "prefers")

    def __init__(self, task: TaskFunction[..., Any], index: int, base: core.TaskSpec, shape: FunctionShape) -> None:
        self.index = index
        self.base = base
        self.prefers = base.prefers
        self._shape = shape
        self.name = task.defaults.get("id") or task.name
        self.on_cancel = task.defaults.get("on_cancel", "try")
        self.convert = shape.convert

    def named(self, args: dict[str, Any]) -> dict[str, Any]:
        """The same for arguments that have names already."""
        unknown = args.keys() - self._shape.signature.parameters.keys()
        if unknown:
            raise TypeError(f"task {self.name} has no parameter {min(unknown)!r}")
        return {
            name: value if type(value) in _SCALARS else plain(value, f"argument {name!r} of {self.name}")
            for name, value in args.items()
        }

    def given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a call by name, as plain values. Raises ``TypeError`` for those that do not fit."""
        shape = self._shape
        if not kwargs and len(args) == shape.positional:
            given = dict(zip(shape.parameters, args))  # noqa: B905 - the lengths are the same
        else:
            try:
                given = dict(shape.signature.bind(*args, **kwargs).arguments)
            except TypeError as error:
                raise TypeError(f"task {self.name}({', '.join(shape.signature.parameters)}): {error}") from None
        for name, value in given.items():
            if type(value) not in _SCALARS:
                given[name] = plain(value, f"argument {name!r} of {self.name}")
        return given


class Code:
    """What a live run needs: the function, and how to bind the tasks it calls.

    ``bind`` gives a task's place in the engine's binding; it is asked once per task function and executor.
    """

    def __init__(
        self,
        function: WorkflowFunction[..., Any],
        bind: Callable[[core.TaskSpec, TaskFunction[..., Any]], int],
        interceptors: Interceptors | None = None,
    ) -> None:
        self.workflow = function
        self.interceptors = interceptors if interceptors is not None and interceptors.in_workflows else None
        """None if nothing of them runs in workflow code."""
        self.function = function.function
        self._bind = bind
        self.tasks: dict[int, tuple[TaskFunction[..., Any], KnownTask]] = {}
        """Those met so far, by identity: see :meth:`task`."""
        self._shapes: dict[Callable[..., Any], FunctionShape] = {}

    def start(self, params: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        """The function's coroutine."""
        converters = self.workflow.converters
        values = {name: converters[name](value) if name in converters else value for name, value in params.items()}
        return self.function(**values)

    def task(self, task: TaskFunction[..., Any]) -> KnownTask:
        """The task, bound on first use. Raises what binding raises."""
        entry = self.tasks.get(id(task))
        if entry is None or entry[0] is not task:
            if len(self.tasks) >= KNOWN_TASKS_MAX:
                self.tasks.clear()  # what is still in use comes back for little: its shape and place stay
            base = base_spec(task)
            shape = self._shapes.get(task.__headrace_function__)
            if shape is None:
                shape = self._shapes[task.__headrace_function__] = FunctionShape(task.__headrace_function__)
            place = shape.places.get(base.executor)
            if place is None:
                place = shape.places[base.executor] = self._bind(_bindable(base, shape), task)
            entry = self.tasks[id(task)] = (task, KnownTask(task, place, base, shape))
        return entry[1]


def _bindable(base: core.TaskSpec, shape: FunctionShape) -> core.TaskSpec:
    """Binding checks names only; each call brings the values."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    given = {name: None for name, parameter in shape.signature.parameters.items() if parameter.kind in named}
    return msgspec.structs.replace(base, args=given)


def base_spec(task: TaskFunction[..., Any]) -> core.TaskSpec:
    """A task function's options as the engine reads them, without id and arguments."""
    options = task.defaults
    retries = to_retries(options.get("retries"), core.NO_RETRY) if options.get("retries") is not None else None
    timeouts = to_timeouts(options.get("timeout"), core.NO_TIMEOUTS) if options.get("timeout") is not None else None
    prefer_for = options.get("prefer_for")
    return core.TaskSpec(
        id=task.name,
        kind="python",
        config={"function": task.target},
        retries=retries or core.NO_RETRY,
        timeouts=timeouts or core.NO_TIMEOUTS,
        executor=options.get("executor"),
        priority=options.get("priority", 0),
        queue=options.get("queue", core.QUEUE_DEFAULT),
        needs_labels=dict(options.get("needs_labels", {})),
        sticky=options.get("sticky", False),
        prefer_labels=to_labels(options.get("prefer_labels", {})),
        prefer_for=None if prefer_for is None else to_duration(prefer_for),
        at_most_once=options.get("at_most_once", False),
    )


@overload
def workflow(function: Callable[P, Coroutine[Any, Any, R]], /) -> WorkflowFunction[P, R]: ...
@overload
def workflow(
    *,
    name: str | None = None,
    timeout: str | float | None = None,
    execution_timeout: str | float | None = None,
    tags: tuple[str, ...] = (),
    retries: int | core.RetryPolicy | None = None,
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], WorkflowFunction[P, R]]: ...
def workflow(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    timeout: str | float | None = None,
    execution_timeout: str | float | None = None,
    tags: tuple[str, ...] = (),
    retries: int | core.RetryPolicy | None = None,
) -> Any:
    """Make an ``async`` function a durable workflow: ``@workflow`` or ``@workflow(timeout="7d")``.

    ``timeout`` bounds a run, ``execution_timeout`` a run with all that follow it by retries or continuation. ``retries``
    (a number or a policy) starts a failed run again as a new one, with the same parameters and key, after a back-off. A
    workflow that raises fails: it is not retried unless asked for.
    """
    options: dict[str, Any] = {"tags": tuple(tags)}
    for bound, given in (("timeout", timeout), ("execution_timeout", execution_timeout)):
        if given is not None:
            try:
                options[bound] = parse_duration(given)
            except ValueError as error:
                raise ValueError(f"{bound}: {error}; leave it out for no limit") from None
    if retries is not None:
        options["retries"] = checked_retries(retries)

    def decorate(decorated: Any) -> Any:
        return WorkflowFunction(decorated, name=name, options=options)

    return decorate if function is None else decorate(function)


__all__ = ["Code", "CodeRun", "KnownTask", "WorkflowFunction", "workflow"]
