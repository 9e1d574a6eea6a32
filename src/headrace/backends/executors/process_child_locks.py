"""Locks in a child process: a :class:`~headrace.contracts.locking.Locker` that asks the engine.

Locks need somebody who reads the socket while the call is under way. That is a thread with an event loop of its own,
begun with the first lock that the child takes; most children never do.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable
from typing import Protocol

from headrace.backends.executors import process_wire as wire
from headrace.core import errors
from headrace.core.errors import EngineStopped, HeadraceError, LockLost, LockNotFree

LOOK_SECONDS = 5.0
"""How long the engine may take to say whether a lock is still held; one that is silent for longer may be suspended, and
the lock somebody else's."""


class Wire(Protocol):
    """The child's connection."""

    def hand_over(self, loop: asyncio.AbstractEventLoop, answered: Callable[[bytes | None], None]) -> None:
        """Read with that loop from now on, and give it the bodies of lock answers, None at the end. Raises
        :class:`LockMisused` between two calls."""
        ...

    def send(self, kind: int, body: bytes) -> None:
        """One frame."""
        ...


class ChildGrip:
    """A lock that the engine holds for this call. Safe from any thread of the user's code."""

    def __init__(self, locker: ChildLocker, owner: str, number: int, token: int, until: float) -> None:
        self._locker = locker
        self.owner = owner
        self.number = number
        self.token = token
        self._until = until

    @property
    def held_until(self) -> float:
        """As the engine said last: the monotonic clock is the same for all processes of a host."""
        return self._until

    @property
    def is_held(self) -> bool:
        """Whether it is still held; asks the engine when it cannot be known here any more."""
        if time.monotonic() < self._until:
            return True
        asked = asyncio.run_coroutine_threadsafe(self._locker.look(self), self._locker.loop)
        try:
            self._until = asked.result(LOOK_SECONDS)
        except (TimeoutError, HeadraceError, OSError):
            asked.cancel()
            return False
        return time.monotonic() < self._until


class ChildLocker:
    """See :class:`headrace.contracts.locking.Locker`; one for the life of the child."""

    def __init__(self, connection: Wire) -> None:
        self._connection = connection
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting = threading.Lock()
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[wire.LockAnswer]] = {}

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """That of the thread that reads the socket."""
        with self._starting:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                try:
                    self._connection.hand_over(loop, self._answered)
                except BaseException:
                    loop.close()
                    raise
                threading.Thread(target=loop.run_forever, name="headrace-locks", daemon=True).start()
                self._loop = loop
            return self._loop

    async def acquire(
        self, name: str, timeout_seconds: float | None, owner: str, on_lost: Callable[[LockLost], None]
    ) -> ChildGrip:
        """See the contract; but nobody is told of a loss, because the engine then ends this process."""
        number = next(self._numbers)
        ask = wire.LockAsk(call=number, attempt=owner, verb="take", name=name, timeout_seconds=timeout_seconds)
        try:
            answer = await self._ask(ask)
        except asyncio.CancelledError:
            self._tell(wire.LockAsk(call=next(self._numbers), attempt=owner, verb="release", grip=number))
            raise
        return ChildGrip(self, owner, number, answer.token, answer.until)

    async def release(self, grip: ChildGrip) -> None:
        """See the contract."""
        await self._ask(wire.LockAsk(call=next(self._numbers), attempt=grip.owner, verb="release", grip=grip.number))

    async def look(self, grip: ChildGrip) -> float:
        """Until when it is held for certain."""
        ask = wire.LockAsk(call=next(self._numbers), attempt=grip.owner, verb="look", grip=grip.number)
        return (await self._ask(ask)).until

    def interrupt(self, owner: str, error: LockLost) -> None:
        """Nothing: the engine does."""

    async def _ask(self, ask: wire.LockAsk) -> wire.LockAnswer:
        answer: asyncio.Future[wire.LockAnswer] = asyncio.get_running_loop().create_future()
        self._answers[ask.call] = answer
        try:
            self._tell(ask)
            got = await answer
        finally:
            del self._answers[ask.call]
        if got.problem is not None:
            raise _error(got.problem)
        return got

    def _tell(self, ask: wire.LockAsk) -> None:
        self._connection.send(wire.LOCK, wire.encode_lock(ask))

    def _answered(self, body: bytes | None) -> None:
        if body is None:
            for waiting in self._answers.values():
                if not waiting.done():
                    waiting.set_exception(EngineStopped("the engine is gone"))
            return
        answer = wire.decode_lock_answer(body)
        waiting = self._answers.get(answer.call)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)


def _error(problem: wire.LockProblem) -> HeadraceError:
    """The engine's error, of its own class."""
    if problem.kind == LockNotFree.__name__:
        return LockNotFree(problem.message, name=problem.name, node=problem.node, hint=problem.hint)
    kind = getattr(errors, problem.kind, HeadraceError)
    error = HeadraceError.__new__(kind if issubclass(kind, HeadraceError) else HeadraceError)
    HeadraceError.__init__(error, problem.message, hint=problem.hint)
    return error
