"""What the leader alone does, a few times per lease: finds lost nodes, so that their runs and locks fall free, and lost
claims of attempts, so that they are offered again. The others stand for election instead.

A user who addresses a run of a lost node does not wait for the leader: whichever node has to bring the command there has
the lost leases ended, without a term, and tells the others what the leader would have told them
(:meth:`Watchdog.found_lost`). What needs a term and what does not: docs/explanation/leader.md.

The leader gives nothing to anybody: nodes take over what nobody owns, as much as they have room for
(:mod:`~headrace.engine.adopter`). So a leader that is lost costs time, never work.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from headrace.contracts.locks import LEADER
from headrace.contracts.store import BACK_SECONDS
from headrace.core.errors import HeadraceError, NotLeader

if TYPE_CHECKING:
    from headrace.core.ids import NodeId
    from headrace.engine.node import Node

logger = logging.getLogger("headrace.watchdog")

LOOKS_PER_LEASE = 3
LOOK_SECONDS_MAX = 3.0
"""The longest between two looks, unless a node is told to poll less often: a dead process on this host is noticed by its
lock, however long its lease is."""

COMPANY_SHARE = 0.5
"""A leader that is not alone looks more often: a lost node's runs are to go on within two seconds of its lease's end."""

COMPANY_SECONDS = 60.0
"""How often a leader counts the others, and, alone, looks for lost claims; those who join say so."""

REQUEUE_SECONDS = 6.0
"""How often a leader looks for lost claims if no node was lost, which tells at once: for claimers that joined anew."""

ELECTION_GAP_SECONDS = 0.02
"""How long after the end of a leader's right the others ask."""


class Watchdog:
    """One node's part in it."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._rung = asyncio.Event()
        self._is_alone = True
        self._counted_at = float("-inf")
        self._requeued_at = float("-inf")
        self._has_failed = False
        """The last look: whoever has the answer may be back at any moment."""

    def wake(self) -> None:
        """The leader has gone, or somebody has joined: look now."""
        self._counted_at = self._requeued_at = float("-inf")
        self._rung.set()

    async def serve(self) -> None:
        """Lead or stand for election until cancelled."""
        if self._node.leader.leading_node:  # it will look more often for our sake
            self._node.waker.leader_wanted()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._rung.wait()
            self._rung.clear()
            await self.try_look()

    def _pause(self) -> float:
        options, leader = self._node.options, self._node.leader
        if self._has_failed:
            return BACK_SECONDS
        pause = min(options.lease_seconds / LOOKS_PER_LEASE, max(LOOK_SECONDS_MAX, options.poll_seconds))
        if leader.term() is not None:
            return pause if self._is_alone else pause * COMPANY_SHARE
        if leader.leading_node:
            return min(pause, max(leader.frees_in_seconds, 0.0) + ELECTION_GAP_SECONDS)
        return pause

    async def try_look(self) -> None:
        """Look once; a keeper of locks that is out of reach keeps no node from working."""
        try:
            self._has_failed = False
            await self.look()
        except HeadraceError as error:
            self._has_failed = True
            logger.warning("looking for lost nodes failed", extra={"error": str(error)})

    async def look(self) -> list[NodeId]:
        """Lead or stand for election, once. Returns the nodes that were found lost; their runs are unowned by then."""
        node = self._node
        if node.stopping or not node.is_joined:
            return []
        term = await node.leader.stand()
        if term is None:
            return []
        try:
            lost = await node.store.expire_lost(term)
        except NotLeader as error:
            node.leader.step_down(str(error))
            return []
        await self._count(lost)
        await self._requeue(lost)
        self._tell_lost(lost, term.number)
        return lost

    def found_lost(self, lost: Sequence[NodeId]) -> None:
        """These nodes were found lost because a user addressed a run of theirs: their other runs and their claims are not
        to wait until somebody happens to look. Returns at once; the leader is told, and looks for the claims, too, should
        this process end before it has."""
        if lost:
            self._tell_lost(lost, None)
            self._node.waker.leader_wanted()
            self._node.spawn(self._offer_again(), "headrace-offer-again")

    def _tell_lost(self, lost: Sequence[NodeId], term: int | None) -> None:
        """Their runs are unowned by now."""
        node = self._node
        node.counts.nodes_lost += len(lost)
        for name in lost:
            logger.warning("a node was lost; its runs are taken over", extra={"lost": name, "term": term})
        if lost:
            node.adopter.wake()
            node.waker.runs_unowned()
            node.spawn(node.performer.tell_again(), "headrace-tell-again")

    async def _count(self, lost: list[NodeId]) -> None:
        now = asyncio.get_running_loop().time()
        if lost or now - self._counted_at >= COMPANY_SECONDS:
            self._counted_at = now
            rows = await self._node.store.nodes()
            self._is_alone = not any(row.live and row.node != self._node.id for row in rows)

    async def _requeue(self, lost: list[NodeId]) -> None:
        now = asyncio.get_running_loop().time()
        if lost or now - self._requeued_at >= (COMPANY_SECONDS if self._is_alone else REQUEUE_SECONDS):
            self._requeued_at = now
            await self._offer_again()

    async def _offer_again(self) -> None:
        _, bells = await self._node.store.requeue_lost()
        for bell in bells:
            self._node.waker.ring(bell)

    async def mind_offers(self) -> None:
        """See that attempts on offer whose claimer was lost are offered again, for a node that has some: as the leader it
        looks at once, as a follower it relies on the leader. A node that takes no part in elections does it itself if
        nobody leads."""
        node = self._node
        if node.options.adopt:
            if node.leader.term() is not None:
                self._requeued_at = float("-inf")
                await self.look()
            return
        if any(row.name == LEADER for row in await node.locks.locks()):
            return
        self._tell_lost(await node.store.expire_lost(), None)
        await self._offer_again()
