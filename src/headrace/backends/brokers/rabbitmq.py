"""RabbitMQ: one direct exchange, and per process an exclusive queue that is bound to its topics.

Nothing is durable, persistent or confirmed, on purpose: a wake-up outlives nobody. The queue goes with its connection,
holds a bounded number of messages (the oldest fall out) for a bounded time, and is read without acknowledgements.

``amqp://user:password@host:5672/vhost``, ``amqps://``; options are those of aio-pika.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from headrace.backends.brokers.linked import LinkedBroker, Pace, Wire
from headrace.backends.brokers.url import Address
from headrace.core.errors import StoreUnavailable

QUEUE_MAX = 1000
MESSAGE_SECONDS_MAX = 60
CONNECT_SECONDS = 8.0
QUEUE_ARGUMENTS: Any = {
    "x-max-length": QUEUE_MAX,
    "x-overflow": "drop-head",
    "x-message-ttl": MESSAGE_SECONDS_MAX * 1000,
}


def rabbitmq_broker(address: Address, pace: Pace | None = None) -> LinkedBroker:
    """A broker over RabbitMQ."""

    async def connect(heard: Callable[[str], None]) -> Wire:
        connection = await aio_pika.connect(address.url(), timeout=CONNECT_SECONDS)
        wire = _RabbitWire(connection, f"{address.prefix}.wake", heard)
        try:
            await wire.open()
        except BaseException:
            await wire.close()
            raise
        return wire

    return LinkedBroker(address.shown, connect, secrets=address.secrets, pace=pace)


class _RabbitWire:
    def __init__(self, connection: Any, exchange: str, heard: Callable[[str], None]) -> None:
        self._connection = connection
        self._name = exchange
        self._heard = heard
        self._topics: frozenset[str] = frozenset()
        self._gone = asyncio.Event()
        self._error: BaseException | None = None
        self._exchange: Any = None
        self._queue: Any = None
        connection.close_callbacks.add(self._closed)

    def _closed(self, _: Any, error: BaseException | None = None) -> None:
        self._error = error
        self._gone.set()

    async def open(self) -> None:
        channel = await self._connection.channel(publisher_confirms=False)
        channel.close_callbacks.add(self._closed)
        self._exchange = await channel.declare_exchange(self._name, aio_pika.ExchangeType.DIRECT, durable=False)
        self._queue = await channel.declare_queue(exclusive=True, auto_delete=True, arguments=QUEUE_ARGUMENTS)
        await self._queue.consume(self._take, no_ack=True)

    async def _take(self, message: AbstractIncomingMessage) -> None:
        self._heard(message.routing_key or "")

    async def listen(self, topics: frozenset[str]) -> None:
        for topic in topics - self._topics:
            await self._queue.bind(self._exchange, routing_key=topic)
        for topic in self._topics - topics:
            await self._queue.unbind(self._exchange, routing_key=topic)
        self._topics = topics

    async def send(self, topics: Sequence[str]) -> None:
        for topic in topics:
            message = aio_pika.Message(b"", delivery_mode=aio_pika.DeliveryMode.NOT_PERSISTENT)
            await self._exchange.publish(message, routing_key=topic, mandatory=False)

    async def lost(self) -> None:
        await self._gone.wait()
        raise StoreUnavailable(str(self._error or "") or "the connection was closed")

    async def close(self) -> None:
        await self._connection.close()
