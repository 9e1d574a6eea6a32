"""Waits, on behalf of this node's callers, for runs that other nodes have: wishes to be told, and passes the word on.

However many callers wait, the store is asked for all of them in one go: when a wait begins, when another node says that
there is news, and now and then, lest word was lost. Where no word can come (no broker between hosts, an owner of a
version that tells nobody), callers look for themselves, as often as they see fit: see :meth:`Word.next`.

Two moments could be missed, and are not. A run that ends while the wish is made: the store answers with what became of
the run after the wish could be seen. A run that changes hands: whoever claims it reads the wishes for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic  # by its own name: where workflow code runs, time.monotonic is replaced
from typing import TYPE_CHECKING

from headrace.contracts.broker import wish_topic
from headrace.contracts.store import BACK_SECONDS
from headrace.core.errors import HeadraceError
from headrace.core.ids import NodeId, RunId

if TYPE_CHECKING:
    from headrace.contracts.store import NodeRow
    from headrace.contracts.wishes import Wished
    from headrace.engine.node import Node

logger = logging.getLogger("headrace.wisher")

LOOK_SECONDS = 5.0
"""The longest between two looks while somebody waits, unless a node is told to poll less often: how late the end of a run
is noticed whose word was lost, for instance because its owner died just then."""

RESTS = 4
"""After a look the node rests this many times as long as it took: a flood of ends costs a fifth of the time at most."""

ALMOST = 0.9
"""Of the time between two looks: a timer may be early."""

WISHES_INFO = "wishes"
"""What a node says about itself if it tells those who wait for its runs."""


class Word:
    """What one caller hears about the run it waits for."""

    def __init__(self, run_id: RunId, *, changes: bool) -> None:
        self.run_id = run_id
        self.changes = changes
        self.will_come = False
        """Whether whoever has the run, or may take it up, tells this node. Never true before the wish is known to the
        store."""
        self._told = asyncio.Event()

    def tell(self) -> None:
        """There may be news."""
        self._told.set()

    async def next(self, look_seconds: float) -> bool:
        """Wait until there may be news of the run. If no word will come, no longer than ``look_seconds``: False then, and
        the caller has to look for itself."""
        if not self.will_come:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(look_seconds):
                    await self._told.wait()
        while self.will_come and not self._told.is_set():
            await self._told.wait()
        is_told = self._told.is_set()
        self._told.clear()
        return is_told


class Wisher:
    """One node's waits."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._words: dict[RunId, set[Word]] = {}
        self._left: set[RunId] = set()
        """Runs that nobody waits for any more, whose wishes are to be forgotten."""
        self._owners: dict[RunId, NodeId | None] = {}
        """Who had each run at the last look."""
        self._thorough_at = float("-inf")
        self._due = asyncio.Event()

    @contextmanager
    def waiting(self, run_id: RunId, *, changes: bool = False) -> Generator[Word]:
        """Wait for the end of a run, or for every change of it, as long as the block lasts. Returns at once: the wish is
        made soon. The caller looks what became of the run whenever it is told, beginning now."""
        word = Word(run_id, changes=changes)
        self._words.setdefault(run_id, set()).add(word)
        self._due.set()
        try:
            yield word
        finally:
            words = self._words.get(run_id, set())
            words.discard(word)
            if not words:
                self._words.pop(run_id, None)
                self._owners.pop(run_id, None)
                self._left.add(run_id)
                self._due.set()

    def look(self, *, thorough: bool = False) -> None:
        """There is news of a run: see which. ``thorough``: word may have been lost, and who tells may have changed."""
        if thorough:
            self._thorough_at = float("-inf")
        self._due.set()

    async def serve(self) -> None:
        """Make wishes, forget those that nobody needs, and pass on what the store says; for ever."""
        pause: float | None = None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._due.wait()
            self._due.clear()
            begun = monotonic()
            try:
                await self._forget()
                if self._words:
                    await self._look()
                pause = self._look_seconds if self._words else None
            except HeadraceError as error:
                logger.warning("looking after runs elsewhere failed", extra={"error": str(error)})
                self.give_up()
                pause = BACK_SECONDS
            await asyncio.sleep(RESTS * (monotonic() - begun))

    def give_up(self) -> None:
        """No word will come for now: all who wait look for themselves, and hear what is wrong."""
        for words in self._words.values():
            for word in words:
                word.will_come = False
                word.tell()

    async def _forget(self) -> None:
        left, self._left = self._left - self._words.keys(), set()
        if not left:
            return
        try:
            await self._node.store.forget_wishes([(run_id, self._node.id) for run_id in left])
        except HeadraceError:
            self._left |= left
            raise

    async def close(self) -> None:
        """Forget all wishes of a node that stops."""
        self._left |= self._words.keys()
        self.give_up()
        self._words.clear()
        with contextlib.suppress(HeadraceError):
            await self._forget()

    @property
    def _look_seconds(self) -> float:
        return max(LOOK_SECONDS, self._node.options.poll_seconds)

    async def _look(self) -> None:
        """Ask what became of all runs; now and then also whether word can still come."""
        node = self._node
        now = asyncio.get_running_loop().time()
        words = {run_id: list(words) for run_id, words in self._words.items()}
        changes = [run_id for run_id, waiting in words.items() if any(word.changes for word in waiting)]
        found = {one.run_id: one for one in await node.store.wish(node.id, list(words), changes)}
        new = {run_id for run_id, one in found.items() if not one.ended and self._is_new(one, words[run_id])}
        if new or now - self._thorough_at >= self._look_seconds * ALMOST:
            self._thorough_at = now
            await self._trust(found.values(), words)
        for run_id, waiting in words.items():
            one = found.get(run_id)
            is_over = one is None or one.ended
            for word in waiting:
                if is_over or word.changes:  # changes are seen in the history only
                    word.tell()

    def _is_new(self, one: Wished, waiting: list[Word]) -> bool:
        """Whether whoever has the run may not know yet that it is waited for."""
        return self._owners.get(one.run_id, "") != one.owner or not all(word.will_come for word in waiting)

    async def _trust(self, found: Collection[Wished], words: Mapping[RunId, Sequence[Word]]) -> None:
        """See who will tell, and wake the owners: they are to read the wishes. ``words``: those that the wishes were made
        for; who has come since then is seen to by the next look."""
        node = self._node
        rows = {row.node: row for row in await node.store.nodes() if row.live}
        may_claim = [row for row in rows.values() if row.info.get("adopt")]
        owners: set[NodeId] = set()
        for one in found:
            if one.ended:
                continue
            owner = None if one.owner is None else rows.get(one.owner)
            tellers = may_claim if owner is None else [owner]
            will_come = all(self._tells(row) for row in tellers)
            if owner is not None:
                owners.add(owner.node)
            for word in words[one.run_id]:
                word.will_come = will_come
                if not will_come:
                    word.tell()
            if one.run_id in self._words:
                self._owners[one.run_id] = one.owner
        for owner_id in owners:
            node.waker.ring_about(rows[owner_id].bell, wish_topic(owner_id))

    def _tells(self, row: NodeRow) -> bool:
        """Whether a node knows of wishes, and its word can come here."""
        return bool(row.info.get(WISHES_INFO)) and self._node.waker.is_in_reach(row)
