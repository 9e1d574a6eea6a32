"""The broker: carries wake-ups between processes. It may lose, repeat, delay and reorder them; it is never the truth.

A wake-up says "look into the store" and nothing else, so it may be dropped when another of its topic waits already, and
whoever is woken for nothing finds nothing. What a broker loses is found by the slow poll that every node keeps: a broker
that is down costs latency, never a run. Wake-ups are sent after the transaction that they tell of has been committed, by
a task of their own: nothing that is decided or recorded waits for a broker. In PostgreSQL, NOTIFY inside the data
transaction would make its commit three to nine times slower.

Topics are short texts of letters, digits, ``-``, ``_``, ``%`` and ``.``: :func:`node_topic` (one node's inbox),
:func:`queue_topic` (the nodes that serve a queue), :func:`wish_topic` and :func:`news_topic` (one node that has runs,
and one that waits for some), :data:`UNOWNED`, :data:`LEADER_WANTED` and :data:`SCHEDULES` (the nodes that take runs
over and may lead).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from typing import Literal, Protocol
from urllib.parse import quote

import msgspec

UNOWNED = "unowned"
"""Runs wait for somebody to take them over."""

LEADER_WANTED = "leader"
"""The leader has resigned, or a node has joined: those who may lead are to look."""

SCHEDULES = "schedules"
"""A schedule was added or changed: the leader is to look when the next one is due."""

EVERYTHING = "*"
"""What :meth:`Broker.start` 's callback hears after a connection was made: wake-ups of any topic may have been lost."""

TOPIC_CHARS_MAX = 200
"""RabbitMQ's routing keys have at most 255 bytes; a prefix has to fit, too."""

TOPICS_PENDING_MAX = 1024
"""Topics that wait to be sent; what is published beyond that is dropped, and found by the poll."""

BrokerState = Literal["none", "connecting", "up", "down"]


def node_topic(node: str) -> str:
    """The topic of one node's inbox."""
    return _topic("node", node)


def queue_topic(queue: str) -> str:
    """The topic of those who serve a queue: something in it is ready."""
    return _topic("queue", queue)


def wish_topic(node: str) -> str:
    """The topic of a node that has a run: somebody waits for it."""
    return _topic("wish", node)


def news_topic(node: str) -> str:
    """The topic of a node that waits for runs of others: one of them has ended, or changed."""
    return _topic("news", node)


def _topic(kind: str, name: str) -> str:
    plain = f"{kind}.{quote(name, safe='').replace('.', '%2E').replace('~', '%7E')}"
    if len(plain) <= TOPIC_CHARS_MAX:
        return plain
    return f"{kind}.%{hashlib.sha256(name.encode()).hexdigest()}"


class BrokerHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How a broker is.

    ``state``: ``none`` (there is none, the poll and the doorbell have to do), ``connecting`` (not connected yet), ``up``
    (a message has just gone there and back), ``down`` (tried again with growing pauses). ``url`` is without passwords.
    ``error``: why it is down, or why there is none. ``sent`` and ``heard`` count wake-ups, ``dropped`` those for which
    there was no room, ``outages`` the times it went down. ``round_trip_seconds``: of the last probe, None before it.
    """

    state: BrokerState
    url: str
    error: str = ""
    sent: int = 0
    heard: int = 0
    dropped: int = 0
    outages: int = 0
    round_trip_seconds: float | None = None


class Broker(Protocol):
    """One process's access to a broker. Used from one event loop. Safe to start before the broker can be reached."""

    url: str
    """For people: without passwords."""

    async def start(self, heard: Callable[[str], None]) -> None:
        """Begin to connect; returns at once, whether or not anybody answers, and never raises for that.

        ``heard(topic)`` is called on the event loop for every wake-up of a subscribed topic (also for those that this
        process published itself), and with :data:`EVERYTHING` after every connection, the first included. It must not
        block. Connections that are lost are made again, with pauses that grow and differ between processes.
        """
        ...

    async def stop(self) -> None:
        """Send what waits, if that takes no longer than a moment, and disconnect. Idempotent."""
        ...

    def subscribe(self, topics: Collection[str]) -> None:
        """Hear these topics from now on, and no others. Holds for later connections, too; takes effect soon."""
        ...

    def publish(self, topic: str) -> None:
        """Wake whoever has subscribed to a topic. Never waits and never raises: the wake-up is sent soon, once if it is
        published several times until then, when the broker is back if it is down, or never."""
        ...

    def health(self) -> BrokerHealth:
        """How it is now; cheap."""
        ...


class NoBroker:
    """A broker that carries nothing: neighbours on the same host ring each other's doorbells, all others poll. ``why`` is
    shown in its health."""

    url = ""

    def __init__(self, why: str = "") -> None:
        self._why = why

    async def start(self, heard: Callable[[str], None]) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Nothing to do."""

    def subscribe(self, topics: Collection[str]) -> None:
        """Nothing is ever heard."""

    def publish(self, topic: str) -> None:
        """Nobody hears it."""

    def health(self) -> BrokerHealth:
        """See the contract."""
        return BrokerHealth(state="none", url=self.url, error=self._why)
