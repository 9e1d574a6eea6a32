"""Attempts of this node that wait for the end of a run: tasks of graphs that are runs of their own.

Such a run has the attempt's name as its parent, so whoever carries it to its end, on whichever node, tells the graph's
owner, like the parent of a child. There it wakes the attempt, which reads what became of the run: the word is only a
wake-up, and an attempt that begins looks first, so nothing is owed to it after a crash.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager


class Awaited:
    """One node's waiting attempts, by name."""

    def __init__(self) -> None:
        self._told: dict[str, asyncio.Event] = {}

    @contextmanager
    def waiting(self, attempt: str) -> Generator[asyncio.Event]:
        """An event that is set whenever the run of this attempt has ended, as long as the block lasts."""
        told = self._told[attempt] = asyncio.Event()
        try:
            yield told
        finally:
            if self._told.get(attempt) is told:
                del self._told[attempt]

    def tell(self, attempt: str) -> None:
        """The run of this attempt has ended. Nothing happens if nobody waits for it here."""
        told = self._told.get(attempt)
        if told is not None:
            told.set()
