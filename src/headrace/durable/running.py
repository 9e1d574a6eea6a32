"""Runs a workflow's code between two events: starts it, wakes it, collects what it asks for.

Everything here happens inside :func:`headrace.durable.fold.fold`; it is as pure as the user's code, which the loop and
:mod:`headrace.durable.virtual` keep from clocks, chance and I/O.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import hashlib
import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from math import isfinite
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.authoring.tasks import TaskFunction, call_listener
from headrace.contracts.interceptor import TaskCall, checked_headers
from headrace.contracts.outcome import encode_output, failure_of
from headrace.core import events as ev
from headrace.core.errors import (
    ChildFailed,
    NotDeterministic,
    TaskFailed,
)
from headrace.core.run import TaskUnit
from headrace.core.spec import RetryPolicy
from headrace.core.states import RunState, TaskState
from headrace.durable import virtual
from headrace.durable.guard import SECONDS_MAX, Step, TooLong, guard_of_thread
from headrace.durable.interrupts import ends_the_run
from headrace.durable.run import (
    CALLS_WATCHED_MAX,
    Child,
    CodeNode,
    CodeRun,
    Place,
    calling_place,
    code_place_of_thread,
    is_between,
)

if TYPE_CHECKING:
    from headrace.durable.handlers import Handler

_PLAIN = frozenset({type(None), bool, int})


default_retries: contextvars.ContextVar[RetryPolicy | None] = contextvars.ContextVar(
    "headrace_default_retries", default=None
)
"""The policy for calls of tasks that name none, where somebody sets one: what undoes a saga is patient."""


class ContinueAsNew(BaseException):
    """Leaves the workflow's code to begin anew with other parameters; see :func:`continue_as_new`."""

    def __init__(self, params: dict[str, Any]) -> None:
        super().__init__("continue as new")
        self.params = params


def begin(run: CodeRun) -> None:
    """Start the workflow function."""
    virtual.install(run.code.function)
    run.loop.seed(run.seed)
    intercepted = None
    if run.code.interceptors is not None:
        from headrace.durable import intercepted  # noqa: PLC0415 - needs what is below, and most programs have none
    run.context.run(call_listener.set, CodeCalls(run) if intercepted is None else intercepted.calls(run))
    try:
        coroutine = run.code.start(run.params) if intercepted is None else intercepted.start(run)
    except Exception as error:  # a wrong signature: the run fails with it
        run.finish_with(RunState.FAILED, failure=failure_of(error))
        return
    run.main = run.loop.create_task(coroutine, name="main", context=run.context)
    if intercepted is not None:
        intercepted.begun(run)


def drain(run: CodeRun) -> None:
    """Let the code run until it waits, then turn what it left into commands."""
    if run.main is None or run.finished:
        return
    guard = guard_of_thread(code_place_of_thread)
    step = guard.step = Step()  # guard.enter, without the call
    try:
        run.loop.drain(run.conditions, _condition_came_true, run, guard, step)
        if step.place is not None:
            raise too_long(step)
    except (NotDeterministic, TooLong) as error:
        run.diverge(str(error if isinstance(error, NotDeterministic) else too_long(step)))
        if run.main.done() and not run.main.cancelled():
            run.main.exception()  # looked at: the reason of the suspension says it
        return
    for timer in run.loop.take_new_timers() if run.loop.new_timers else ():
        number, due = timer.number, timer.when()
        run.timers[number] = (timer, due)
        run.command(
            ev.TimerSet,
            number,
            lambda now, number=number, due=due: ev.TimerSet(now, number, due),
            wanted=lambda timer=timer: not timer.cancelled(),
            place=timer.place,
        )
    if run.main.done():
        _finish(run)


def too_long(step: Step) -> NotDeterministic:
    """What is said of code that the guard has stopped."""
    return NotDeterministic(
        f"workflow code computed for {SECONDS_MAX:g} s without waiting for anything ({step.place}): all other work of "
        "this process stood still meanwhile",
        hint="end the loop, or move what takes long into a @task function, which runs in a thread or process",
    )


def _condition_came_true(run: CodeRun) -> bool:
    """Wake those whose condition holds now; True if there was one."""
    woken = False
    for entry in list(run.conditions):
        condition, future = entry
        if future.done():
            run.conditions.remove(entry)
            continue
        try:
            if not run.context.run(condition):
                continue
            future.set_result(None)
        except BaseException as error:
            if not ends_the_run(error):
                raise
            future.set_exception(error)
        run.conditions.remove(entry)
        woken = True
    return woken


def _finish(run: CodeRun) -> None:
    """The workflow function returned or raised: the last command."""
    main = run.main
    error: BaseException | None
    error = asyncio.CancelledError() if main.cancelled() else main.exception()
    misuse = _misuse(error)
    if misuse is not None:
        run.diverge(misuse)
        return
    if run.handler_error is not None:
        error = run.handler_error
    forgotten = _never_awaited(run)
    if error is None and forgotten is not None:
        run.finish_with(RunState.FAILED, failure=ev.Failure("NeverAwaited", forgotten, ("HeadraceError", "Exception")))
    elif error is None:
        try:
            output = plain(main.result(), "the workflow returned a value that")
        except Exception as problem:
            run.finish_with(RunState.FAILED, failure=failure_of(problem))
            return
        run.finish_with(RunState.SUCCEEDED, output=output)
    elif isinstance(error, ContinueAsNew):
        run.finish_with(RunState.CONTINUED, output=error.params)
    elif isinstance(error, asyncio.CancelledError) and run.cancelled:
        run.finish_with(RunState.CANCELLED)
    else:
        failed_task = error.task if isinstance(error, TaskFailed) else None
        failure = failure_of(error)
        if forgotten is not None and isinstance(error, TypeError | AttributeError) and "coroutine" in failure.message:
            failure = msgspec.structs.replace(failure, message=f"{failure.message}; {forgotten}")
        if isinstance(error, TaskFailed | ChildFailed) and isinstance(error.failure, ev.Failure):
            failure = error.failure
        run.finish_with(RunState.FAILED, failure=failure, failed_task=failed_task)


_FOREIGN = (
    "attached to a different loop",
    "got bad yield",
    "belongs to a different loop",
    "bound to a different event loop",
)
"""How asyncio says that something awaited is not of the running loop."""


def _misuse(error: BaseException | None, depth: int = 0) -> str | None:
    """What the code did that no replay can repeat, if that is why it raised."""
    if error is None or depth > 10:
        return None
    if isinstance(error, NotDeterministic):
        return str(error)
    if isinstance(error, BaseExceptionGroup):
        return next((found for inner in error.exceptions if (found := _misuse(inner, depth + 1))), None)
    if isinstance(error, RuntimeError | ValueError) and any(part in str(error) for part in _FOREIGN):
        return (
            f"workflow code awaited something that belongs to another event loop{_raised_at(error)}: {error}\n"
            "  hint: a future, queue, lock or client made outside of the workflow cannot be awaited in it; "
            "move that into a @task function, or wait for a signal"
        )
    return None


def _raised_at(error: BaseException) -> str:
    """`` at file.py:line`` of the innermost of the user's frames."""
    place = ""
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if not is_between(name):
            place = f" at {name.rpartition('/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _never_awaited(run: CodeRun) -> str | None:
    """What was called and did not run, and the remedy: a task, a child, or any other coroutine."""
    found = run.forgotten
    for coroutine, called, place in run.watched.values():
        if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
            coroutine.close()
            found = (called if isinstance(called, str) else called.name, place)
            break
    if found is None:
        return None
    return (
        f"{found[0]} was called at {found[1]} but never awaited: it did not run\n"
        "  hint: write `await` before the call, or give it to asyncio.create_task or gather"
    )


_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def derived_run_id(run: CodeRun, name: str, at: float | None = None) -> str:
    """The id of a run that this one starts: the same in every replay. Sorts by the workflow's time, like any other, and
    after the run itself."""
    digest = hashlib.blake2b(f"{run.seed}/{name}".encode(), digest_size=10).digest()
    number = (int((run.loop.now if at is None else at) * 1000) + 1 & (1 << 48) - 1) << 80 | int.from_bytes(
        digest, "big"
    )
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def plain(value: Any, what: str = "a value that") -> Any:
    """A value as the history will give it back: infinity and what is no number are None there. Raises ``AttemptError``
    naming what JSON cannot hold."""
    kind = type(value)
    if kind in _PLAIN or (kind is str and value.isascii()) or (kind is float and isfinite(value)):
        return value
    return msgspec.json.decode(encode_output(value, what))


def resolve(run: CodeRun, name: str, value: Any = None, *, error: BaseException | None = None) -> None:
    """Answer what code waits for under a name, if it still does."""
    future = run.futures.pop(name, None)
    if future is None or future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(value)


def give_signal(run: CodeRun, name: str, payload: Any, *, first: bool = False) -> None:
    """Hand a signal to who has waited for it longest, or keep it; ``first``: it is older than those kept."""
    waiting = run.waiters.get(name)
    while waiting:
        future = waiting.popleft()
        if not future.done():
            future.set_result(payload)
            return
    kept = run.signals.setdefault(name, deque())
    if first:
        kept.appendleft(payload)
    else:
        kept.append(payload)


def child_error(name: str, child: Child) -> ChildFailed:
    """What awaiting a child raises that did not succeed."""
    why = f": {child.failure.text}" if child.failure else ""
    return ChildFailed(
        f"child {name} ({child.target}) {child.state}{why}",
        run_id=child.run_id,
        state=child.state or "",
        failure=child.failure,
    )


def run_handler(
    run: CodeRun,
    handler: Handler[..., Any],
    payload: Any,
    update: str | None,
    invoke: Callable[[Any], Awaitable[Any]] | None = None,
) -> None:
    """Start the handler of a signal or update as a task of the workflow; ``invoke`` is the way through interceptors."""
    call = invoke or handler.invoke

    async def handle() -> None:
        output: Any = None
        failure: ev.Failure | None = None
        try:
            output = plain(await call(payload), f"{handler.kind} {handler.name!r} returned a value that")
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if not ends_the_run(error):
                raise
            if update is None:
                raise
            failure = failure_of(error)
        if update is not None:
            name = update
            run.command(ev.UpdateCompleted, name, lambda now: ev.UpdateCompleted(now, name, output, failure))

    start_handler(run, handle(), handler.name)


def start_handler(run: CodeRun, coroutine: Coroutine[Any, Any, None], name: str) -> None:
    """Run a handler beside the main code; if it raises, the workflow fails."""
    run.handling += 1
    task = run.loop.create_task(coroutine, name=f"handler-{name}", context=run.context)
    task.add_done_callback(lambda done: _handler_ended(run, done))


def _handler_ended(run: CodeRun, task: asyncio.Task[None]) -> None:
    """A signal handler that raises fails the workflow: nobody else could hear of it."""
    run.handling -= 1
    if not task.cancelled() and task.exception() is not None and run.main is not None and not run.main.done():
        run.handler_error = task.exception()
        run.main.cancel()


class CodeCalls:
    """Turns calls of task functions inside workflow code into tasks of the run."""

    def __init__(self, run: CodeRun) -> None:
        self._run = run

    def call(self, task: TaskFunction[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The coroutine whose awaiting schedules the call."""
        run = self._run
        place = calling_place(3)  # whoever called the task function
        if run.read_only:
            raise NotDeterministic(f"a query or validator called task {task.name} at {place}: it may only look")
        number = run.call_count = run.call_count + 1
        call = call_task(run, task, args, kwargs, place, number)
        if len(run.watched) < CALLS_WATCHED_MAX:
            run.watched[number] = (call, task, place)
        return call

    def map(self, task: TaskFunction[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Not in code: use ``asyncio.gather``."""
        raise TypeError(f"{task.name}.map describes a task of a graph; in a code workflow use asyncio.gather")


class CallAgain:
    """Makes a call of a task once more, with the same arguments."""

    def __init__(self, task: TaskFunction[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.task = task
        self._args = args
        self._kwargs = kwargs

    def __call__(self) -> Any:
        """A new call, not yet awaited."""
        return self.task(*self._args, **self._kwargs)


def call_again(coroutine: Any) -> CallAgain | None:
    """How to repeat a call of a task that nobody has awaited yet; None for anything else."""
    if getattr(coroutine, "cr_code", None) not in CALL_CODES:
        return None
    given = inspect.getcoroutinelocals(coroutine)
    return CallAgain(given["task"], given["args"], given["kwargs"]) if "task" in given else None


async def call_task(
    run: CodeRun,
    task: TaskFunction[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    place: Place,
    number: int,
    intercepted: TaskCall | None = None,
) -> Any:
    """The call of a task, awaited: it owes an attempt from here on. ``intercepted`` is what interceptors made of it."""
    run.watched.pop(number, None)
    entry = run.code.tasks.get(id(task))
    known = entry[1] if entry is not None and entry[0] is task else run.code.task(task)
    base, name = known.base, known.name
    count = run.counts[name] = run.counts.get(name, 0) + 1
    step = name if count == 1 else f"{name}#{count}"  # run.next_name, without the call
    retries = default_retries.get()
    if retries is not None and task.defaults.get("retries") is None:
        base = msgspec.structs.replace(base, retries=retries)
    if intercepted is None:
        node = CodeNode(step, known.index, base, base.timeouts, known.given(args, kwargs), place, None, known.prefers)
    else:
        named = known.named(intercepted.args)
        node = CodeNode(
            step, known.index, base, base.timeouts, named, place, checked_headers(intercepted.headers), known.prefers
        )
    unit = run.add_unit(node)
    unit.state = TaskState.READY
    unit.first_ready_at = run.loop.now
    run.fresh.append(unit)
    future: asyncio.Future[Any] = asyncio.Future(loop=run.loop)  # no code sees it, so its hash does not matter
    run.futures[step] = future
    try:
        output = await future
    except asyncio.CancelledError:
        if not unit.done:
            run.futures.pop(step, None)
            await _let_go(run, unit, known.on_cancel, place)
        raise
    return output if known.convert is None else known.convert(output)


CALL_CODES = {call_task.__code__}
"""The code of coroutines that are calls of tasks: :func:`call_again` reads their arguments."""


async def _let_go(run: CodeRun, unit: TaskUnit, on_cancel: str, place: Place) -> None:
    """A call's awaiting was cancelled: see :data:`headrace.authoring.tasks.OnCancel`."""
    step = unit.node.id
    if on_cancel == "abandon":
        unit.abandoned = True
        return
    if on_cancel == "try":
        run.command(
            ev.TaskCancelled,
            step,
            lambda now: ev.TaskCancelled(now, step, None, unit.attempt, unit.started_at),
            place=place,
        )
        return
    run.command(ev.TaskCancelRequested, step, lambda now: ev.TaskCancelRequested(now, step), place=place)
    while not unit.done:
        stopped = run.futures[step] = run.loop.create_future()
        with contextlib.suppress(asyncio.CancelledError, TaskFailed):  # asked again; or it ended by failing
            await stopped
