"""Interceptors: user code around what crosses the border between user code and the engine.

An interceptor overrides the methods it is interested in. Each gets a *call* that says what is about to happen, which it
may change, and *proceed*, which lets it happen: it may act before and after, answer by itself, or refuse by raising. What
the first interceptor of the list does is outermost, on every border.

Where they run decides what they may do:

- ``start_run`` and ``send`` run in the program that asks, once per request: anything goes.
- ``run_attempt`` runs on the engine's loop around every attempt: anything goes that does not block the loop.
- All the others run inside a workflow's code, **again in every replay**, so they are workflow code: same clock, same
  chance, same refusals, same divergence. What is only for the outside (a metric, a span, a log line) goes through
  :func:`headrace.observe`, which stays silent in a replay.

*Headers* are short texts that travel beside the parameters: from ``start_run`` into the run's first event, from there
to everything the run calls (tasks, children, continuations and retries), unless an interceptor changes them on the way.

Ideas: Temporal's interceptors, with one class instead of four, headers that are inherited instead of passed on by hand,
and no chain where nobody overrides anything.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from headrace.core.errors import InvalidCommand

if TYPE_CHECKING:
    from headrace.authoring.tasks import TaskFunction
    from headrace.contracts.execution import Attempt

C = TypeVar("C")
T = TypeVar("T")

HEADERS_MAX = 64
HEADERS_BYTES_MAX = 8 * 1024
"""Names and values of one set of headers, in UTF-8: they are repeated in the events of every child and message."""


class StartCall(msgspec.Struct, kw_only=True):
    """A run is to be started. ``workflow`` is its name, ``params`` as they were given, without defaults; ``signal`` the
    name of the signal it begins with, if any. ``headers`` become the run's."""

    workflow: str
    params: dict[str, Any]
    headers: dict[str, str]
    key: str | None = None
    tags: dict[str, str]
    signal: str | None = None


class MessageCall(msgspec.Struct, kw_only=True):
    """A signal, query or update, on its way or arriving. A signal has its payload as the only argument. ``run_id`` is the
    receiver; ``update_id`` names an update that arrives."""

    kind: Literal["signal", "query", "update"]
    run_id: str
    name: str
    args: list[Any]
    kwargs: dict[str, Any]
    headers: dict[str, str]
    update_id: str | None = None


class WorkflowCall(msgspec.Struct, kw_only=True):
    """A workflow's code is to begin. ``params`` are plain values by name; ``headers`` those that the run was started
    with: what they are when ``proceed`` is called is what the run's own calls inherit."""

    workflow: str
    run_id: str
    params: dict[str, Any]
    headers: dict[str, str]


class TaskCall(msgspec.Struct, kw_only=True):
    """Workflow code calls a task. ``args`` are plain values by name; ``task`` may be replaced, by the same with other
    options for example: ``call.task = call.task.options(retries=5)``."""

    task: TaskFunction[..., Any]
    args: dict[str, Any]
    headers: dict[str, str]


class TimerCall(msgspec.Struct, kw_only=True):
    """Workflow code waits for a time, by ``asyncio.sleep`` or a timeout. ``due`` in seconds since the epoch; ``now`` is
    the workflow's time."""

    due: float
    now: float


class ChildCall(msgspec.Struct, kw_only=True):
    """Workflow code starts a child. ``workflow`` is its definition, ``params`` are values by name."""

    workflow: Any  # a code workflow or whatever has a spec: those types live on higher floors
    params: dict[str, Any]
    headers: dict[str, str]
    parent_close: Literal["terminate", "cancel", "abandon"]
    key: str | None


class Interceptor:
    """Subclass it and override what you need; see :mod:`headrace.contracts.interceptor`. What is not overridden costs
    nothing. One instance serves all runs of an engine, at the same time."""

    # -- in the program that asks

    async def start_run(self, call: StartCall, proceed: Callable[[StartCall], Awaitable[Any]], /) -> Any:
        """A program starts a run: ``run``, ``start``, ``signal_with_start``, ``update_with_start``. ``proceed`` returns
        what the program gets. Not called for children, continuations, retries and schedules."""
        return await proceed(call)

    async def send(self, call: MessageCall, proceed: Callable[[MessageCall], Awaitable[Any]], /) -> Any:
        """A program sends a signal, query or update to a run."""
        return await proceed(call)

    # -- inside a workflow: replayed

    async def run_workflow(self, call: WorkflowCall, proceed: Callable[[WorkflowCall], Awaitable[Any]], /) -> Any:
        """Around the whole code of a run. What it raises ends the run as if the code had raised it."""
        return await proceed(call)

    async def handle_signal(self, call: MessageCall, proceed: Callable[[MessageCall], Awaitable[Any]], /) -> Any:
        """A signal has come, whether there is a handler or it waits for ``wait_for_signal``. Without ``proceed`` the
        workflow never sees it; what is raised fails the run."""
        return await proceed(call)

    async def handle_update(self, call: MessageCall, proceed: Callable[[MessageCall], Awaitable[Any]], /) -> Any:
        """An update was accepted and recorded. What is raised goes to its sender."""
        return await proceed(call)

    def validate_update(self, call: MessageCall, proceed: Callable[[MessageCall], None], /) -> None:
        """An update has come and is not recorded yet: raise to refuse it. May only look."""
        proceed(call)

    def handle_query(self, call: MessageCall, proceed: Callable[[MessageCall], Any], /) -> Any:
        """A query has come. May only look; what is raised goes to whoever asks."""
        return proceed(call)

    async def call_task(self, call: TaskCall, proceed: Callable[[TaskCall], Awaitable[Any]], /) -> Any:
        """Workflow code calls a task. ``proceed`` returns its result, once for all its attempts."""
        return await proceed(call)

    def set_timer(self, call: TimerCall, proceed: Callable[[TimerCall], float], /) -> float:
        """Workflow code begins to wait for a time. Returns when it is due."""
        return proceed(call)

    def start_child(self, call: ChildCall, proceed: Callable[[ChildCall], Any], /) -> Any:
        """Workflow code starts a child. ``proceed`` returns its handle, which can be awaited."""
        return proceed(call)

    async def signal_run(self, call: MessageCall, proceed: Callable[[MessageCall], Awaitable[Any]], /) -> Any:
        """Workflow code signals another run."""
        return await proceed(call)

    # -- around attempts

    async def run_attempt(self, call: Attempt, proceed: Callable[[Attempt], Awaitable[Any]], /) -> Any:
        """One attempt of any task, of graphs too, where it is carried out. ``proceed`` returns the task's output; what is
        raised fails the attempt, and is retried like the task's own failures. ``call`` is the interceptor's own copy."""
        return await proceed(call)


_ASYNC = (
    *("start_run", "send", "run_workflow", "handle_signal", "handle_update", "call_task", "signal_run"),
    "run_attempt",
)
_PLAIN = ("validate_update", "handle_query", "set_timer", "start_child")
IN_WORKFLOWS = (
    *("run_workflow", "handle_signal", "handle_update", "validate_update", "handle_query", "call_task"),
    *("set_timer", "start_child", "signal_run"),
)
"""Methods that run inside workflow code."""


class Interceptors:
    """The interceptors of an engine by what they override: for each method of :class:`Interceptor` the bound methods that
    override it, outermost first. Raises ``TypeError`` for what is no interceptor, naming it."""

    start_run: tuple[Any, ...]
    send: tuple[Any, ...]
    run_workflow: tuple[Any, ...]
    handle_signal: tuple[Any, ...]
    handle_update: tuple[Any, ...]
    validate_update: tuple[Any, ...]
    handle_query: tuple[Any, ...]
    call_task: tuple[Any, ...]
    set_timer: tuple[Any, ...]
    start_child: tuple[Any, ...]
    signal_run: tuple[Any, ...]
    run_attempt: tuple[Any, ...]

    def __init__(self, interceptors: Iterable[Interceptor] = ()) -> None:
        given = [_checked(one) for one in interceptors]
        for name in (*_ASYNC, *_PLAIN):
            own = getattr(Interceptor, name)
            overriding = [getattr(one, name) for one in given if getattr(type(one), name) is not own]
            setattr(self, name, tuple(overriding))

    @property
    def in_workflows(self) -> list[Any]:
        """Everything that runs inside workflow code."""
        return [method for name in IN_WORKFLOWS for method in getattr(self, name)]


def _checked(given: Any) -> Interceptor:
    if not isinstance(given, Interceptor):
        what = f"the class {given.__name__}; give an instance" if isinstance(given, type) else repr(given)
        raise TypeError(f"interceptors are instances of headrace.Interceptor, not {what}")
    for name in (*_ASYNC, *_PLAIN):
        is_async = inspect.iscoroutinefunction(getattr(type(given), name))
        if is_async != (name in _ASYNC):
            word = "an `async def`" if name in _ASYNC else "a plain `def`"
            raise TypeError(f"{type(given).__name__}.{name} has to be {word} method, as in headrace.Interceptor")
    return given


def chained(methods: tuple[Any, ...], innermost: Callable[[C], T]) -> Callable[[C], T]:
    """One function that goes through the methods, outermost first, and ends in ``innermost``."""
    for method in reversed(methods):
        innermost = _link(method, innermost)
    return innermost


def _link(method: Callable[[C, Callable[[C], T]], T], following: Callable[[C], T]) -> Callable[[C], T]:
    return lambda call: method(call, following)


def checked_headers(headers: Any) -> dict[str, str]:
    """The same headers. Raises :class:`InvalidCommand` for what cannot travel: other than texts, too many, too long."""
    if type(headers) is not dict or not all(
        type(name) is str and type(value) is str for name, value in headers.items()
    ):
        raise InvalidCommand(
            f"headers are texts by name, not {headers!r:.200}", hint="turn other values into text, with json.dumps say"
        )
    size = sum(len(name.encode()) + len(value.encode()) for name, value in headers.items())
    if len(headers) > HEADERS_MAX or size > HEADERS_BYTES_MAX:
        raise InvalidCommand(
            f"{len(headers)} headers of {size:,} bytes, at most {HEADERS_MAX} of {HEADERS_BYTES_MAX:,} bytes can travel",
            hint="give large values as parameters, or store them and send a reference",
        )
    return headers


__all__ = [
    "HEADERS_BYTES_MAX",
    "HEADERS_MAX",
    "ChildCall",
    "Interceptor",
    "Interceptors",
    "MessageCall",
    "StartCall",
    "TaskCall",
    "TimerCall",
    "WorkflowCall",
    "chained",
    "checked_headers",
]
