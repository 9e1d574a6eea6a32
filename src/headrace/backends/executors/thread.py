"""Executor ``thread``: plain functions on a pool of threads of its own.

Built for many short calls: work goes out through one ``SimpleQueue``; results come back through a deque, and however
many finish in a burst, the event loop is woken once. All bookkeeping happens on the loop, so nothing here is locked.

A thread cannot be killed. When a call is cancelled or times out, its attempt ends at once and its thread is
*abandoned*: a new one takes its place in the pool, and the old one is let go when its function returns. Code that may
hang belongs on the ``process`` executor. What functions print goes to the engine's own stdout and stderr;
``current_attempt().log(...)`` goes to the attempt's log.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from types import CoroutineType
from typing import Any, ClassVar

from headrace.contracts.current import AttemptInfo, attempt_var
from headrace.contracts.execution import Attempt, AttemptError, AttemptLog
from headrace.contracts.outcome import tame
from headrace.core.errors import EngineStopped

CALLS_MAX = 100_000
"""Calls accepted at once, running or queued; further ones wait in their callers."""

ABANDONED_MAX_DEFAULT = 100
"""Threads that may still run code of cancelled attempts before new calls are refused."""

_logger = logging.getLogger(__name__)


class _Call:
    """One call. ``claims`` holds one token: whoever pops it, worker or canceller, decides whether the call runs."""

    __slots__ = ("args", "claims", "context", "error", "function", "future", "info", "result")

    def __init__(
        self, future: asyncio.Future[Any], function: Callable[..., Any], args: dict[str, Any], info: AttemptInfo
    ) -> None:
        self.future = future
        self.function = function
        self.args = args
        self.info = info
        self.context = contextvars.copy_context()
        self.claims = [True]
        self.result: Any = None
        self.error: BaseException | None = None


class ThreadExecutor:
    """A pool that grows on demand to ``threads_max`` (default: four per core, at most 32).

    One event loop per instance at a time. Calls are safe to cancel, see the module's note on abandoned threads.
    """

    name: ClassVar[str] = "thread"

    def __init__(self, threads_max: int | None = None, *, abandoned_max: int = ABANDONED_MAX_DEFAULT) -> None:
        self.threads_max = threads_max if threads_max is not None else min(32, (os.cpu_count() or 1) * 4)
        if self.threads_max < 1:
            raise ValueError(f"threads_max must be at least 1, not {threads_max}")
        self.abandoned_max = abandoned_max
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: SimpleQueue[_Call | None] = SimpleQueue()
        self._done: deque[_Call] = deque()
        self._woken = False
        self._threads = 0
        self._active: set[_Call] = set()
        self._abandoned: set[_Call] = set()
        self._room: deque[asyncio.Future[None]] = deque()
        self._stopped = False

    @property
    def abandoned(self) -> int:
        """Threads that still run code of cancelled attempts."""
        return len(self._abandoned)

    async def start(self) -> None:
        """Bind to the running loop. Idempotent; threads start with the first calls."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None and not self._loop.is_closed() and self._active:
                raise RuntimeError("this ThreadExecutor is in use on another event loop; make one per loop")
            self._reset(loop)
        self._stopped = False

    def _reset(self, loop: asyncio.AbstractEventLoop) -> None:
        self._dismiss_threads()
        self._loop = loop
        self._queue = SimpleQueue()
        self._done = deque()
        self._woken = False
        self._active = set()
        self._abandoned = set()

    def resize(self, threads_max: int) -> None:
        """Change the size of the pool. More threads start with the calls that need them; of too many, each ends when it
        has nothing to do."""
        self.threads_max = threads_max
        while self._threads > threads_max:
            self._threads -= 1
            self._queue.put(None)
        while self._threads < min(threads_max, len(self._active)):  # calls that were queued for want of a thread
            self._add_thread()

    async def stop(self) -> None:
        """Calls under way end with :class:`EngineStopped`; their threads are let go. Idempotent."""
        self._stopped = True
        for call in list(self._active):
            if not call.future.done():
                call.info.mark_cancelled()
                call.future.set_exception(EngineStopped("the engine stopped while the task was running"))
                self._let_go(call)
        self._dismiss_threads()
        self._loop = None

    def _dismiss_threads(self) -> None:
        for _ in range(self._threads + len(self._abandoned)):
            self._queue.put(None)
        self._threads = 0

    async def call(
        self, target: str, function: Callable[..., Any], args: dict[str, Any], attempt: Attempt, log: AttemptLog
    ) -> Any:
        """Call in a thread, with a copy of the caller's context. A coroutine function gets an event loop of its own.
        Raises :class:`AttemptError` of type ``abandoned`` when too many cancelled calls still hold threads."""
        loop = asyncio.get_running_loop()
        if self._stopped:
            raise EngineStopped("the engine is stopping and takes no new work")
        if self._loop is not loop:
            await self.start()
        while len(self._active) >= CALLS_MAX:
            waiter: asyncio.Future[None] = loop.create_future()
            self._room.append(waiter)
            await waiter
        if self._stopped:
            raise EngineStopped("the engine is stopping and takes no new work")
        if len(self._abandoned) >= self.abandoned_max:
            raise AttemptError(
                "abandoned",
                f"{len(self._abandoned)} cancelled or timed-out calls still run in threads, which cannot be stopped; "
                f"{target} was not started. Give tasks that may hang `executor: process`",
            )
        future: asyncio.Future[Any] = loop.create_future()
        call = _Call(future, function, args, AttemptInfo(attempt, log))
        self._active.add(call)
        if len(self._active) > self._threads and self._threads < self.threads_max:
            self._add_thread()
        self._queue.put(call)
        try:
            return await future
        except asyncio.CancelledError:
            call.info.mark_cancelled()
            if call in self._active:
                self._let_go(call, target)
            raise

    def _let_go(self, call: _Call, target: str = "") -> None:
        """Stop caring about a call. If it runs already, its thread is replaced."""
        self._active.discard(call)
        self._admit()
        try:
            call.claims.pop()
        except IndexError:  # a worker has it
            if self._stopped:  # the whole pool is being dismissed, that worker with it
                return
            self._abandoned.add(call)
            self._threads -= 1
            self._add_thread()
            if target and len(self._abandoned) in (1, self.abandoned_max // 2, self.abandoned_max):
                _logger.warning(
                    "a cancelled call still runs in its thread, which cannot be stopped: %s (%d such, at most %d)",
                    target,
                    len(self._abandoned),
                    self.abandoned_max,
                )

    def _add_thread(self) -> None:
        self._threads += 1
        worker = threading.Thread(
            target=_work,
            args=(self._queue, self._done, self._wake),
            name=f"headrace-thread-{self._threads}",
            daemon=True,  # an abandoned call must not keep the process from ending
        )
        worker.start()

    def _wake(self) -> bool:
        """From a worker: have the loop drain what is done; False when the executor has stopped. The flag falls before the
        drain begins, so a result is never left lying; a doubled wake-up is harmless."""
        if self._woken:
            return True
        loop = self._loop
        if loop is None:
            return False
        self._woken = True
        try:
            loop.call_soon_threadsafe(self._drain)
        except RuntimeError:  # the loop was closed under an abandoned thread: nobody waits for its result
            self._woken = False
            return False
        return True

    def _drain(self) -> None:
        self._woken = False
        done, active = self._done, self._active
        while done:
            call = done.popleft()
            if call in active:
                active.discard(call)
                future = call.future
                if not future.done():
                    if call.error is None:
                        future.set_result(call.result)
                    else:
                        future.set_exception(tame(call.error))
            elif call in self._abandoned:
                self._abandoned.discard(call)
                self._queue.put(None)  # the pool has one thread too many now that this one is back
        if self._room:
            self._admit()

    def _admit(self) -> None:
        free = CALLS_MAX - len(self._active)
        while self._room and free > 0:
            waiter = self._room.popleft()
            if not waiter.done():
                waiter.set_result(None)
                free -= 1


def _work(
    queue: SimpleQueue[_Call | None],
    done: deque[_Call],
    wake: Callable[[], bool],
) -> None:
    """The life of a pool thread."""
    while True:
        call = queue.get()
        if call is None:
            return
        try:
            call.claims.pop()
        except IndexError:  # cancelled before it began
            continue
        try:
            call.result = call.context.run(_invoke, call)
        except BaseException as error:  # noqa: BLE001, RUF100 - user code: handed to the loop, which tames it
            call.error = error
        done.append(call)
        if not wake():
            return
        del call  # the next wait may be long; it must not keep arguments and results alive


def _invoke(call: _Call) -> Any:
    attempt_var.set(call.info)
    result = call.function(**call.args)
    if type(result) is CoroutineType:
        return asyncio.run(result)
    return result
