"""Three nodes, one PostgreSQL, a load all the time, and whatever can be done to them from outside.

The short forms run with the other tests; ``make soak-cluster`` runs the long ones (``HEADRACE_MINUTES``,
``HEADRACE_SEED``). Seeds and figures are printed. What is asserted is what must be true however slow the machine is:
nothing lost, nothing stale, nothing run again once it was done.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from broker_servers import NatsServer
from disturbances import Disturber, disturb
from network import Network
from postgres_server import PostgresServer
from postgres_wire import PostgresWire
from verdict import Verdict

from cluster import LEASE_SECONDS, Cluster

TAKEOVER_SECONDS = 2.0
"""The promise, beyond the lease: from the last thing that was done to the cluster before the run went on. See
:class:`Verdict`."""
MACHINE_SECONDS = 3.0
"""Beyond the promise: a machine that others use, too, is not to fail for that."""
CLOCK_SECONDS = 600.0


class Soak:
    """What the tests differ in: how long, and what is done."""

    def __init__(self, server: PostgresServer, nats: NatsServer, folder: Path, seed: int) -> None:
        self.server = server
        self.nats = nats
        self.folder = folder
        self.seed = seed

    def play(self, kinds: set[str], seconds: float, pace: float = 1.0) -> tuple[Verdict, Disturber]:
        print(f"\n{'+'.join(sorted(kinds))}: seed {self.seed}")

        async def test() -> tuple[Verdict, Disturber]:
            async with Network(self.server.port, PostgresWire()).listening() as network:
                cluster = Cluster(
                    self.server,
                    self.folder,
                    port=network.port if "cut" in kinds else None,
                    broker=f"{self.nats.url}?prefix=s{self.seed}" if "broker" in kinds else None,
                )
                if "clocks" in kinds:
                    cluster.clocks = [0.0, CLOCK_SECONDS, -CLOCK_SECONDS]
                disturber = Disturber(cluster, self.seed, pace)
                each: dict[str, Callable[[], Awaitable[None]]] = {
                    "kill": disturber.kill,
                    "suspend": disturber.suspend,
                    "database": disturber.crash_database,
                    "cut": lambda: disturber.cut(network),
                    "broker": lambda: disturber.crash_broker(self.nats),
                    "clocks": lambda: asyncio.sleep(seconds),
                }
                async with cluster.up():
                    await disturb(seconds, *(each[kind]() for kind in sorted(kinds)))
                    with disturber.outage:  # it is over
                        pass
                    network.cut = ""
                    await cluster.settle()
                    await cluster.stop()
                verdict = Verdict(cluster)
                await asyncio.to_thread(verdict.judge)
                return verdict, disturber

        verdict, disturber = asyncio.run(test())
        print(", ".join(f"{kind} {count} times" for kind, count in disturber.done.items()))
        print(verdict)
        return verdict, disturber


@pytest.mark.timeout(400)
def test_everything_at_once_for_a_short_time(
    cluster_postgres: PostgresServer, cluster_nats: NatsServer, tmp_path: Path
) -> None:
    soak = Soak(cluster_postgres, cluster_nats, tmp_path, seed=20131107)
    soak.play({"kill", "suspend", "database", "cut", "broker", "clocks"}, seconds=12.0, pace=0.4)


LONG = [
    {"kill"},
    {"suspend"},
    {"kill", "database"},
    {"kill", "cut"},
    {"kill", "broker"},
    {"kill", "clocks"},
    {"kill", "suspend", "database", "cut", "broker", "clocks"},
]


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.skipif("HEADRACE_MINUTES" not in os.environ, reason="`make soak-cluster` runs this")
@pytest.mark.parametrize("kinds", LONG, ids=lambda kinds: "+".join(sorted(kinds)))
def test_for_a_long_time(
    kinds: set[str], cluster_postgres: PostgresServer, cluster_nats: NatsServer, tmp_path: Path
) -> None:
    seed = int(os.environ.get("HEADRACE_SEED") or time.time())
    minutes = float(os.environ["HEADRACE_MINUTES"])
    verdict, disturber = Soak(cluster_postgres, cluster_nats, tmp_path, seed).play(kinds, 60 * minutes)
    assert disturber.done or kinds == {"clocks"}
    if kinds == {"suspend"}:
        assert disturber.done["suspended"] >= 3 * minutes, "hardly anybody was ever suspended"
    if verdict.takeovers:
        assert verdict.takeovers[-1] < LEASE_SECONDS + TAKEOVER_SECONDS + MACHINE_SECONDS
