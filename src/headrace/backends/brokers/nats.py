"""NATS: a subject per topic, core NATS.

JetStream would keep wake-ups for whoever is away; but whoever comes back looks into the store anyway, and JetStream has
lost acknowledged writes on power failure (Jepsen, NATS 2.12.1). A server that is slow to be read drops: also no loss.

``nats://user:password@a:4222,b:4222``, ``tls://``; ``?creds=FILE`` for a credentials file. The client does not
reconnect by itself: the link does, for all brokers alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from nats.aio.client import Client

from headrace.backends.brokers.linked import LinkedBroker, Pace, Wire
from headrace.backends.brokers.url import Address
from headrace.core.errors import BrokerError, StoreUnavailable

PENDING_MAX = 1000
"""Messages that the client keeps for a topic; beyond that it drops. All of one topic say the same."""

CONNECT_SECONDS = 3
_RECEIVED = "the connection was closed"


def nats_broker(address: Address, pace: Pace | None = None) -> LinkedBroker:
    """A broker over NATS. Raises :class:`BrokerError` for options that mean nothing."""
    options = dict(address.options)
    credentials = options.pop("creds", None)
    if options:
        raise BrokerError(f"?{next(iter(options))}: there is no such option of NATS", hint="there are prefix and creds")

    async def connect(heard: Callable[[str], None]) -> Wire:
        wire = _NatsWire(address.prefix, heard)
        await wire.connect(address.servers(), credentials)
        return wire

    return LinkedBroker(address.shown, connect, secrets=address.secrets, pace=pace)


class _NatsWire:
    def __init__(self, prefix: str, heard: Callable[[str], None]) -> None:
        self._start = f"{prefix}."
        self._heard = heard
        self._client = Client()
        self._subscriptions: dict[str, Any] = {}  # Any: the client's
        self._gone = asyncio.Event()
        self._error: Exception | None = None

    async def connect(self, servers: list[str], credentials: str | None) -> None:
        try:
            await self._client.connect(
                servers,
                name="headrace",
                allow_reconnect=False,
                max_reconnect_attempts=1,  # per server, and before the first connection, too
                reconnect_time_wait=0,
                connect_timeout=CONNECT_SECONDS,
                error_cb=self._failed,
                closed_cb=self._closed,
                user_credentials=credentials,
            )
        except Exception as error:
            # What the client raises in the end is only that there is no server.
            raise StoreUnavailable(str(self._error or error) or type(error).__name__) from error

    async def _failed(self, error: Exception) -> None:
        self._error = error

    async def _closed(self) -> None:
        self._gone.set()

    async def _take(self, message: Any) -> None:
        self._heard(message.subject.removeprefix(self._start))

    async def listen(self, topics: frozenset[str]) -> None:
        for topic in self._subscriptions.keys() - topics:
            await self._subscriptions.pop(topic).unsubscribe()
        for topic in topics - self._subscriptions.keys():
            self._subscriptions[topic] = await self._client.subscribe(
                self._start + topic, cb=self._take, pending_msgs_limit=PENDING_MAX
            )
        await self._client.flush()

    async def send(self, topics: Sequence[str]) -> None:
        for topic in topics:
            await self._client.publish(self._start + topic)

    async def lost(self) -> None:
        await self._gone.wait()
        raise StoreUnavailable(str(self._error or "") or _RECEIVED)

    async def close(self) -> None:
        await self._client.close()
