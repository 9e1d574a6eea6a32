"""Interceptors inside workflow code: the way of a run's calls and messages through them.

Everything here is part of the run's deterministic code. It is reached only where an engine has interceptors for workflow
code; a run without any does not pass through here.
"""

from __future__ import annotations

import inspect
import logging
from asyncio import events
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal, ParamSpec

from headrace.authoring.tasks import TaskFunction, call_listener
from headrace.contracts.interceptor import MessageCall, TaskCall, TimerCall, WorkflowCall, chained, checked_headers
from headrace.core import events as ev
from headrace.core import inputs as inp
from headrace.core.errors import NotDeterministic
from headrace.durable import virtual
from headrace.durable.access import run_or_none
from headrace.durable.run import CodeRun, Place, calling_place
from headrace.durable.running import CALL_CODES, CodeCalls, call_task, give_signal, plain, start_handler

if TYPE_CHECKING:
    from headrace.durable.handlers import Handler

logger = logging.getLogger("headrace.workflow")

P = ParamSpec("P")


def intercepts(run: CodeRun, what: str) -> bool:
    """Whether the run's code has interceptors of that sort."""
    return run.code is not None and run.code.interceptors is not None and bool(getattr(run.code.interceptors, what))


# ---- the code itself, its tasks and timers ---------------------------------------------------------------------------


def start(run: CodeRun) -> Coroutine[Any, Any, Any]:
    """The workflow function's coroutine, inside of what surrounds it."""
    interceptors = run.code.interceptors
    for method in interceptors.in_workflows:  # their clocks and chance are the workflow's, too
        virtual.install(method)
    if interceptors.set_timer:
        run.loop.set_timer = lambda due: _set_timer(run, due)
    if not interceptors.run_workflow:
        return run.code.start(run.params)

    async def code(call: WorkflowCall) -> Any:
        run.passed = checked_headers(call.headers)
        return await run.code.start(call.params)

    call = WorkflowCall(
        workflow=run.plan.spec.name, run_id=run.run_id, params=dict(run.params), headers=dict(run.headers)
    )
    return chained(interceptors.run_workflow, code)(call)


def begun(run: CodeRun) -> None:
    """The code stands in line: now the signals that were there before it."""
    early, run.early = run.early, []
    for event in early:
        deliver_signal(run, event)


def calls(run: CodeRun) -> CodeCalls:
    """Who makes tasks of the run out of calls of task functions."""
    return InterceptedCalls(run) if run.code.interceptors.call_task else CodeCalls(run)


class InterceptedCalls(CodeCalls):
    """The same, through interceptors."""

    def call(self, task: TaskFunction[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The coroutine whose awaiting makes the call."""
        run = self._run
        place = calling_place()
        if run.read_only:
            raise NotDeterministic(f"a query or validator called task {task.name} at {place}: it may only look")
        number = run.call_count + 1
        return run.watch(_call_task(run, task, args, kwargs, place, number), task.name, place)


async def _call_task(
    run: CodeRun, task: TaskFunction[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], place: Place, number: int
) -> Any:
    run.watched.pop(number, None)

    async def perform(call: TaskCall) -> Any:
        return await call_task(run, call.task, (), {}, place, 0, call)

    call = TaskCall(task=task, args=run.code.task(task).given(args, kwargs), headers=dict(run.passed))
    return await chained(run.code.interceptors.call_task, perform)(call)


CALL_CODES.add(_call_task.__code__)


def _set_timer(run: CodeRun, due: float) -> float:
    def wanted(call: TimerCall) -> float:
        return call.due

    return chained(run.code.interceptors.set_timer, wanted)(TimerCall(due=due, now=run.loop.now))


# ---- messages --------------------------------------------------------------------------------------------------------


def deliver_signal(run: CodeRun, event: ev.SignalReceived) -> None:
    """Bring a signal through the interceptors to its handler, or to who waits for it."""

    async def arrive(call: MessageCall) -> None:
        payload = plain(call.args[0] if call.args else None)
        handler = run.handlers.get(("signal", call.name))
        if handler is None:
            give_signal(run, call.name, payload)
        else:
            await handler.invoke(payload)

    async def deliver() -> None:
        call = _message(run, "signal", event.name, {"args": [event.payload]}, event.headers)
        await chained(run.code.interceptors.handle_signal, arrive)(call)

    start_handler(run, deliver(), event.name)


def intercepted_update(
    run: CodeRun, handler: Handler[..., Any], event: ev.UpdateAccepted
) -> Callable[[Any], Awaitable[Any]]:
    """The handler of an update, inside of what surrounds it."""

    def handle(call: MessageCall) -> Awaitable[Any]:
        return handler.invoke(_payload(call))

    def invoke(payload: Any) -> Awaitable[Any]:
        call = _message(run, "update", event.name, payload, event.headers, event.update)
        return chained(run.code.interceptors.handle_update, handle)(call)

    return invoke


def intercepted_validator(run: CodeRun, handler: Handler[..., Any], given: inp.Update) -> Callable[[Any], None]:
    """The validator of an update, inside of what surrounds it."""

    def validate(call: MessageCall) -> None:
        handler.check(_payload(call))

    def check(payload: Any) -> None:
        call = _message(run, "update", given.name, payload, given.headers, given.update)
        chained(run.code.interceptors.validate_update, validate)(call)

    return check


def query(run: CodeRun, handler: Handler[..., Any], headers: dict[str, str]) -> Callable[[Any], Any]:
    """The handler of a query, inside of what surrounds it."""

    def look(call: MessageCall) -> Any:
        return handler.answer(_payload(call))

    def answer(payload: Any) -> Any:
        call = _message(run, "query", handler.name, payload, headers)
        return chained(run.code.interceptors.handle_query, look)(call)

    return answer


def _message(
    run: CodeRun,
    kind: Literal["signal", "query", "update"],
    name: str,
    payload: Any,
    headers: dict[str, str],
    update: str | None = None,
) -> MessageCall:
    given = payload if isinstance(payload, dict) else {"args": [] if payload is None else [payload]}
    args, kwargs = list(given.get("args", ())), dict(given.get("kwargs", {}))
    return MessageCall(
        kind=kind, run_id=run.run_id, name=name, args=args, kwargs=kwargs, headers=dict(headers), update_id=update
    )


def _payload(call: MessageCall) -> dict[str, Any]:
    return {"args": call.args, "kwargs": call.kwargs}


# ---- what is only for the outside ------------------------------------------------------------------------------------


def observe(function: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
    """Call a plain function for what it does outside: count, log, end a span. From workflow code and interceptors.

    In a replay nothing is called. Otherwise the function runs at once and like any other code: real clock, real chance,
    I/O allowed; it must be quick, the engine waits for it. What it returns is dropped and what it raises is logged, so
    the workflow cannot depend on it. It is called before what the code asks for next is durable: if the process dies in
    between, the same is observed again. Outside of workflow code the function is just called, the same way.
    """
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"observe takes a plain function, and {getattr(function, '__name__', function)!r} is async")
    run = run_or_none()
    if run is not None and run.replaying:
        return
    listener = call_listener.set(None)
    loop = events._get_running_loop()
    if run is not None:
        events._set_running_loop(None)
    try:
        function(*args, **kwargs)
    except Exception:
        logger.exception("what was to be observed raised", extra={"run_id": run.run_id if run is not None else None})
    finally:
        events._set_running_loop(loop)
        call_listener.reset(listener)
