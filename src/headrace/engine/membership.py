"""The node's right to its runs: a lease that is taken, kept, lost and taken anew.

The keeper's thread renews it. A node that loses it is *fenced*: it stops everything at once, records nothing, and joins
again under a higher epoch. What was claimed under the former one is no longer its own.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic  # by its own name: where workflow code runs, time.monotonic is replaced
from typing import TYPE_CHECKING, Any

from headrace.contracts.store import BACK_SECONDS
from headrace.core.errors import Fenced, HeadraceError
from headrace.engine.journal import Journal
from headrace.engine.keeper import Keeper
from headrace.engine.peers import REFUSED_INFO, describe
from headrace.engine.wisher import WISHES_INFO

if TYPE_CHECKING:
    from headrace.engine.node import Node

logger = logging.getLogger("headrace.node")

REJOIN_STOP_SECONDS = 0.5
"""How long a node that was fenced waits for its attempts, and for its keeper, to stop before it joins anew. What does not
stop is left behind, and keeps its slots until it ends: others may carry the same attempts out by now, whether this node
waits or not, and runs that have lost their owner wait for it."""


class Membership:
    """One node's lease, and with it its epoch and its journal."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.keeper: Keeper | None = None
        self.is_rejoining = False
        """Since the lease was lost, until another is held and the attempts of before are stopped."""
        self._held = asyncio.Event()
        self._held.set()

    @property
    def is_held(self) -> bool:
        """False while a node that lost its lease joins anew."""
        return self._held.is_set()

    async def join(self) -> None:
        """Take the lease, whoever had it under this node's name before, and begin to renew it."""
        node = self._node
        options = node.options
        info = self._info()
        if options.database_clock:
            asked_at = node.now.uncorrected()
            database_now = await node.store.now()
            node.now.follow(database_now, asked_at, node.now.uncorrected())
        begun = monotonic()
        node.epoch = await node.store.join(node.id, options.lease_seconds, node.waker.bell, info)
        node.journal = Journal(
            node.store, node.id, node.epoch, patience_seconds=options.patience_seconds, keep=node.artifacts.put
        )
        node.journal.on_broken = node.journal_broke
        keeper = self.keeper = Keeper(
            node.store, node.id, node.epoch, options.lease_seconds, self.lost, taken_at=begun, holding=node.holding
        )
        for launcher in node.launchers():
            launcher.lease = keeper
        keeper.start()

    def _info(self) -> dict[str, Any]:
        node = self._node
        options = node.options
        info: dict[str, Any] = {
            "version": 1,
            "broker": node.waker.broker.url,
            "adopt": options.adopt,
            WISHES_INFO: True,
            **describe(options.queues, options.labels, options.slots, pulls=node.pulls),
        }
        if refused := node.adopter.told():
            info[REFUSED_INFO] = refused
        return info

    async def describe(self) -> None:
        """Let others read anew what the node says about itself. Raises :class:`Fenced`."""
        await self._node.store.describe_node(self._node.id, self._node.epoch, self._info())

    def lost(self, why: str) -> None:
        """The lease is somebody else's, or may be."""
        self.fence(Fenced(f"node {self._node.id} no longer owns its runs: {why}"))

    def may_begin(self) -> bool:
        """Whether user code may begin. A process that was suspended for longer than its lease has the answer to a commit
        before its eyes when it wakes up, and would begin what others have long done: it joins anew first."""
        if self.keeper is None or monotonic() < self.keeper.trusted_until:
            return True
        why = "the lease had not been renewed when an attempt was about to begin"
        asyncio.get_running_loop().call_soon(self.lost, why)
        return False

    def fence(self, error: HeadraceError) -> None:
        """Another node may own our runs by now: stop everything at once, then join anew. Idempotent."""
        node = self._node
        if self.is_rejoining or node.stopping:
            return
        self.is_rejoining = True
        self._held.clear()
        node.counts.fenced += 1
        node.holding.lose_all(f"node {node.id} lost its lease")
        logger.error("fenced", extra={"node": node.id, "epoch": node.epoch, "why": str(error)})
        node.fenced(error)
        node.spawn(self._rejoin(), "headrace-rejoin")

    async def _rejoin(self) -> None:
        node = self._node
        if self.keeper is not None:
            await self.keeper.stop(REJOIN_STOP_SECONDS)
        await node.launcher.stop_all(min(node.options.stop_seconds, REJOIN_STOP_SECONDS))
        delay = 0.1
        while True:
            try:
                await self.join()
                break
            except HeadraceError as failed:
                logger.warning("could not join again", extra={"error": str(failed)})
                await asyncio.sleep(delay)
                delay = min(delay * 2, BACK_SECONDS)
        self.is_rejoining = False
        self._held.set()
        node.wisher.look(thorough=True)  # others may have forgotten the wishes of a node that was lost
        if node.options.adopt:
            await node.watchdog.try_look()
            await node.adopter.adopt_waiting()

    async def until_held(self) -> None:
        """Wait while the node joins anew, as long as its options say. Raises :class:`Fenced` then."""
        try:
            async with asyncio.timeout(self._node.options.patience_seconds):
                await self._held.wait()
        except TimeoutError:
            raise Fenced(f"node {self._node.id} lost its lease and could not join again in time") from None

    def give_up_waiting(self) -> None:
        """The node stops: nobody waits for it to join anew."""
        self._held.set()

    async def stop(self) -> None:
        """Renew the lease no more. Does not give it up."""
        if self.keeper is not None:
            await self.keeper.stop()

    def fall_silent(self) -> None:
        """Renew the lease no more, and wait for nothing."""
        if self.keeper is not None:
            self.keeper.let_go()
