"""Whether a commit is quicker than handing it to another thread.

Handing a flush over and being told costs some 0.1 ms on an idle machine: a wake-up each way and the fight for the
interpreter. On a busy one each wake-up may wait for another process's time slice, some milliseconds. A small commit is
therefore better done at once, as long as the disk does not hold the event loop up for longer than people notice. The
store measures its own small commits and decides by what it saw.
"""

from __future__ import annotations

from headrace.contracts.store import Flush

ROWS_MAX = 32
"""Rows above which a flush is never committed on the event loop: some 0.2 ms of inserting."""

SECONDS_MAX = 0.001
"""Smoothed duration of small commits above which they are handed over."""

STALL_SECONDS = 2 * SECONDS_MAX
"""What a longer commit counts as: one stall of a disk says nothing on the next commit, a row of them does."""

COMMITS_PER_CHECKPOINT = 800
"""Small commits after which the writer's thread is asked to copy the WAL back: before SQLite would do it by itself in
the middle of a commit, on whatever thread that runs."""

_WEIGHT = 0.1
_SAMPLES_MIN = 8


def is_small(flush: Flush) -> bool:
    """Whether a flush is small enough to tell the pace of the disk, and to be committed at once."""
    return len(flush.events) + 2 * len(flush.new_runs) + len(flush.updates) + len(flush.inbox_done) <= ROWS_MAX


class Pace:
    """The smoothed duration of small commits, stalls cut to :data:`STALL_SECONDS`."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._samples = 0
        self.is_quick = False
        """Whether small commits are expected to be quicker than a hand-over; False until some were seen."""

    def saw(self, seconds: float) -> bool:
        """Note the duration of a small commit; True when it is time for a checkpoint."""
        self._samples += 1
        weight = _WEIGHT if self._samples * _WEIGHT >= 1 else 1 / self._samples
        self._seconds += weight * ((seconds if seconds < STALL_SECONDS else STALL_SECONDS) - self._seconds)
        self.is_quick = self._samples >= _SAMPLES_MIN and self._seconds <= SECONDS_MAX
        return self._samples % COMMITS_PER_CHECKPOINT == 0
