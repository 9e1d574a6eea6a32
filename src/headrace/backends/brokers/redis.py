"""Redis and Valkey: publish and subscribe, a channel per topic.

Not streams: a stream keeps what nobody has read and has to be trimmed, while a wake-up is worth nothing later; whoever
was away looks into the store. A subscriber that is too slow is cut off by the server and connects again.

``redis://user:password@host:6379/0``, ``rediss://`` (TLS), ``valkey://``, ``valkeys://``; options are those of redis-py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from headrace.backends.brokers.linked import LinkedBroker, Pace, Wire
from headrace.backends.brokers.url import Address
from headrace.core.errors import BrokerError

SCHEMES = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}
CONNECT_SECONDS = 3.0


def redis_broker(address: Address, pace: Pace | None = None) -> LinkedBroker:
    """A broker over Redis or Valkey. Raises :class:`BrokerError` for a URL that the client does not take."""
    url = address.url(SCHEMES[address.scheme])

    def client() -> Any:  # Any: the client's annotations are incomplete
        return Redis.from_url(
            url,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),  # the link connects again, for all brokers alike
            client_name="headrace",
        )

    try:
        client()
    except (TypeError, ValueError) as error:
        raise BrokerError(f"the broker's URL {address.shown} cannot be used: {error}") from None

    async def connect(heard: Callable[[str], None]) -> Wire:
        wire = _RedisWire(client(), f"{address.prefix}.", heard)
        try:
            await wire.connect()
        except BaseException:
            await wire.close()
            raise
        return wire

    return LinkedBroker(address.shown, connect, secrets=address.secrets, pace=pace)


class _RedisWire:
    def __init__(self, client: Any, start: str, heard: Callable[[str], None]) -> None:
        self._client = client
        self._subscriber: Any = client.pubsub(ignore_subscribe_messages=True)
        self._start = start
        self._heard = heard
        self._topics: frozenset[str] = frozenset()

    async def connect(self) -> None:
        await self._client.ping()
        await self._subscriber.connect()

    async def listen(self, topics: frozenset[str]) -> None:
        if new := topics - self._topics:
            await self._subscriber.subscribe(*(self._start + topic for topic in new))
        if old := self._topics - topics:
            await self._subscriber.unsubscribe(*(self._start + topic for topic in old))
        self._topics = topics

    async def send(self, topics: Sequence[str]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for topic in topics:
            pipeline.publish(self._start + topic, b"")
        await pipeline.execute()

    async def lost(self) -> None:
        """Also the one that reads: the client has no task of its own."""
        while True:
            message = await self._subscriber.get_message(timeout=None)
            if message is not None:
                self._heard(message["channel"].decode("utf-8", "replace").removeprefix(self._start))

    async def close(self) -> None:
        try:
            await self._subscriber.aclose()
        finally:
            await self._client.aclose()
