"""Locks for users' code: ``async with lock("name") as held:`` in a coroutine, ``with lock("name") as held:`` in a thread.

The lock is kept in the store (or by whoever keeps the locks), so it is one for all nodes. It does not prevent what no
lock can prevent: that code which was suspended goes on a little after its lock was lost. ``held.token`` is for that: it
rises whenever the lock changes hands, and whatever the lock protects can refuse a lower one than it has seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Protocol, TypeVar

from headrace.contracts.current import attempt_var
from headrace.contracts.locks import NAME_CHARS_MAX, RESERVED
from headrace.core.durations import parse_duration
from headrace.core.errors import LockLost, LockMisused

T = TypeVar("T")


class Grip(Protocol):
    """A lock in the hands of this process. Safe from any thread."""

    @property
    def token(self) -> int:
        """Its fencing token."""
        ...

    @property
    def held_until(self) -> float:
        """Until when it is ours for certain unless it is renewed, by the monotonic clock."""
        ...

    @property
    def is_held(self) -> bool:
        """Whether it is still ours, as far as this process can know."""
        ...


class Locker(Protocol):
    """What a node offers. Coroutines run on ``loop``."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The engine's event loop."""
        ...

    async def acquire(
        self, name: str, timeout_seconds: float | None, owner: str, on_lost: Callable[[LockLost], None]
    ) -> Grip:
        """Wait for a lock, first come, first served. ``owner`` is an attempt's key, or ''; what it has is given back when
        it ends. ``on_lost`` is called on ``loop``, once. Raises :class:`LockNotFree` and :class:`LockMisused`."""
        ...

    async def release(self, grip: Any) -> None:
        """Give it back; errors are logged, and its time ends by itself then. Idempotent."""
        ...

    def interrupt(self, owner: str, error: LockLost) -> None:
        """End the attempt with that error. On ``loop``."""
        ...


class HeldLock:
    """A lock while it is held: what ``with`` and ``async with`` give."""

    def __init__(self, name: str, grip: Grip) -> None:
        self.name = name
        self._grip = grip

    @property
    def token(self) -> int:
        """The fencing token: higher than that of everybody who held the lock before. Give it to what the lock protects,
        which can then refuse those who come late."""
        return self._grip.token

    @property
    def is_held(self) -> bool:
        """Whether the lock is still held, as far as this process can know: by its monotonic clock, less a margin."""
        return self._grip.is_held

    def check(self) -> None:
        """Raise :class:`LockLost` unless the lock is still held. For code in threads, which cannot be interrupted."""
        if not self._grip.is_held:
            raise lost(self.name, self._grip.token, "its time is over")

    def __repr__(self) -> str:
        return f"<lock {self.name!r} token {self.token}>"


def lost(name: str, token: int, why: str) -> LockLost:
    """The error for a lock that was lost."""
    return LockLost(f"lock {name!r} (token {token}) was lost while it was held: {why}", name=name, token=token)


class Lock:
    """One acquisition of a lock; see :func:`lock`. Each is used once, by one task or thread."""

    def __init__(self, name: str, timeout_seconds: float | None, locker: Locker | None = None) -> None:
        self.name = name
        self._timeout = timeout_seconds
        self._locker = locker
        self._owner = ""
        self._grip: Grip | None = None
        self._error: LockLost | None = None
        self._used = False
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._was_cancelled = False

    def _begin(self) -> Locker:
        if self._used:
            raise LockMisused(
                f"lock {self.name!r} was used already: a lock() is good for one `with`", hint="write lock(...) again"
            )
        self._used = True
        if self._locker is not None:
            return self._locker
        info = attempt_var.get()
        if info is None:
            raise LockMisused(
                f"lock({self.name!r}) was used outside a task",
                hint="workflow code: take it in a task it calls; other programs: headrace.lock(...) of their engine",
            )
        attempt = info._attempt
        if attempt.locker is None:
            raise LockMisused(
                f"lock({self.name!r}): nobody gives locks to this attempt",
                hint="an attempt that a node or a worker carries out can take locks; one that was made by hand cannot",
            )
        self._owner = attempt.key
        self._locker = attempt.locker
        return attempt.locker

    # ---- in coroutines ---------------------------------------------------------------------------------------------

    async def __aenter__(self) -> HeldLock:
        """Wait for the lock. Raises :class:`LockNotFree` when ``timeout`` is over, and :class:`LockMisused`."""
        locker = self._begin()
        self._task = task = asyncio.current_task()
        assert task is not None
        self._cancelling = task.cancelling()
        loop = asyncio.get_running_loop()

        def cancel() -> None:
            if self._task is not None:  # still inside
                self._was_cancelled = True
                self._task.cancel()

        def on_lost(error: LockLost) -> None:
            self._error = error
            with contextlib.suppress(RuntimeError):  # the loop of a thread's coroutine may be closed by now
                loop.call_soon_threadsafe(cancel)

        self._grip = await _on(locker, locker.acquire(self.name, self._timeout, self._owner, on_lost))
        return HeldLock(self.name, self._grip)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lock back. Raises :class:`LockLost` if it was lost meanwhile, unless another error is on its way."""
        grip, task, self._task = self._grip, self._task, None
        assert grip is not None
        assert task is not None
        assert self._locker is not None
        if self._was_cancelled:
            if kind is None:  # the code did not wait any more: the cancellation is still to come, here
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0)
            is_ours = task.uncancel() <= self._cancelling
        else:
            is_ours = False
        is_held = grip.is_held
        await _on(self._locker, self._locker.release(grip))
        if (kind is None and not is_held) or (is_ours and kind is asyncio.CancelledError):
            raise self._error or lost(self.name, grip.token, "its time is over") from error

    # ---- in threads ------------------------------------------------------------------------------------------------

    def __enter__(self) -> HeldLock:
        """The same for threads."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise LockMisused(f"`with lock({self.name!r})` in a coroutine would block it", hint="use `async with`")
        locker = self._begin()

        def on_lost(error: LockLost) -> None:
            self._error = error
            if self._owner:
                locker.interrupt(self._owner, error)

        self._grip = _call(locker, locker.acquire(self.name, self._timeout, self._owner, on_lost))
        return HeldLock(self.name, self._grip)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The same for threads."""
        grip = self._grip
        assert grip is not None
        assert self._locker is not None
        is_held = grip.is_held
        _call(self._locker, self._locker.release(grip))
        if kind is None and not is_held:
            raise self._error or lost(self.name, grip.token, "its time is over")

    def __await__(self) -> Any:
        raise LockMisused(f"lock({self.name!r}) is not awaited", hint='write: async with lock("name") as held:')


async def _on(locker: Locker, work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the locker's loop, from any loop."""
    if locker.loop is asyncio.get_running_loop():
        return await work
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, locker.loop))


def _call(locker: Locker, work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the locker's loop, from a thread without one."""
    future = asyncio.run_coroutine_threadsafe(work, locker.loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def lock(name: str, *, timeout: str | float | datetime.timedelta | None = None) -> Lock:
    """A lock that one attempt at a time holds, on all nodes of the store: ``async with lock("name") as held:`` in a
    coroutine, ``with lock("name") as held:`` in a plain function; both also in a process of their own.

    ``name``: 1 to 200 characters; names that begin with ``headrace.`` are reserved. Those who wait are served in the
    order in which they came. ``timeout``: how long to wait (default: for as long as the attempt may run; 0: only ask);
    then :class:`LockNotFree` is raised, which is retryable. ``held.token`` is the fencing token.

    Given back at the end of the block, and in any case when the attempt ends. If it is lost before (the node could not
    renew it in time, or lost its lease), the block is cancelled and the attempt fails with :class:`LockLost`, which is
    retryable; a process is killed; code in a thread goes on until it looks at ``held.is_held`` or calls
    ``held.check()``. Raises :class:`LockMisused` outside of tasks, and for a lock that the attempt has already.
    """
    return make_lock(name, timeout)


def make_lock(name: str, timeout: str | float | datetime.timedelta | None, locker: Locker | None = None) -> Lock:
    """See :func:`lock`; ``locker`` for programs that have an engine."""
    if not _is_name(name):
        shown = repr(name) if len(repr(name)) <= NAME_CHARS_MAX else f"{repr(name)[:40]}..."
        raise LockMisused(f"{shown} is no name of a lock", hint=f"a text of 1 to {NAME_CHARS_MAX} characters")
    if name.startswith(RESERVED):
        raise LockMisused(f"{name!r}: names that begin with {RESERVED!r} are Headrace's own", hint="use another name")
    try:
        seconds = None if timeout is None else parse_duration(timeout)
    except ValueError as error:
        raise LockMisused(f"lock({name!r}): timeout: {error}") from None
    return Lock(name, seconds, locker)


def _is_name(name: object) -> bool:
    return isinstance(name, str) and 0 < len(name) <= NAME_CHARS_MAX and "\0" not in name
