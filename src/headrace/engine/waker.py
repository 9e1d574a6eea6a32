"""Wakes other nodes and is woken by them: by the doorbell on one host, through the broker elsewhere.

Everything here is a hint about what is committed already. The node's slow poll finds what is lost, so nothing waits for a
wake-up to be sent, and nothing is kept until one was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from headrace.contracts.broker import (
    EVERYTHING,
    LEADER_WANTED,
    SCHEDULES,
    UNOWNED,
    Broker,
    NoBroker,
    news_topic,
    node_topic,
    queue_topic,
    wish_topic,
)
from headrace.contracts.store import BACK_SECONDS
from headrace.core.errors import HeadraceError
from headrace.engine.doorbell import Doorbell, bell_of, here, ring

if TYPE_CHECKING:
    from headrace.contracts.store import NodeRow
    from headrace.engine.node import Node

logger = logging.getLogger("headrace.waker")

GAP_SECONDS = 0.05
"""Between two announcements to the neighbours: a flood of them costs no more than twenty looks at the nodes a second."""


class Waker:
    """One node's wake-ups. ``on_queue`` is called with the name of a queue in which something is ready, and with None if
    that may be so of any; see :meth:`serve_queues`. ``on_remote`` is called in the same way for the queues of
    :meth:`serve_remote`: those of workers without database access that this node speaks for."""

    def __init__(self, node: Node, broker: Broker | None) -> None:
        self._node = node
        self.broker: Broker = broker or NoBroker()
        self._doorbell = Doorbell(self._heard)
        self._topic = node_topic(node.id)
        self._wish_topic, self._news_topic = wish_topic(node.id), news_topic(node.id)
        self._queues: dict[str, str] = {}
        self.on_queue: Callable[[str | None], None] = lambda _: None
        self._remote_queues: dict[str, str] = {}
        self.on_remote: Callable[[str | None], None] = lambda _: None
        self.on_lock: Callable[[], None] = lambda: None
        """Called when a lock may have fallen free for a worker that this node speaks for."""
        self._announced: set[str] = set()
        self._due = asyncio.Event()

    @property
    def bell(self) -> str:
        """What others need to wake this node: published with its lease."""
        return f"{self._doorbell.address}/{here()}/{self._topic}"

    @property
    def is_deaf(self) -> bool:
        """Whether wake-ups of other hosts do not come because the broker is out of reach."""
        return self.broker.health().state == "down"

    async def start(self) -> None:
        """Begin to listen."""
        await self._doorbell.start()
        self._subscribe()
        await self.broker.start(self._heard)

    async def stop(self) -> None:
        """Tell what was announced and stop listening. Idempotent."""
        await self._tell_neighbours()
        await self.broker.stop()
        self._doorbell.stop()

    def fall_silent(self) -> None:
        """Hear nothing any more, as a process that has died."""
        self._doorbell.stop()
        self.broker.subscribe(())

    def serve_queues(self, queues: Collection[str]) -> None:
        """Hear of these queues from now on, and of no others."""
        self._queues = {queue_topic(queue): queue for queue in queues}
        self._subscribe()

    def serve_remote(self, queues: Collection[str]) -> None:
        """Hear of these queues too, for workers that wait at this node."""
        self._remote_queues = {queue_topic(queue): queue for queue in queues}
        self._subscribe()

    def _subscribe(self) -> None:
        unowned = [UNOWNED, LEADER_WANTED, SCHEDULES] if self._node.options.adopt else []
        mine = [self._topic, self._wish_topic, self._news_topic]
        self.broker.subscribe({**dict.fromkeys([*mine, *unowned]), **self._queues, **self._remote_queues})

    # ---- hearing -----------------------------------------------------------------------------------------------------

    def _heard(self, topic: str) -> None:
        node = self._node
        if topic in ("", self._topic):
            node.rung()
        elif topic == self._wish_topic:
            node.teller.look()
        elif topic == self._news_topic:
            node.wisher.look()
        elif topic == UNOWNED:
            node.adopter.wake()
        elif topic == LEADER_WANTED:
            node.watchdog.wake()
        elif topic == SCHEDULES:
            node.scheduler.wake()
        elif topic == EVERYTHING:
            node.rung()
            node.adopter.wake()
            node.watchdog.wake()
            node.scheduler.wake()
            node.teller.look()
            node.wisher.look(thorough=True)
            self.on_queue(None)
            self.on_remote(None)
        if topic in self._queues:
            self.on_queue(self._queues[topic])
        if topic in self._remote_queues:
            self.on_remote(self._remote_queues[topic])

    # ---- telling -----------------------------------------------------------------------------------------------------

    def ring(self, bell: str) -> None:
        """Something was put into the inbox of the node with this bell. Never waits."""
        given = bell_of(bell)
        if given.near:
            ring(given)
        elif given.topic:
            self.broker.publish(given.topic)

    def ring_about(self, bell: str, topic: str) -> None:
        """Wake the node with this bell for something else than its inbox: one of its own topics. A version that does not
        know the topic takes no notice. Never waits."""
        if bell == self.bell:
            self._heard(topic)
            return
        given = bell_of(bell)
        if given.near:
            ring(given, topic)
        else:
            self.broker.publish(topic)

    def is_in_reach(self, row: NodeRow) -> bool:
        """Whether that node and this one can wake each other, as far as can be known."""
        return bell_of(row.bell).near or (bool(row.info.get("broker")) and self.broker.health().state == "up")

    def queue_ready(self, queue: str) -> None:
        """Something in a queue waits for somebody to claim it. Never waits."""
        self._announce(queue_topic(queue))

    def runs_unowned(self) -> None:
        """Runs wait for somebody to take them over. Never waits."""
        self._announce(UNOWNED)

    def leader_wanted(self) -> None:
        """The leader has gone, or a node has joined that it does not know of. Never waits."""
        self._announce(LEADER_WANTED)

    def schedules_changed(self) -> None:
        """The leader is to look when the next schedule is due. Never waits."""
        self._announce(SCHEDULES)

    def _announce(self, topic: str) -> None:
        self.broker.publish(topic)
        self._announced.add(topic)
        self._due.set()

    async def serve(self) -> None:
        """Tell the nodes on this host what was announced, at most every :data:`GAP_SECONDS`."""
        while True:
            await self._due.wait()
            is_told = await self._tell_neighbours()
            await asyncio.sleep(GAP_SECONDS if is_told else BACK_SECONDS)

    async def _tell_neighbours(self) -> bool:
        """False if it is not known now who they are: what was announced is kept then, as the store may soon be back."""
        self._due.clear()
        topics, self._announced = self._announced, set()
        if not topics:
            return True
        try:
            rows = await self._node.store.nodes()
        except HeadraceError as error:
            logger.debug("the neighbours cannot be told", extra={"error": str(error)})
            self._announced |= topics
            self._due.set()
            return False
        for row in rows:
            bell = bell_of(row.bell)
            if row.live and row.node != self._node.id and bell.near:
                for topic in topics:
                    ring(bell, topic)
        return True
