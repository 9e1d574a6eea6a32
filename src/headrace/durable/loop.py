"""A deterministic event loop: plain ``asyncio`` code gives the same steps every time it is given the same history.

The loop has no I/O, no clock and no threads. Callbacks run first in, first out; time is the time of the event being
applied; a timer that is still wanted when the code has come to rest becomes a durable timer of the run. Futures and
tasks have hashes in the order of their creation, so that sets of them (``asyncio.wait``, ``TaskGroup``) iterate in the
same order in every replay.

Ideas: Temporal's Python SDK, whose workflow instance is an event loop; here the code is not re-imported into a sandbox.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import sys
import zlib
from asyncio import events
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from math import isnan
from typing import Any, NoReturn, TypeVar, cast

import msgspec

from headrace.core.errors import NotDeterministic
from headrace.durable.guard import Guard, Step, TooLong
from headrace.durable.interrupts import ends_the_run

logger = logging.getLogger("headrace.workflow")

T = TypeVar("T")
R = TypeVar("R")

Outer = tuple[Any, Any, Any, bool]
"""What was running in the thread: the loop, its task, its hooks for asynchronous generators, the collector."""

TASKS_KEPT = 100
"""Ended tasks that are remembered at least before they are sorted out."""

LATEST = 253_402_300_799.0
"""The last second of the year 9999, the last that calendars know, in seconds since the epoch. A timer due later, or at
infinity, is never due; nothing of it is stored."""

STEPS_MAX = 1_000_000
"""Callbacks run in one drain before it counts as an endless loop."""


class WorkflowFuture(asyncio.Future[T]):
    """A future with a repeatable hash: it counts when it is first asked for, which few are."""

    _number: int = 0

    def __hash__(self) -> int:
        if not self._number:
            self._number = cast("WorkflowLoop", self.get_loop()).next_number()
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class WorkflowTask(asyncio.Task[T]):
    """A task with a repeatable hash: it counts when asyncio enters it into the set of all tasks, as it begins."""

    _number: int = 0

    def __hash__(self) -> int:
        if not self._number:
            self._number = cast("WorkflowLoop", self.get_loop()).next_number()
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class WorkflowCallback(msgspec.Struct, eq=False):
    """A callback in line: an :class:`asyncio.Handle` in all but its base, and lighter. There is one for every step of the
    code."""

    _callback: Callable[..., object]
    _args: tuple[Any, ...]
    _context: contextvars.Context
    _cancelled: bool = False

    def cancel(self) -> None:
        """Do not call."""
        self._cancelled = True
        self._args = ()

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._cancelled


class WorkflowTimer(asyncio.TimerHandle):
    """A timer of workflow code. ``number`` names it in the history once it has become durable."""

    number: int = 0
    place: object = ""
    """Where the code asked for it."""


class WorkflowLoop(asyncio.AbstractEventLoop):
    """One run's loop. ``drain()`` runs the code until it waits; whoever holds the loop resolves futures in between."""

    def __init__(self, now: float) -> None:
        self.now = now
        """Seconds since the epoch: the time of the event being applied."""
        self._ready: deque[WorkflowCallback | WorkflowTimer] = deque()
        self._numbers = self.first_number = 0
        self._timer_numbers = 0
        self._closed = False
        self._draining = False
        self.new_timers: list[WorkflowTimer] = []
        """Timers asked for since the run last looked, in order."""
        self.refusal: NotDeterministic | None = None
        """The first thing refused in this drain. It counts even if the code has swallowed the error: an
        ``except Exception`` around a blocking call must not hide it."""
        self._tasks: list[asyncio.Task[Any]] = []
        self._tasks_bound = TASKS_KEPT
        self.owner: Any = None
        """The run whose code this is."""
        self.timer_dropped: Callable[[int], None] = lambda number: None
        """Told when the code no longer wants a numbered timer."""
        self.set_timer: Callable[[float], float] | None = None
        """Interceptors of timers: asked for the time at which a timer is to be due."""
        self.place: Callable[[], object] = str
        """``file.py:line`` of the code that is asking, for messages."""

    def seed(self, text: str) -> None:
        """Keep this loop's numbers apart from those of others. asyncio holds the tasks of all loops in one set: of a
        thousand runs, each with a task whose hash is 1, every new task would be compared with every other. The low bits
        still count from 1, so that small sets keep the order of creation."""
        self._numbers = self.first_number = zlib.crc32(text.encode()) << 16

    def next_number(self) -> int:
        """Counts futures and tasks."""
        self._numbers += 1
        return self._numbers

    # ---- running ---------------------------------------------------------------------------------------------------

    def drain(self, conditions: list[Any], rested: Callable[[R], bool], run: R, guard: Guard, step: Step) -> None:
        """Run everything that can run now. When nothing is left and there are ``conditions``, ``rested(run)`` is asked;
        True calls for another look.

        Raises :class:`NotDeterministic` for an endless loop, and for anything that was refused meanwhile; code that does
        not come to rest at all is ended by ``guard``, which watches this ``step``."""
        running = events._get_running_loop()
        outer = None
        if running is not self:  # enter, without the call
            hooks = sys.get_asyncgen_hooks()
            outer = running, _leave_task(running) if _TASKS_BY_THREAD else None, hooks, gc.isenabled()
            gc.disable()
            sys.set_asyncgen_hooks(None, self._generator_dropped)
            events._set_running_loop(self)
        self._draining = True
        steps = 0
        ready = self._ready
        try:
            while ready or (conditions and rested(run)):
                if not ready:
                    continue
                handle: Any = ready.popleft()  # Any: what a handle holds is private to asyncio
                steps += 1
                if steps > STEPS_MAX:
                    raise NotDeterministic(
                        f"the workflow's code ran {STEPS_MAX:,} steps without waiting for anything",
                        hint="in durable code a loop has to wait for a task, a timer or a signal",
                    )
                if handle._cancelled:
                    continue
                try:
                    handle._context.run(handle._callback, *handle._args)
                except (KeyboardInterrupt, SystemExit) as error:
                    if not ends_the_run(error):
                        raise
                    # Its task has it and fails by it: code ends its run, not the process.
                except BaseException as error:
                    self.call_exception_handler({"exception": error})
        finally:
            try:
                guard.leave(step)
            except TooLong:  # thrown as the call began
                guard.leave(step)
            self._draining = False
            if outer is not None:
                self.leave(outer)
        if self.refusal is not None:
            refusal, self.refusal = self.refusal, None
            raise refusal

    def enter(self) -> Outer:
        """Make this the running loop of the thread; give the result to :meth:`leave`. Nothing is collected meanwhile:
        what would be finalised, and when, no replay could repeat."""
        loop = events._get_running_loop()
        collecting = gc.isenabled()
        gc.disable()
        task = _leave_task(loop) if _TASKS_BY_THREAD else None
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(None, self._generator_dropped)
        events._set_running_loop(self)
        return loop, task, hooks, collecting

    def leave(self, outer: Outer) -> None:
        """Go back to the loop that was running."""
        loop, task, hooks, collecting = outer
        events._set_running_loop(loop)
        sys.set_asyncgen_hooks(*hooks)
        if _TASKS_BY_THREAD:
            _enter_task(loop, task)
        if collecting:
            gc.enable()

    def _generator_dropped(self, generator: AsyncGenerator[Any, Any]) -> None:
        """An asynchronous generator lost its last reference before its end. Within a drain (without the collector) that
        is the code's own doing and happens again in every replay; at any other time nothing of it may run."""
        if self._draining:
            self.create_task(generator.aclose())

    def freeze(self) -> None:
        """Whoever runs next may only look: a query, a validator, a coroutine that is being closed."""
        for name in _CHANGES:
            setattr(self, name, self._refuse_change)

    def thaw(self) -> None:
        """The look is over."""
        for name in _CHANGES:
            delattr(self, name)

    def _refuse_change(self, *_args: object, **_options: object) -> NoReturn:
        self.owner.spoiled = True
        raise NotDeterministic("a query or validator tried to wake or start workflow code: it may only look")

    def refused(self, error: NotDeterministic) -> NotDeterministic:
        """Remember what the code was refused, and return it to be raised."""
        if self._draining and self.refusal is None:
            self.refusal = error
        return error

    def take_new_timers(self) -> list[WorkflowTimer]:
        """Timers asked for since the last call and still wanted."""
        timers = [timer for timer in self.new_timers if not timer.cancelled()]
        self.new_timers.clear()
        return timers

    def fire(self, timer: WorkflowTimer) -> None:
        """The time of a timer has come."""
        if not timer.cancelled():
            self._ready.append(timer)

    # ---- what asyncio asks of a loop -----------------------------------------------------------------------------------

    def time(self) -> float:
        return self.now

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = WorkflowCallback(callback, args, context or contextvars.copy_context())
        self._ready.append(handle)
        return handle  # type: ignore[return-value]

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        if self.set_timer is not None and when > self.now:
            when = self.set_timer(when)
        if isnan(when):
            raise ValueError("a timer cannot be due at a time that is no number (NaN)")
        timer = WorkflowTimer(when, callback, args, self, context)
        if when <= self.now:
            self._ready.append(timer)
        elif when <= LATEST:
            self._timer_numbers += 1
            timer.number = self._timer_numbers
            timer.place = self.place()
            self.new_timers.append(timer)
        return timer

    def _timer_handle_cancelled(self, timer: asyncio.TimerHandle) -> None:
        """Called by asyncio when a timer is cancelled."""
        if isinstance(timer, WorkflowTimer) and timer.number:
            self.timer_dropped(timer.number)

    def create_future(self) -> asyncio.Future[Any]:
        return WorkflowFuture(loop=self)

    def create_task(  # type: ignore[override]
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
        **_options: object,
    ) -> asyncio.Task[T]:
        if name is None:
            name = f"workflow-task-{self._numbers - self.first_number + 1}"
        task = WorkflowTask(coro, loop=self, name=name, context=context)
        if not task._number:
            hash(task)  # counted now, also where asyncio keeps no set of it
        self._tasks.append(task)
        if len(self._tasks) > self._tasks_bound:
            self._tasks = [one for one in self._tasks if not one.done()]
            self._tasks_bound = 2 * len(self._tasks) + TASKS_KEPT
        return task

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """Tasks that have not ended, in the order in which they began."""
        return [task for task in self._tasks if not task.done()]

    get_debug = staticmethod(bool)  # type: ignore[assignment] # False: every future asks, and this is quicker than a function

    def is_running(self) -> bool:
        return self._draining

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        run = self.owner
        if isinstance(error, BaseException) and run is not None and not run.replaying and run.diverged is None:
            what = {"run_id": run.run_id, "workflow": run.plan.spec.name}
            logger.warning("workflow code raised, and nobody awaited it", exc_info=error, extra=what)

    def get_task_factory(self) -> None:
        """None: tasks are the loop's own."""

    def get_exception_handler(self) -> None:
        """None: the loop's own."""

    async def shutdown_asyncgens(self) -> None:
        pass

    def _refuse(self, what: str) -> NoReturn:
        why, remedy = _REMEDIES.get(
            what, ("a replay could not repeat it", "move it into a @task function and await that")
        )
        raise self.refused(NotDeterministic(f"workflow code must not {what} (at {self.place()}): {why}", hint=remedy))

    def call_soon_threadsafe(self, *_args: object, **_options: object) -> NoReturn:  # type: ignore[override]
        self._refuse("be called from another thread")

    def run_in_executor(self, *_args: object) -> NoReturn:  # type: ignore[override]
        self._refuse("use threads (asyncio.to_thread, run_in_executor)")


def _refusing(what: str) -> Callable[..., NoReturn]:
    def refuse(self: WorkflowLoop, *_args: object, **_options: object) -> NoReturn:
        self._refuse(what)

    return refuse


_RUN, _CHANGE = "run an event loop", "change how its event loop works"
_CONNECT, _WAIT = "open network connections", "wait for files or sockets"
_REFUSED = {
    **dict.fromkeys(("getaddrinfo", "getnameinfo"), "look up network names"),
    **dict.fromkeys(("create_connection", "create_datagram_endpoint", "create_server", "start_tls"), _CONNECT),
    **dict.fromkeys(("create_unix_connection", "create_unix_server", "connect_accepted_socket"), _CONNECT),
    **dict.fromkeys(("sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into", "sock_sendall"), _CONNECT),
    **dict.fromkeys(("sock_sendto", "sock_connect", "sock_accept", "sock_sendfile", "sendfile"), _CONNECT),
    **dict.fromkeys(("subprocess_exec", "subprocess_shell"), "start processes"),
    **dict.fromkeys(("connect_read_pipe", "connect_write_pipe", "add_reader", "add_writer"), _WAIT),
    **dict.fromkeys(("remove_reader", "remove_writer"), _WAIT),
    **dict.fromkeys(("add_signal_handler", "remove_signal_handler"), "handle operating system signals"),
    **dict.fromkeys(("run_forever", "run_until_complete", "stop"), _RUN),
    **dict.fromkeys(("set_debug", "set_task_factory", "set_exception_handler"), _CHANGE),
    **dict.fromkeys(("set_default_executor", "shutdown_default_executor"), _CHANGE),
    "default_exception_handler": _CHANGE,
}
"""What asyncio's loops can do, and a replay could not repeat, or the loop of a workflow does not have."""

_REMEDIES = {
    _RUN: (
        "one runs already, and it is the workflow's own",
        "await the coroutine: `await main()` for `asyncio.run(main())`",
    ),
    _CHANGE: (
        "it is the engine's, the same in every replay",
        "leave this out; put try and except around the code whose errors matter",
    ),
}
"""Why, and what to do instead, where the usual answer does not fit."""

for _name, _what in _REFUSED.items():
    setattr(WorkflowLoop, _name, _refusing(_what))

_CHANGES = ("call_soon", "call_at", "create_future", "create_task")

_TASKS_BY_THREAD = sys.version_info >= (3, 14)

if sys.version_info >= (3, 14):
    # From 3.14 on the current task belongs to the thread, not to the loop: it has to step aside.
    from asyncio.tasks import _swap_current_task  # type: ignore[attr-defined]

    def _leave_task(loop: asyncio.AbstractEventLoop | None) -> Any:
        return None if loop is None else _swap_current_task(loop, None)

    def _enter_task(loop: asyncio.AbstractEventLoop | None, task: Any) -> None:
        if loop is not None:
            _swap_current_task(loop, task)

else:

    def _leave_task(loop: asyncio.AbstractEventLoop | None) -> Any:
        return None

    def _enter_task(loop: asyncio.AbstractEventLoop | None, task: Any) -> None:
        return None


__all__ = ["WorkflowFuture", "WorkflowLoop", "WorkflowTask", "WorkflowTimer"]
