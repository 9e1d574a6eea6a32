"""Retention: deletes finished runs after their time, with their histories and logs, a few at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from headrace.contracts.store import Catalog

logger = logging.getLogger("headrace.janitor")

INTERVAL_SECONDS = 60.0
BATCH_RUNS = 200
BATCHES_MAX = 50
"""Batches in one round: a large clean-up is spread out so that it never holds others up for long."""


class Janitor:
    """One node's clean-up; several nodes may do it at once."""

    def __init__(
        self, catalog: Catalog, retention_seconds: float | None, delete_logs: Callable[[str], None] | None
    ) -> None:
        self._catalog = catalog
        self._retention = retention_seconds
        self._delete_logs = delete_logs
        self._changed = asyncio.Event()

    def keep_for(self, retention_seconds: float | None) -> None:
        """Change the retention; None keeps runs for ever. What is older is deleted from now on."""
        self._retention = retention_seconds
        self._changed.set()

    async def serve(self) -> None:
        """Clean up now, every minute, and when the retention changes; waits for that while runs are kept for ever."""
        while True:
            self._changed.clear()
            retention = self._retention
            if retention is not None:
                await self.clean(retention)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if retention is None else INTERVAL_SECONDS):
                    await self._changed.wait()

    async def clean(self, retention_seconds: float) -> int:
        """Delete what ended longer ago than that. Returns the number of runs deleted."""
        deleted = 0
        border = await self._catalog.now() - retention_seconds
        for _ in range(BATCHES_MAX):
            gone = await self._catalog.delete_runs(border, BATCH_RUNS)
            deleted += len(gone)
            if self._delete_logs is not None:
                for run_id in gone:
                    await asyncio.to_thread(self._delete_logs, run_id)
            if len(gone) < BATCH_RUNS:
                break
        if deleted:
            logger.info("finished runs were deleted", extra={"count": deleted})
        return deleted
