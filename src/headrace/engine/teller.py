"""Tells other nodes that wait for runs of this one: of their ends, and, if they wish so, of every change.

Who waits is read from the store when somebody says that there are new wishes, and whenever runs are claimed, before
anything of them is loaded. From then on it is in memory, and an end that nobody waits for costs a look into a dict.

An owner that hears of a wish only after it has ended the run finds the wish in the store still, and tells of it then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from headrace.contracts.broker import news_topic
from headrace.contracts.store import BACK_SECONDS
from headrace.core.errors import HeadraceError
from headrace.core.ids import NodeId, RunId

if TYPE_CHECKING:
    from headrace.contracts.wishes import Wish
    from headrace.engine.live import LiveRun
    from headrace.engine.node import Node

logger = logging.getLogger("headrace.teller")

CHANGES_SECONDS = 0.05
"""Between two words on changes of one run."""

READ_SECONDS = 5.0
"""How often a node that tells of changes sees whether that is still wished."""

GAP_SECONDS = 0.01
"""Between two readings of wishes: a flood of them is read in batches."""


class Teller:
    """One node's word to others."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.known: dict[RunId, dict[NodeId, Wish]] = {}
        """Who waits for runs that this node has."""
        self._fresh: set[RunId] = set()
        """Runs whose wishes were learnt since the reading that is under way began."""
        self._due = asyncio.Event()

    def look(self) -> None:
        """There are new wishes for this node's runs: read them."""
        self._due.set()

    async def serve(self) -> None:
        """Read wishes whenever there are new ones, for ever."""
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await self._read()
                await asyncio.sleep(GAP_SECONDS)
            except HeadraceError as error:
                logger.warning("the wishes for this node's runs could not be read", extra={"error": str(error)})
                self._due.set()
                await asyncio.sleep(BACK_SECONDS)

    async def claimed(self, run_ids: Sequence[RunId]) -> None:
        """Learn who waits for runs that this node has just claimed. If the store is out of reach by now it is asked again
        later: the claim is not to fail for that."""
        try:
            wishes = await self._node.store.wishes(self._node.id, run_ids)
            if wishes:
                await self._take(wishes, {})
        except HeadraceError:
            self.look()

    async def _read(self) -> None:
        self._fresh.clear()
        wishes = await self._node.store.wishes(self._node.id)
        former, self.known = self.known, {run_id: self.known[run_id] for run_id in self._fresh & self.known.keys()}
        await self._take(wishes, former)

    async def _take(self, wishes: Iterable[Wish], former: Mapping[RunId, Mapping[NodeId, Wish]]) -> None:
        """Note wishes, tell those that are due, and forget those that are over."""
        over: list[tuple[RunId, NodeId]] = []
        for wish in wishes:
            if wish.bell is None or wish.ended:
                over.append((wish.run_id, wish.node))
                self._tell(wish)
                continue
            self._fresh.add(wish.run_id)
            is_new = former.get(wish.run_id, {}).get(wish.node) != wish
            self.known.setdefault(wish.run_id, {})[wish.node] = wish
            live = self._node.live.get(wish.run_id)
            if live is None or (wish.changes and is_new):
                self._tell(wish)  # it may have missed what happened until now
            if live is not None and wish.changes:
                self.watch(live)
        if over:
            await self._node.store.forget_wishes(over)

    def _tell(self, wish: Wish) -> None:
        if wish.bell is not None:
            self._node.waker.ring_about(wish.bell, news_topic(wish.node))

    def ended(self, run_id: RunId) -> None:
        """The end of a run is durable: tell those who wait for it, who then take their wishes back."""
        for wish in self.known.pop(run_id, {}).values():
            self._tell(wish)

    def forget(self, run_id: RunId) -> None:
        """This node no longer has a run."""
        self.known.pop(run_id, None)

    # ---- changes -----------------------------------------------------------------------------------------------------

    def watch(self, live: LiveRun) -> None:
        """Tell of every change of a run from now on, if anybody wishes so. Idempotent."""
        if not live.is_watched_elsewhere and self._wanting(live.run_id):
            live.is_watched_elsewhere = True
            self._node.spawn(self._tell_changes(live), "headrace-tell-changes")

    def _wanting(self, run_id: RunId) -> list[Wish]:
        return [wish for wish in self.known.get(run_id, {}).values() if wish.changes]

    async def _tell_changes(self, live: LiveRun) -> None:
        changed = asyncio.Event()
        live.watchers.add(changed)
        loop = asyncio.get_running_loop()
        read_at = loop.time()
        try:
            while not live.closed:
                await changed.wait()
                changed.clear()
                wishes = self._wanting(live.run_id)
                if not wishes:
                    return
                for wish in wishes:
                    self._tell(wish)
                if loop.time() - read_at > READ_SECONDS:
                    read_at = loop.time()
                    self.look()
                await asyncio.sleep(CHANGES_SECONDS)
        finally:
            live.watchers.discard(changed)
            live.is_watched_elsewhere = False
