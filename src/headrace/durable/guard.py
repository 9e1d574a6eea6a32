"""Bounds what workflow code may compute without waiting: the engine and all other runs of the node stand still meanwhile.

An endless loop never comes back to the event loop, so nothing that runs there can end it. A thread of its own looks
now and then at what the guarded threads are doing. Code that has used :data:`SECONDS_MAX` of *processor* time since it
was let run (a stalled disk, a suspended machine or a debugger cost it nothing) gets an exception thrown into it.

What a thread does costs no lock: a step is two assignments. The handshake in :meth:`Guard.leave` makes sure that the
exception arrives inside of the step or not at all. Works on CPython; elsewhere nothing is guarded.

Code that stands still instead (at a lock that a thread holds, say) cannot be ended: nothing reaches it before it has got
what it waits for. That is logged, with the line, once per step.

Source of the idea: the deadlock detectors of Temporal's SDKs, which judge by wall-clock time and can only report.
"""

from __future__ import annotations

import _thread
import logging
import os
import sys
import threading
import time
from collections.abc import Callable

logger = logging.getLogger("headrace.workflow")

SECONDS_MAX = 5.0
"""Processor time that workflow code may use before it waits for something."""

_LOOK_SECONDS = 0.5

STILL_SECONDS = 10.0
"""Time after which a step that has hardly computed is reported."""

_CAN_THROW = sys.implementation.name == "cpython" and hasattr(time, "pthread_getcpuclockid")


def _throw_into(thread: int) -> None:
    import ctypes  # noqa: PLC0415 - hardly ever needed, and slow to import

    throw = ctypes.pythonapi.PyThreadState_SetAsyncExc
    throw.argtypes = (ctypes.c_ulong, ctypes.py_object)
    throw(thread, TooLong)


class TooLong(BaseException):
    """Thrown into workflow code that does not come to an end."""


class Step:
    """Code that runs without waiting. ``place`` is where it was when its time was over, None as long as it is not."""

    place: str | None = None
    reported: bool = False


class Guard:
    """Watches the steps of one thread."""

    def __init__(self, describe: Callable[[int], str]) -> None:
        self._thread = threading.get_ident()
        self._describe = describe
        self._clock = time.pthread_getcpuclockid(self._thread) if _CAN_THROW else None
        self.step: Step | None = None
        """What the thread is at."""
        self._throwing: Step | None = None
        self._seen: tuple[Step, float] | None = None
        self._seen_at = 0.0

    def enter(self) -> Step:
        """A step begins."""
        step = self.step = Step()
        return step

    def leave(self, step: Step) -> None:
        """It has come to rest, or raised. Nothing is thrown into the thread afterwards."""
        try:
            self.step = None
            # Whoever throws says so first and looks for the step then: what is not seen here is not thrown.
            if self._throwing is None and step.place is None:
                return
            self._settle(step)
        except TooLong:  # it was on its way
            self._settle(step)

    def _settle(self, step: Step) -> None:
        self.step = None
        while self._throwing is step:  # for microseconds; nothing that sleeps may be called in a step
            pass
        if step.place is not None:
            for _ in range(100):  # an exception that was thrown arrives at the next jump backwards
                pass

    def look(self) -> bool:
        """Called by the watching thread; False once the guarded one has ended."""
        step, clock = self.step, self._clock
        if clock is None:
            return False
        try:
            used = time.clock_gettime(clock)
        except OSError:
            return False
        if step is None or self._seen is None or self._seen[0] is not step:
            self._seen = None if step is None else (step, used)
            self._seen_at = time.monotonic()
        elif used - self._seen[1] >= SECONDS_MAX:
            self._seen = (step, used - SECONDS_MAX + _LOOK_SECONDS)  # code that caught it gets another one soon
            self._end(step)
        elif time.monotonic() - self._seen_at >= STILL_SECONDS and not step.reported:
            step.reported = True
            logger.error(
                "workflow code stands still, and with it all other runs of this node; what blocks belongs into a task",
                extra={"place": self._describe(self._thread)},
            )
        return True

    def _end(self, step: Step) -> None:
        place = self._describe(self._thread)
        self._throwing = step
        try:
            if self.step is step:
                step.place = place
                _throw_into(self._thread)
        finally:
            self._throwing = None


class _Watcher:
    """The thread that looks after all guards of the process. Begins with the first of them; a daemon."""

    def __init__(self) -> None:
        self._guards: list[Guard] = []
        self._lock = threading.Lock()
        self._running = False

    def add(self, guard: Guard) -> None:
        if not _CAN_THROW:
            return
        with self._lock:
            self._guards.append(guard)
            if not self._running:
                self._running = True
                # Not threading.Thread: the first step may be under way, in which that is refused.
                _thread.start_new_thread(self._watch, ())

    def _watch(self) -> None:
        while True:
            time.sleep(_LOOK_SECONDS)
            try:
                with self._lock:
                    self._guards = [guard for guard in self._guards if guard.look()]
                    if not self._guards:
                        self._running = False
                        return
            except Exception:
                logger.exception("workflow code could not be watched")


_watcher = _Watcher()
_local = threading.local()


def _forget_in_child() -> None:
    # The watching thread is not in a forked child, and its lock may be held for ever there.
    global _watcher, _local
    _watcher, _local = _Watcher(), threading.local()


os.register_at_fork(after_in_child=_forget_in_child)


def guard_of_thread(describe: Callable[[int], str]) -> Guard:
    """The guard of the calling thread. ``describe(thread)`` says where the code of a thread is."""
    try:
        return _local.guard  # type: ignore[no-any-return]
    except AttributeError:
        guard = _local.guard = Guard(describe)
        _watcher.add(guard)
        return guard
