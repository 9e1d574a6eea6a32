"""How many questions an idle cluster asks its database, and what a second node does to throughput."""

import asyncio
import time

from network import Network

from cluster import Cluster

WINDOWS_MAX = 3


class Counter:
    """See :class:`network.Wire`: breaks nothing, counts the requests that nodes send (a statement, or a whole
    transaction: everything that waits for one answer)."""

    def __init__(self) -> None:
        self.asked = 0

    def asks(self, data: bytes) -> bool:
        self.asked += data[:1] in (b"B", b"Q", b"P")
        return False

    async def answered(self, from_server: asyncio.StreamReader) -> None:
        raise AssertionError("nothing is broken here")


async def idle_queries(cluster: Cluster, network: Network, counter: Counter, seconds: float, most: float) -> float:
    """Queries per second of all nodes together, once they have nothing to do; ``network`` is where they pass. If they ask
    more than ``most``, they may not have come to rest on a slow machine: they are given two more windows."""
    cluster.port = network.port
    network.cut = "count"  # ask the wire about everything
    async with cluster.up():
        await asyncio.sleep(
            4.5
        )  # they get to know each other; and no poll is due just now, whose number would be one more
        for _ in range(WINDOWS_MAX):
            begun, before = time.monotonic(), counter.asked
            await asyncio.sleep(seconds)
            figure = (counter.asked - before) / (time.monotonic() - begun)
            if figure < most:
                break
        await cluster.stop()
    return figure


async def burst_seconds(cluster: Cluster, nodes: int, runs: int) -> float:
    """How long one node takes for so many runs at once, with so many nodes there in all."""
    await cluster.prepare()
    first, *others = cluster.places[1:] + cluster.places[:1]  # the first of these serves both queues
    try:
        for place in others[: nodes - 1]:
            cluster.spawn(place, burst=0, queues=["default", "far"])
            await cluster.until_up(place)
        cluster.spawn(first, burst=runs)
        assert first.process is not None
        assert first.process.stdout is not None
        word, seconds = (await asyncio.to_thread(first.process.stdout.readline)).split()
        assert word == b"took"
        await cluster.stop()
        return float(seconds)
    finally:
        for place in cluster.places:
            cluster.kill(place)
