"""A thread that owns one connection and does one job at a time: the way from the event loop to blocking SQLite.

A whole transaction is one job, so a commit costs one hop there and one back (some 50 microseconds together), not one
per statement.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from headrace.core.errors import StoreError, StoreUnavailable


class Closed(Protocol):
    """What a thread can own: a connection, or what opens one."""

    def close(self) -> None:
        """Called by the thread at its end."""
        ...


A = TypeVar("A")
C = TypeVar("C", bound=Closed)
T = TypeVar("T")

JOBS_WAITING_MAX = 20_000
"""More calls than this waiting for one thread are refused: memory is bounded, and the caller learns that it is too
fast."""

_Answer = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]"]

# Whom to answer, if anybody waits; what to call; its arguments. Any: jobs of all types share one queue.
_Job = tuple[_Answer | None, Callable[..., Any], tuple[Any, ...]]


class ConnectionThread(Generic[C]):
    """Runs jobs ``function(connection, *arguments)`` in the order they were given.

    The thread is a daemon: a store that nobody closed does not keep the program alive. Not restartable.
    """

    def __init__(self, name: str, connection: C) -> None:
        self._connection = connection
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._stopped = False
        self._counting = threading.Lock()
        self._given = 0
        self._done = 0
        self._using = threading.Lock()
        """Held by whoever uses the connection."""
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    async def call(self, function: Callable[..., T], *arguments: object) -> T:
        """Have a job done and return its result or raise its error.

        A call cancelled before its turn is dropped, one cancelled later takes effect.
        """
        if self._stopped:
            raise StoreError("the store is closed", hint="open it again to use it")
        if self._jobs.qsize() >= JOBS_WAITING_MAX:
            raise StoreUnavailable(f"{JOBS_WAITING_MAX} calls wait for the database already", hint="send less at once")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._give(((loop, future), function, arguments))
        return await future

    def give(self, function: Callable[..., object], *arguments: object) -> None:
        """Have a job done when its turn comes, without an answer; it must not raise. Ignored once stopped."""
        if not self._stopped:
            self._give((None, function, arguments))

    def now(self, function: Callable[[C, A], T], argument: A) -> T | None:
        """Do a job on the caller's thread, if the connection is idle and nothing waits for it; None otherwise."""
        if self._stopped or self._given != self._done or not self._using.acquire(False):
            return None
        try:
            return function(self._connection, argument)
        finally:
            self._using.release()

    async def stop(self) -> None:
        """Finish the jobs given so far, close the connection and end the thread. Idempotent."""
        if not self._stopped:
            self._stopped = True
            self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _give(self, job: _Job) -> None:
        with self._counting:  # calls may come from the loops of several threads
            self._given += 1
            self._jobs.put(job)

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._do(*job)
            # While waiting for the next job, hold nothing of the last one alive.
            del job
        self._connection.close()

    def _do(self, answer: _Answer | None, function: Callable[..., object], arguments: tuple[object, ...]) -> None:
        if answer is not None and answer[1].cancelled():
            self._done += 1
            return
        result, error = None, None
        try:
            with self._using:
                result = function(self._connection, *arguments)
        except BaseException as raised:  # handed to the caller, whatever it is
            error = raised
        self._done += 1  # before the answer: whoever gets it may use the idle connection at once
        if answer is not None:
            loop, future = answer
            # A loop that is closed, or takes no calls from threads, is told nothing; the thread serves others too.
            with contextlib.suppress(Exception):
                loop.call_soon_threadsafe(_settle, future, result, error)


def _settle(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
