"""The node's clock. Timers, retries and time limits outlive their node: whoever takes a run over must mean the same by a
time as who wrote it down. So a node whose clock differs from that of the database which it shares with others goes by
the database's. Leases are judged by the database alone, whatever this says.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

logger = logging.getLogger("headrace.clock")

TOLERANCE_SECONDS = 1.0
"""What a clock may be off before it is corrected: more than a slow answer of the database makes it seem."""


class NodeClock:
    """Seconds since the epoch: the machine's clock (or a test's), corrected."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._correction = 0.0
        self.read: Callable[[], float] = now
        """The same as calling the clock, and quicker as long as it needs no correction. Not to be kept: it changes."""

    def __call__(self) -> float:
        return self._now() + self._correction

    def follow(self, database_now: float, asked_at: float, answered_at: float) -> None:
        """Compare with the database's clock, which was read between two readings of this one (both uncorrected: see
        :meth:`uncorrected`); correct by the difference if it is more than :data:`TOLERANCE_SECONDS`."""
        ahead = asked_at - database_now if asked_at > database_now else min(0.0, answered_at - database_now)
        correction = -ahead if abs(ahead) > TOLERANCE_SECONDS else 0.0
        if correction and correction != self._correction:
            logger.warning(
                "this machine's clock differs from the database's; the node goes by the database's",
                extra={"seconds_ahead": round(ahead, 3)},
            )
        self._correction = correction
        self.read = self if correction else self._now

    def uncorrected(self) -> float:
        """What the machine says."""
        return self._now()
