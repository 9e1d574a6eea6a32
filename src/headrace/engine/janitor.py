"""Retention: deletes finished runs after their time, with their histories and logs, a few at a time. The leader does it,
under its term."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from headrace.contracts.locks import Term
from headrace.contracts.store import Catalog
from headrace.core.errors import NotLeader

logger = logging.getLogger("headrace.janitor")

INTERVAL_SECONDS = 60.0
BATCH_RUNS = 200
BATCHES_MAX = 50
"""Batches in one round: a large clean-up is spread out so that it never holds others up for long."""


class Janitor:
    """One node's clean-up. ``term`` gives the term it leads under, ``is_candidate`` says whether it takes part in
    elections: one that does cleans up only while it leads, and calls ``refused`` when the store knows better."""

    def __init__(
        self,
        catalog: Catalog,
        retention_seconds: float | None,
        delete_logs: Callable[[str], None] | None,
        *,
        term: Callable[[], Term | None] = lambda: None,
        is_candidate: Callable[[], bool] = lambda: False,
        refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._catalog = catalog
        self._retention = retention_seconds
        self._delete_logs = delete_logs
        self._term = term
        self._is_candidate = is_candidate
        self._refused = refused
        self._changed = asyncio.Event()

    def keep_for(self, retention_seconds: float | None) -> None:
        """Change the retention; None keeps runs for ever. What is older is deleted from now on."""
        self._retention = retention_seconds
        self._changed.set()

    def rouse(self) -> None:
        """This node began or ceased to lead."""
        self._changed.set()

    async def serve(self) -> None:
        """Clean up now, every minute, and when the retention changes or this node begins to lead; waits for these while
        there is nothing to do."""
        while True:
            self._changed.clear()
            retention, term = self._retention, self._term()
            is_due = retention is not None and (term is not None or not self._is_candidate())
            if is_due and retention is not None:
                try:
                    await self.clean(retention, term)
                except NotLeader as error:
                    self._refused(str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL_SECONDS if is_due else None):
                    await self._changed.wait()

    async def clean(self, retention_seconds: float, term: Term | None = None) -> int:
        """Delete what ended longer ago than that, under a term or, by a user's order, without one. Returns the number of
        runs deleted. Raises :class:`NotLeader`."""
        deleted = 0
        border = await self._catalog.now() - retention_seconds
        for _ in range(BATCHES_MAX):
            gone = await self._catalog.delete_runs(border, BATCH_RUNS, term)
            deleted += len(gone)
            if self._delete_logs is not None:
                for run_id in gone:
                    await asyncio.to_thread(self._delete_logs, run_id)
            if len(gone) < BATCH_RUNS:
                break
        if deleted:
            logger.info("finished runs were deleted", extra={"count": deleted})
        return deleted
