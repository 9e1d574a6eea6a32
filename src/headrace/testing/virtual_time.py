"""Time that passes only when there is nothing else to do.

For as long as it is installed, the running event loop does not wait for its timers: when nothing is ready to run and
nobody outside of the loop is at work (a thread, a process, a database), its clock jumps to the next timer. A month of
waiting takes as long as what happens in it. The loop's clock and the wall clock are one, so that no time is ever rounded.

Idea: ``aiotools.VirtualClock`` and ``looptime``; here the engine says what counts as work outside of the loop.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

from headrace.core.errors import HeadraceError

SLICE_SECONDS = 0.05
"""How long the loop waits at once for work outside of it before it looks again."""


class VirtualTime:
    """The clock of one event loop. ``busy()`` says whether somebody outside of the loop is at work."""

    def __init__(self, busy: Callable[[], bool]) -> None:
        loop: Any = asyncio.get_running_loop()
        if not hasattr(loop, "_selector"):
            raise HeadraceError(
                f"virtual time needs asyncio's own event loop, not {type(loop).__module__}.{type(loop).__qualname__}",
                hint="run this test with asyncio.run() and the default event loop policy",
            )
        if "time" in vars(loop):
            raise HeadraceError("time is virtual on this event loop already: use one Environment at a time")
        self._loop: Any = loop
        self._busy = busy
        self._selector: Any = loop._selector
        self._select = self._selector.select
        self._now = 0.0
        self._resolution: float = loop._clock_resolution
        self._calls = 0
        self._idle: list[asyncio.Future[None]] = []
        self.installed = False

    def install(self, begin: float) -> None:
        """Take the loop's clock over: its time is ``begin``, in seconds since the epoch. Timers keep the time they have
        left."""
        self._shift(begin - self._loop.time())
        self._now = begin
        self._loop.time = self.time
        self._loop.run_in_executor = self._run_in_executor
        self._selector.select = self._virtual_select
        self.installed = True
        # A timer is due when the clock shows its time exactly: wall-clock times are too large for a finer tolerance.
        self._loop._clock_resolution = math.ulp(begin)

    def uninstall(self) -> None:
        """Give the loop its own clock back. Timers keep the time they have left."""
        if self.installed:
            self.installed = False
            for name in ("time", "run_in_executor"):
                vars(self._loop).pop(name, None)
            vars(self._selector).pop("select", None)
            self._loop._clock_resolution = self._resolution
            self._shift(self._loop.time() - self._now)
            self._tell_idle()

    def set(self, now: float) -> None:
        """Show another time. Timers keep the time they have left."""
        self._shift(now - self._now)
        self._now = now

    def _shift(self, seconds: float) -> None:
        for handle in self._loop._scheduled:
            handle._when += seconds

    def time(self) -> float:
        """The loop's time in seconds since the epoch. It stands still while code runs."""
        return self._now

    async def idle(self) -> None:
        """Wait until everything that can happen without time passing has happened."""
        if not self.installed:
            return
        future: asyncio.Future[None] = self._loop.create_future()
        self._idle.append(future)
        await future

    def _tell_idle(self) -> bool:
        waiting, self._idle = self._idle, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
        return bool(waiting)

    def _virtual_select(self, timeout: float | None = None) -> list[Any]:
        events = self._select(0)
        if events or self._loop._ready:
            return events
        if self._calls or self._busy():
            return self._select(SLICE_SECONDS)
        if self._tell_idle():
            return []
        if timeout is None:  # no timer either: only something from outside can help
            return self._select(SLICE_SECONDS)
        self._now += max(timeout, 0.0)
        self._loop._clock_resolution = math.ulp(self._now)
        return []

    def _run_in_executor(self, executor: Any, function: Callable[..., Any], *args: Any) -> Any:
        """What ``asyncio.to_thread`` uses: calls under way keep the time from passing."""
        future = type(self._loop).run_in_executor(self._loop, executor, function, *args)
        self._calls += 1
        future.add_done_callback(self._called)
        return future

    def _called(self, _future: object) -> None:
        self._calls -= 1
