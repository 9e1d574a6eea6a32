"""PostgreSQL as its own broker: LISTEN and NOTIFY, over one connection that does nothing else.

NOTIFY takes a lock of the whole database until its commit: inside the transaction that writes data it made commits 3 to
9 times slower. Here it has a transaction of its own that does not wait for the disk. A channel per topic and schema, so
that a node hears only what it has asked for; a channel's name has at most 63 bytes, hence the digest.

A pooler in transaction mode (pgbouncer) takes LISTEN and forgets it. ``?pgbouncer=true&direct=HOST:PORT`` names the
server behind it, for this connection.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import asyncpg

from headrace.backends.brokers.linked import LinkedBroker, Pace, Wire
from headrace.backends.stores.postgres_url import Place
from headrace.contracts.broker import Broker, NoBroker

CONNECT_SECONDS = 5.0
_NOTIFY = "SELECT pg_notify(channel, topic) FROM unnest($1::text[], $2::text[]) AS given (channel, topic)"
_SETTINGS = {"application_name": "headrace broker", "synchronous_commit": "off", "jit": "off"}


def postgres_broker(place: Place, pace: Pace | None = None) -> Broker:
    """The broker of a PostgreSQL store; none if only a pooler can be reached."""
    if place.pooled and place.direct is None:
        return NoBroker(
            "behind a pooler nothing can be heard: add direct=HOST:PORT, the server itself, to the store's URL"
        )

    async def connect(heard: Callable[[str], None]) -> Wire:
        driver: Any = asyncpg  # its annotations are incomplete
        connection = await driver.connect(place.direct or place.dsn, timeout=CONNECT_SECONDS, server_settings=_SETTINGS)
        return _PostgresWire(connection, place.schema, heard)

    password = urlsplit(place.dsn).password
    return LinkedBroker(place.shown, connect, secrets=[unquote(password)] if password else (), pace=pace)


class _PostgresWire:
    def __init__(self, connection: Any, schema: str, heard: Callable[[str], None]) -> None:
        self._connection = connection
        self._schema = schema
        self._heard = heard
        self._topics: frozenset[str] = frozenset()
        self._gone = asyncio.Event()
        connection.add_termination_listener(self._closed)

    def _closed(self, connection: Any) -> None:
        self._gone.set()

    def _channel(self, topic: str) -> str:
        return "headrace_" + hashlib.sha256(f"{self._schema} {topic}".encode()).hexdigest()[:40]

    def _take(self, connection: Any, process: int, channel: str, payload: str) -> None:
        self._heard(payload)

    async def listen(self, topics: frozenset[str]) -> None:
        for topic in topics - self._topics:
            await self._connection.add_listener(self._channel(topic), self._take)
        for topic in self._topics - topics:
            await self._connection.remove_listener(self._channel(topic), self._take)
        self._topics = topics

    async def send(self, topics: Sequence[str]) -> None:
        await self._connection.execute(_NOTIFY, [self._channel(topic) for topic in topics], list(topics))

    async def lost(self) -> None:
        await self._gone.wait()

    async def close(self) -> None:
        try:
            await self._connection.close(timeout=1.0)
        except Exception:
            self._connection.terminate()
            raise
