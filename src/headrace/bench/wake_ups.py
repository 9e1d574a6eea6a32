"""How long a wake-up takes: ``python -m headrace.bench.wake_ups URL ...``, with the URLs of brokers that run.

Two clients in one process, one publishes and the other hears. Beside each measurement stands a bare round trip of that
broker's own client a moment before, over a connection of its own: the least that anything through that server can take. A
wake-up goes through the server once and through two event-loop tasks of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from headrace.backends.brokers import open_broker
from headrace.backends.brokers.url import address_of_url
from headrace.contracts.broker import EVERYTHING, Broker, node_topic
from headrace.core.errors import BrokerError, HeadraceError

ROUNDS = 300
WAIT_SECONDS_MAX = 10.0
Ping = Callable[[], Awaitable[Any]]


@contextlib.asynccontextmanager
async def bare(url: str) -> AsyncGenerator[Ping]:
    """The shortest question that a broker's client can ask and that the server answers."""
    scheme = url.partition("://")[0]
    if scheme.startswith("postgres"):
        import asyncpg  # noqa: PLC0415 - only what is measured is loaded

        driver: Any = asyncpg
        connection = await driver.connect(url)
        try:
            yield lambda: connection.fetchval("SELECT 1")
        finally:
            await connection.close()
    elif scheme in ("nats", "tls"):
        from nats.aio.client import Client  # noqa: PLC0415

        client = Client()
        await client.connect(address_of_url(url).servers())
        try:
            yield client.flush
        finally:
            await client.close()
    elif scheme.startswith("amqp"):
        import aio_pika  # noqa: PLC0415

        opened = await aio_pika.connect(address_of_url(url).url())
        try:
            channel = await opened.channel()
            exchange = await channel.declare_exchange("headrace.bench", auto_delete=True)
            queue = await channel.declare_queue(exclusive=True)
            await queue.bind(exchange, "bench")  # the exchange goes when its last queue does
            yield lambda: channel.declare_queue(queue.name, passive=True)
        finally:
            await opened.close()
    else:
        from redis.asyncio import Redis  # noqa: PLC0415

        redis: Any = Redis.from_url(address_of_url(url).url("redis" if scheme in ("redis", "valkey") else "rediss"))
        try:
            yield redis.ping
        finally:
            await redis.aclose()


def broker_of(url: str) -> Broker:
    """A broker by its URL; that of a PostgreSQL store by the store's."""
    if not url.startswith("postgres"):
        return open_broker(url)
    from headrace.backends.stores import open_store  # noqa: PLC0415

    return open_broker("store", open_store(url))


async def measure(url: str, rounds: int = ROUNDS) -> tuple[float, float]:
    """Medians in seconds: a bare round trip, and from publishing a wake-up to hearing it elsewhere. Taken in turns."""
    speaker, listener = broker_of(url), broker_of(url)  # first: it judges the URL
    topic = node_topic("bench")
    heard, ready = asyncio.Event(), asyncio.Semaphore(0)

    def hear(got: str) -> None:
        if got == topic:
            heard.set()
        elif got == EVERYTHING:
            ready.release()

    listener.subscribe([topic])
    trips: list[float] = []
    wakes: list[float] = []
    async with bare(url) as ping:
        try:
            await listener.start(hear)
            await speaker.start(hear)
            async with asyncio.timeout(WAIT_SECONDS_MAX):
                await ready.acquire()
                await ready.acquire()
            for _ in range(rounds):
                begun = time.perf_counter()
                await ping()
                trips.append(time.perf_counter() - begun)
                heard.clear()
                begun = time.perf_counter()
                speaker.publish(topic)
                async with asyncio.timeout(WAIT_SECONDS_MAX):
                    await heard.wait()
                wakes.append(time.perf_counter() - begun)
        finally:
            await speaker.stop()
            await listener.stop()
    return statistics.median(trips), statistics.median(wakes)


def main(urls: list[str]) -> int:
    """Print a line per broker. Returns the exit code: 2 if one cannot be measured."""
    if not urls:
        sys.stderr.write("usage: python -m headrace.bench.wake_ups URL ...\n")
        return 2
    code = 0
    for url in urls:
        name = url.partition("://")[0]
        try:
            bare_seconds, wake_seconds = asyncio.run(measure(url))
        except (HeadraceError, OSError, TimeoutError) as error:
            text = error.message if isinstance(error, BrokerError) else type(error).__name__
            sys.stderr.write(f"{name}: cannot be measured: {text}\n")
            code = 2
            continue
        trip, wake, ratio = bare_seconds * 1e3, wake_seconds * 1e3, wake_seconds / bare_seconds
        sys.stdout.write(f"{name:<12} bare round trip {trip:.2f} ms, wake-up {wake:.2f} ms: {ratio:.1f} times\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
