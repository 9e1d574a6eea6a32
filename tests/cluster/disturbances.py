"""What is done to a cluster under load. Each goes on until it is cancelled, by its own seeded chance; the sequence of
decisions depends on the seed alone, what they meet does not."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random

from broker_servers import NatsServer
from network import Network
from outages import CUTS

from cluster import LEASE_SECONDS, Cluster

Disturbance = Callable[[], Awaitable[None]]


class Disturber:
    """``pace``: the mean number of seconds between two disturbances of one kind is so many times the usual one."""

    def __init__(self, cluster: Cluster, seed: int, pace: float = 1.0) -> None:
        self._cluster = cluster
        self._seed = seed
        self._pace = pace
        self.done: Counter[str] = Counter()
        self.outage = threading.Lock()
        """Held while the database is down."""

    def _chance(self, kind: str) -> Random:
        return Random(f"{self._seed} {kind}")

    async def _pause(self, chance: Random, mean_seconds: float) -> None:
        await asyncio.sleep(chance.expovariate(1 / (mean_seconds * self._pace)))

    async def kill(self, mean_seconds: float = 4.0) -> None:
        """SIGKILL to a node, which another follows after a while."""
        chance = self._chance("kill")
        async with asyncio.TaskGroup() as group:
            while True:
                await self._pause(chance, mean_seconds)
                number, away = chance.randrange(3), chance.uniform(0.0, 2 * LEASE_SECONDS)
                place = self._cluster.places[number]
                if place.busy:
                    continue
                place.busy = True
                self._cluster.check_alive(place)
                self._cluster.kill(place)
                self.done["killed"] += 1

                async def follow(place=place, away=away) -> None:
                    await asyncio.sleep(away)
                    self._cluster.spawn(place)
                    await self._cluster.until_up(place)
                    place.busy = False

                group.create_task(follow())

    async def suspend(self, mean_seconds: float = 3.0) -> None:
        """SIGSTOP for twice the lease, then SIGCONT: a zombie, whose runs are others' by then."""
        chance = self._chance("suspend")
        while True:
            await self._pause(chance, mean_seconds)
            place = self._cluster.places[chance.randrange(3)]
            if place.busy:
                continue
            place.busy = True
            self._cluster.check_alive(place)
            self._cluster.suspend(place)
            try:
                await asyncio.sleep(2 * LEASE_SECONDS)
            finally:
                self._cluster.wake(place)
            self.done["suspended"] += 1
            place.busy = False

    async def crash_database(self, low: float = 5.0, high: float = 40.0) -> None:
        """PostgreSQL in immediate mode, and its recovery."""
        chance = self._chance("database")
        while True:
            await asyncio.sleep(chance.uniform(low, high) * self._pace)
            away = chance.uniform(0.0, 1.0)
            await asyncio.shield(asyncio.to_thread(self._outage, away))  # a thread goes on, whoever waits for it
            self.done["database crashed"] += 1

    def _outage(self, away: float) -> None:
        with self.outage:
            self._cluster.server.crash()
            time.sleep(away)
            self._cluster.server.start()
            self._cluster.disturbed.append(time.time())

    async def cut(self, network: Network, mean_seconds: float = 0.5) -> None:
        """The connection of whoever asks next, in the middle of its transaction."""
        chance = self._chance("cut")
        before = 0
        while True:
            await self._pause(chance, mean_seconds)
            network.cut = chance.choice(CUTS)
            self.done["cut"] += network.cuts - before
            before = network.cuts

    async def crash_broker(self, nats: NatsServer, mean_seconds: float = 4.0) -> None:
        chance = self._chance("broker")
        try:
            while True:
                await self._pause(chance, mean_seconds)
                nats.crash()
                await self._pause(chance, 1.0)
                nats.start()
                self.done["broker crashed"] += 1
        finally:
            nats.start()


async def disturb(seconds: float, *disturbances: Awaitable[None]) -> None:
    """All of them, for so long. What one of them finds out (a node that ended by itself) is raised."""
    try:
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            for one in disturbances:
                group.create_task(one)  # type: ignore[arg-type]
    except TimeoutError:
        pass
