"""The ``@task`` decorator.

A decorated function stays a function: called, it runs. Only where somebody listens (a ``with dag(...)`` block, or a
durable code workflow) does a call become a task; whoever listens sets :data:`call_listener`.
"""

from __future__ import annotations

import datetime
import functools
import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Generic, Literal, ParamSpec, Protocol, TypedDict, TypeVar, Unpack, cast, get_args, overload

import msgspec

from headrace.authoring.convert import Wrong, to_retries, to_timeouts
from headrace.core.durations import parse_duration
from headrace.core.retry import policy_problems
from headrace.core.spec import (
    LABELS_RESERVED,
    NO_RETRY,
    NO_TIMEOUTS,
    PREFER_SECONDS_MAX,
    RetryPolicy,
    Timeouts,
    TriggerRule,
)
from headrace.core.suggest import did_you_mean

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Options = TypeVar("Options", bound="NodeOptions")

Duration = str | float | datetime.timedelta
"""Seconds, ``"5m"`` or a ``timedelta``."""


class NodeOptions(TypedDict, total=False):
    """How a task runs, in Python's words for the keys of YAML."""

    needs: Any  # a node, an id, or a list of them; nodes are defined on a higher shelf
    trigger: TriggerRule | str
    when: Any  # text, a bool, or a reference
    max_parallel: int | None
    max_items: int
    retries: int | RetryPolicy | Mapping[str, Any] | None
    timeout: Duration | Timeouts | Mapping[str, Any] | None
    executor: str | None
    priority: int
    queue: str
    needs_labels: Mapping[str, str]
    sticky: bool
    prefer_labels: Mapping[str, str]
    prefer_for: Duration | None
    at_most_once: bool
    allow_failure: bool
    tags: str | Sequence[str]
    description: str


OnCancel = Literal["try", "wait", "abandon"]
"""What becomes of a call from workflow code whose awaiting is cancelled. ``try``: its attempt is told to stop and nobody
waits for it. ``wait``: it is told to stop, and the cancellation goes on when it has. ``abandon``: it runs to its end,
even beyond its run's, and nobody hears of it."""


class TaskOptions(NodeOptions, total=False):
    """The same, the task's id, where it is not given otherwise, and what only code workflows look at."""

    id: str
    on_cancel: OnCancel


OPTION_NAMES = frozenset(TaskOptions.__annotations__) | frozenset(NodeOptions.__annotations__)


class CallListener(Protocol):
    """Whoever turns calls of task functions into tasks."""

    def call(self, task: TaskFunction[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Stand in for a call; the result goes to the caller."""
        ...

    def map(self, task: TaskFunction[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Stand in for ``task.map(...)``."""
        ...


call_listener: ContextVar[CallListener | None] = ContextVar("headrace_call_listener", default=None)
"""Who listens to calls of task functions in this context; None: they just run."""


class TaskFunction(Generic[P, R_co]):
    """A function that can be a task.

    ``defaults`` are the options given to the decorator; ``target`` is the name by which other processes import it:
    ``module:qualname``, or ``path/file.py:qualname`` when its module is a script.
    """

    def __init__(self, function: Callable[P, R_co], defaults: TaskOptions) -> None:
        if not callable(function):
            raise TypeError(f"@task decorates a function, not {function!r}")
        self.__headrace_function__ = function
        self.defaults = defaults
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run the function; or, where somebody listens, become a task."""
        listener = call_listener.get()
        if listener is None:
            return self.__headrace_function__(*args, **kwargs)
        return listener.call(self, args, kwargs)

    def map(self, *args: Any, **kwargs: Any) -> Any:
        """A task that runs once per item.

        Exactly one argument is mapped over: the one that is a list or the output of a task. Where several are, name
        it by wrapping it in :func:`each`. All others are the same for every item.
        """
        listener = call_listener.get()
        if listener is None:
            message = f"{self.name}.map(...) describes a task and needs a workflow around it"
            raise TypeError(f"{message}: call it inside `with dag(...)`")
        return listener.map(self, args, kwargs)

    def options(self, **options: Unpack[TaskOptions]) -> TaskFunction[P, R_co]:
        """The same function with other options, for one call: ``load.options(id="load_eu", retries=5)(rows)``."""
        merged: TaskOptions = {**self.defaults, **_checked_bounds(checked_options(options))}
        return TaskFunction(self.__headrace_function__, merged)

    @property
    def name(self) -> str:
        """The function's own name, the id of its first task."""
        return getattr(self.__headrace_function__, "__name__", "task")

    @property
    def target(self) -> str:
        """The name other processes import it by."""
        function = inspect.unwrap(self.__headrace_function__)
        module = getattr(function, "__module__", None) or "__main__"
        qualname = getattr(function, "__qualname__", self.name)
        file = script_file(module)
        return f"{module if file is None else file}:{qualname}"

    @property
    def file(self) -> Path | None:
        """The script the function is defined in; None for importable modules."""
        return script_file(getattr(inspect.unwrap(self.__headrace_function__), "__module__", None) or "__main__")

    def __repr__(self) -> str:
        return f"<task {self.target}>"


def script_file(module_name: str) -> Path | None:
    """The file of a module that no other process can import by name: ``__main__``, or a file loaded by its path."""
    module = sys.modules.get(module_name)
    file = getattr(module, "__file__", None)
    is_script = module_name == "__main__" or getattr(module, "__headrace_script__", False)
    return Path(file).resolve() if is_script and file else None


def checked_options(options: Options) -> Options:
    """Refuse unknown options at once, where they are written."""
    for name in cast("dict[str, Any]", options):
        if name not in OPTION_NAMES:
            raise TypeError(f"a task has no option {name!r}; {did_you_mean(name, sorted(OPTION_NAMES), what='it has')}")
    on_cancel = options.get("on_cancel", "try")
    if on_cancel not in get_args(OnCancel):
        raise TypeError(f"on_cancel is one of {', '.join(get_args(OnCancel))}, not {on_cancel!r}")
    _check_preferences(options)
    return options


def _check_preferences(options: Mapping[str, Any]) -> None:
    """Calls from workflow code are checked nowhere else."""
    if not isinstance(options.get("sticky", False), bool):
        raise TypeError(f"sticky is True or False, not {options['sticky']!r}")
    labels, seconds = options.get("prefer_labels", {}), options.get("prefer_for")
    if not isinstance(labels, Mapping):
        raise TypeError(f'prefer_labels are names and values, as in {{"zone": "a"}}, not {labels!r}')
    for name in cast("Mapping[str, Any]", labels):
        if str(name).startswith(LABELS_RESERVED):
            raise ValueError(f"prefer_labels: labels that begin with {LABELS_RESERVED} are Headrace's own: use sticky")
    if seconds is not None and not 0 < parse_duration(seconds) <= PREFER_SECONDS_MAX:
        raise ValueError(f"prefer_for must be more than 0 s and at most {PREFER_SECONDS_MAX:g} s, not {seconds!r}")


def _checked_bounds(options: Options) -> Options:
    """Refuse retries and timeouts that no task can have; graphs check the rest once they are whole."""
    if options.get("retries") is not None:
        checked_retries(options.get("retries"))
    if options.get("timeout") is not None:
        checked_timeouts(options.get("timeout"))
    return options


def checked_retries(given: object) -> RetryPolicy:
    """The policy that a decorator was given, as a number of attempts, a mapping or a policy. No attempts at all are as
    good as one. Raises ``ValueError`` with what is wrong and what to write instead."""
    try:
        policy = to_retries(_as_dict(given), NO_RETRY)
    except Wrong as wrong:
        raise _refusal("retries", wrong.path, wrong.message, wrong.hint) from None
    for problem in policy_problems(policy, fewest=0):
        raise _refusal("retries", problem.path, problem.message, problem.hint)
    return policy


def checked_timeouts(given: object) -> Timeouts:
    """The same for bounds of time: a duration, a mapping or ``Timeouts``."""
    try:
        timeouts = to_timeouts(_as_dict(given), NO_TIMEOUTS)
    except Wrong as wrong:
        raise _refusal("timeout", wrong.path, wrong.message, wrong.hint) from None
    for field in msgspec.structs.fields(timeouts):
        seconds: Any = getattr(timeouts, field.name)
        if seconds is None:
            continue
        if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or math.isnan(seconds) or seconds < 0:
            message = f"a bound must be seconds, and not negative, not {seconds!r}"
            raise _refusal("timeout", (field.name,), message, "leave it out for no limit")
    return timeouts


def _as_dict(given: object) -> object:
    return dict(cast("Mapping[str, Any]", given)) if isinstance(given, Mapping) else given


def _refusal(option: str, path: tuple[str | int, ...], message: str, hint: str) -> ValueError:
    where = ".".join(map(str, (option, *path)))
    return ValueError(f"{where}: {message}" + (f"; {hint}" if hint else ""))


@overload
def task(function: Callable[P, R], /) -> TaskFunction[P, R]: ...
@overload
def task(**options: Unpack[TaskOptions]) -> Callable[[Callable[P, R]], TaskFunction[P, R]]: ...
def task(function: Callable[..., Any] | None = None, /, **options: Unpack[TaskOptions]) -> Any:
    """Make a function usable as a task: ``@task`` or ``@task(retries=3, timeout="5m")``.

    Called outside a workflow the function just runs, so it can be tested as it is.
    """
    checked = _checked_bounds(checked_options(options))
    if function is not None:
        return TaskFunction(function, checked)

    def decorate(decorated: Callable[P, R]) -> TaskFunction[P, R]:
        return TaskFunction(decorated, checked)

    return decorate
