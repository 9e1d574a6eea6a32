"""Wall-clock timers on the event loop: due times are seconds since the epoch.

The loop's clock is monotonic and the wall clock may be set; a timer therefore checks the wall clock when it fires, and
waits on if it is early. Waits are cut into pieces so that a clock set forward is noticed within a bound.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

PIECE_SECONDS_MAX = 60.0
EARLY_SECONDS = 0.001
"""Firing this much early is on time: the two clocks tick differently."""


class Timer:
    """One pending call. Cancel with :meth:`cancel`."""

    __slots__ = ("_callback", "_due", "_handle", "_loop", "_now")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        now: Callable[[], float],
        due: float,
        callback: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._now = now
        self._due = due
        self._callback = callback
        self._handle: asyncio.TimerHandle | None = None
        self._arm()

    def _arm(self) -> None:
        left = max(0.0, self._due - self._now())
        self._handle = self._loop.call_later(min(left, PIECE_SECONDS_MAX), self._fire)

    def _fire(self) -> None:
        if self._due - self._now() > EARLY_SECONDS:
            self._arm()
        else:
            self._handle = None
            self._callback()

    @property
    def due(self) -> float:
        """When it fires, in seconds since the epoch."""
        return self._due

    def cancel(self) -> None:
        """Never call. Idempotent."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
