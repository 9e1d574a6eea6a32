"""Locks for a call in a child process: the engine takes them in its name, over the child's socket.

The child has no way to whoever keeps the locks. What it holds is held by the attempt on the engine's side, so it is
given back when the attempt ends, in whatever way: the child crashed, was killed, or forgot it. When a lock is lost, the
attempt is ended as for a thread, which kills the child: unlike a thread, it can be stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from headrace.backends.executors import process_wire as wire
from headrace.contracts.execution import Attempt
from headrace.contracts.locking import Grip, Locker
from headrace.core.errors import HeadraceError, LockLost, LockMisused, LockNotFree

ASKS_MAX = 1_000
"""Questions of one call that are answered at a time."""


class ChildLocks:
    """What one call wants and has. ``send`` takes an answer's body. On the engine's event loop."""

    def __init__(self, attempt: Attempt, locker: Locker, send: Callable[[bytes], None]) -> None:
        self._key = attempt.key
        self._locker = locker
        self._send = send
        self._grips: dict[int, Grip] = {}
        self._taking: dict[int, asyncio.Task[None]] = {}
        self._at_work: set[asyncio.Task[None]] = set()

    def asked(self, body: bytes) -> None:
        """A question of the child. What is none is left unanswered: a rogue child harms only itself."""
        try:
            ask = wire.decode_lock_ask(body)
        except msgspec.DecodeError:
            return
        if ask.attempt != self._key:
            self._refuse(ask, _over())
        elif len(self._at_work) >= ASKS_MAX:
            self._refuse(ask, LockMisused(f"more than {ASKS_MAX:,} locks are wanted at a time"))
        elif ask.verb == "take":
            self._taking[ask.call] = self._begin(self._take(ask))
        elif ask.verb == "release":
            self._begin(self._release(ask))
        else:
            self._answer(wire.LockAnswer(call=ask.call, until=_until(self._grips.get(ask.grip))))

    def close(self) -> None:
        """The call is over; whoever ends the attempt gives back what it had."""
        for task in list(self._at_work):
            task.cancel()

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)
        return task

    async def _take(self, ask: wire.LockAsk) -> None:
        def on_lost(error: LockLost) -> None:
            self._locker.interrupt(self._key, error)

        try:
            grip = await self._locker.acquire(ask.name, ask.timeout_seconds, self._key, on_lost)
        except HeadraceError as error:
            self._refuse(ask, error)
        else:
            self._grips[ask.call] = grip
            self._answer(wire.LockAnswer(call=ask.call, token=grip.token, until=_until(grip)))
        finally:
            self._taking.pop(ask.call, None)

    async def _release(self, ask: wire.LockAsk) -> None:
        """Of what is held, and of what is still waited for."""
        taking = self._taking.get(ask.grip)
        if taking is not None:
            taking.cancel()
            await asyncio.wait([taking])
        grip = self._grips.pop(ask.grip, None)
        if grip is not None:
            await self._locker.release(grip)
        self._answer(wire.LockAnswer(call=ask.call))

    def _refuse(self, ask: wire.LockAsk, error: HeadraceError) -> None:
        self._answer(_refusal(ask, error))

    def _answer(self, answer: wire.LockAnswer) -> None:
        self._send(wire.encode_lock(answer))


def refuse_late(body: bytes, send: Callable[[bytes], None]) -> None:
    """A question between two calls: a thread that outlived its own asks."""
    with contextlib.suppress(msgspec.DecodeError):
        send(wire.encode_lock(_refusal(wire.decode_lock_ask(body), _over())))


def _over() -> HeadraceError:
    return LockMisused("the attempt that wants the lock is over")


def _refusal(ask: wire.LockAsk, error: HeadraceError) -> wire.LockAnswer:
    problem = wire.LockProblem(
        kind=type(error).__name__,
        message=error.message,
        hint=error.hint,
        name=error.name if isinstance(error, LockNotFree) else "",
        node=error.node if isinstance(error, LockNotFree) else "",
    )
    return wire.LockAnswer(call=ask.call, problem=problem)


def _until(grip: Grip | None) -> float:
    return -math.inf if grip is None else grip.held_until
