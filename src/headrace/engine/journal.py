"""Group commit: runs hand events in and go on; one writer makes everything that waits durable at once.

There is no timer. A lone event is committed at once; while a commit is under way the next batch gathers, so a flood is
committed in few large transactions. Whatever an event allows (a launch, a reply) is released only after the commit that
holds it. Decisions may run ahead of the disk, effects never do.

If the store is out of reach or full, the batch is kept and tried again until ``patience_seconds`` are over; a commit
whose outcome is unknown is safe to repeat because ``(run_id, seq)`` is the key. After that, or when the node was fenced,
the journal is broken: it takes nothing more and hands the error to everybody who waits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from headrace.contracts.store import BACK_SECONDS, Flush, RunRow, RunUpdate, Store
from headrace.core.errors import EngineStopped, HeadraceError, StoreError
from headrace.core.ids import Epoch, NodeId, RunId

logger = logging.getLogger("headrace.journal")

BACKLOG_EVENTS_MAX = 20_000
"""Events waiting to be committed above which new runs and launches wait; it bounds the size of a flush too."""

RETRY_DELAYS_SECONDS = (0.01, 0.05, 0.2, BACK_SECONDS)

Release = Callable[[HeadraceError | None], None]
"""Called once the events are durable (None) or never will be here (the error)."""


class Journal:
    """One node's way to the history. Use from the event loop's thread only."""

    def __init__(
        self,
        store: Store,
        node: NodeId,
        epoch: Epoch,
        *,
        patience_seconds: float = 60.0,
        keep: Callable[[bytes], object] | None = None,
    ) -> None:
        self._store = store
        self._keep = keep
        """Makes a blob durable; blocks, so it is called on other threads."""
        self._node = node
        self._epoch = epoch
        self.patience_seconds = patience_seconds
        """How long a commit is tried again; a change holds from the next commit on."""
        self._loop = asyncio.get_running_loop()
        self._events: list[tuple[RunId, int, bytes]] = []
        self._new_runs: list[RunRow] = []
        self._updates: dict[RunId, RunUpdate] = {}
        self._inbox_done: list[int] = []
        self._outcomes_done: list[tuple[RunId, str]] = []
        self._blobs: list[bytes] = []
        self._releases: list[Release] = []
        self._waiting = False
        """Something was handed in that no flush has taken yet."""
        self._scheduled = False
        self._commit_task: asyncio.Task[None] | None = None
        self._drained: list[asyncio.Future[None]] = []
        self._room = asyncio.Event()
        self._room.set()
        self.has_room = True
        """False while so much waits that new work should wait too."""
        self.broken: HeadraceError | None = None
        self.backlog = 0
        """Events handed in and not yet durable."""
        self.commits = 0
        self.on_broken: Callable[[HeadraceError], None] | None = None

    def append(
        self,
        events: list[tuple[RunId, int, bytes]],
        release: Release | None,
        *,
        new_run: RunRow | None = None,
        update: RunUpdate | None = None,
        inbox_id: int | None = None,
        blobs: Sequence[bytes] = (),
        outcome_done: str | None = None,
    ) -> None:
        """Hand events in, in the order of their numbers. Returns at once; ``release``, if given, tells when they are
        durable. What is handed in during one turn of the event loop is committed together; ``blobs`` that the events
        refer to are in the artifact store before that. ``outcome_done`` names the database task whose kept outcome the
        events tell.

        Raises the error that broke the journal, if it is broken.
        """
        if self.broken is not None:
            raise self.broken
        self._events += events
        self.backlog += len(events)
        if new_run is not None:
            self._new_runs.append(new_run)
        if update is not None:
            self._updates[update.run_id] = update
        if inbox_id is not None:
            self._inbox_done.append(inbox_id)
        if blobs:
            self._blobs += blobs
        if outcome_done is not None and events:
            self._outcomes_done.append((events[0][0], outcome_done))
        if release is not None:
            self._releases.append(release)
        if self.backlog >= BACKLOG_EVENTS_MAX:
            self._room.clear()
            self.has_room = False
        self._waiting = True
        if not self._scheduled and self._commit_task is None:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    async def room(self) -> None:
        """Wait until the backlog is below its bound (back-pressure for whoever brings new work)."""
        await self._room.wait()
        if self.broken is not None:
            raise self.broken

    async def drained(self) -> None:
        """Wait until everything handed in so far is durable, or the journal is broken."""
        while (self._waiting or self._commit_task is not None) and self.broken is None:
            done = self._loop.create_future()
            self._drained.append(done)
            await done

    async def stop(self) -> None:
        """Make everything durable that was handed in, then take nothing more. Idempotent."""
        await self.drained()
        if self.broken is None:
            self.broken = EngineStopped("the engine has stopped")

    def _flush(self) -> None:
        """Commit everything that waits: at once if the store says that is quicker than handing over, else in its own
        time, while the next batch gathers."""
        self._scheduled = False
        if not self._waiting or self._commit_task is not None or self.broken is not None:
            return
        events, releases, blobs = self._events, self._releases, self._blobs
        self._events, self._releases = [], []
        self._waiting = False
        if self._new_runs or self._updates or self._inbox_done or self._outcomes_done or blobs:
            flush = self._take(events)
        else:
            flush = Flush(self._node, self._epoch, events)
        try:
            committed = not blobs and self._store.commit_now(flush)
        except StoreError as error:
            if not error.retryable:
                self._break(error, releases)
                return
            committed = False
        except Exception as error:
            self._break(_untranslated(error), releases)
            return
        if committed:
            self._committed(flush, releases)
        else:
            self._commit_task = self._loop.create_task(self._commit(flush, releases, blobs), name="headrace-commit")

    def _take(self, events: list[tuple[RunId, int, bytes]]) -> Flush:
        """All that waits. Appends stay whole: an entry's events are in one transaction."""
        updates = [*self._updates.values()]
        flush = Flush(self._node, self._epoch, events, self._new_runs, updates, self._inbox_done, self._outcomes_done)
        self._new_runs, self._updates, self._inbox_done, self._outcomes_done, self._blobs = [], {}, [], [], []
        return flush

    async def _commit(self, flush: Flush, releases: list[Release], blobs: list[bytes]) -> None:
        deadline = time.monotonic() + self.patience_seconds
        tries = 0
        while True:
            try:
                while blobs and self._keep is not None:
                    await asyncio.to_thread(self._keep, blobs[-1])
                    blobs.pop()
                await self._store.commit(flush)
                break
            except StoreError as error:
                if not error.retryable or time.monotonic() >= deadline or self.broken is not None:
                    self._commit_task = None
                    self._break(error, releases)
                    return
                delay = RETRY_DELAYS_SECONDS[min(tries, len(RETRY_DELAYS_SECONDS) - 1)]
                tries += 1
                logger.warning("commit failed, trying again", extra={"error": str(error), "delay_seconds": delay})
                await asyncio.sleep(delay)
            except Exception as error:
                self._commit_task = None
                self._break(_untranslated(error), releases)
                return
        self._commit_task = None
        self._committed(flush, releases)

    def _committed(self, flush: Flush, releases: list[Release]) -> None:
        self.commits += 1
        self.backlog -= len(flush.events)
        if not self.has_room and self.backlog < BACKLOG_EVENTS_MAX // 2:
            self._make_room()
        for release in releases:
            release(None)
        if not self._scheduled and (self._waiting or releases):
            # What was released just now may end in the next turn of the loop: this flush comes after it, in the same.
            self._scheduled = True
            self._loop.call_soon(self._flush)
        if self._drained and not self._waiting:
            self._tell_drained()

    def _make_room(self) -> None:
        self.has_room = True
        self._room.set()

    def _tell_drained(self) -> None:
        for done in self._drained:
            if not done.done():
                done.set_result(None)
        self._drained.clear()

    def abandon(self, error: HeadraceError) -> None:
        """Take nothing more and tell everybody who waits: the right to write is gone. A commit under way tells its own
        when it is over. Idempotent."""
        self.on_broken = None
        if self.broken is None:
            self._break(error, [])

    def _break(self, error: HeadraceError, releases: list[Release]) -> None:
        waiting = [*releases, *self._releases]
        self._releases = []
        self._make_room()
        if self.broken is None:
            self.broken = error
            if self.on_broken is not None:
                self.on_broken(error)  # first: nobody may act on a release as if his run were still ours
        for release in waiting:
            release(error)
        self._tell_drained()


def _untranslated(error: Exception) -> StoreError:
    """A defect in a store: its driver's error came through as it was."""
    logger.error("commit failed in a way the store did not translate", exc_info=error)
    return StoreError(f"the store failed: {error!r}")
