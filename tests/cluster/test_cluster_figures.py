"""Figures of a cluster: an idle one leaves its database alone; a second node on the same machine is no burden."""

import asyncio
import os
from pathlib import Path

import pytest
from cluster_figures import Counter, burst_seconds, idle_queries
from network import Network
from postgres_server import PostgresServer

from cluster import Cluster

QUERIES_PER_SECOND_MAX = 6.0
"""Of three nodes together, with the lease that a node has by default on a database server: what is promised."""


@pytest.mark.timeout(300)
def test_an_idle_cluster_asks_little(cluster_postgres: PostgresServer, tmp_path: Path) -> None:
    """A slow machine asks less often, never more often. The window is a multiple of 3 s and of 5 s, as most polls are."""

    async def test() -> float:
        counter = Counter()
        async with Network(cluster_postgres.port, counter).listening() as network:
            cluster = Cluster(cluster_postgres, tmp_path, lease_seconds=None, pause_seconds=0)
            return await idle_queries(cluster, network, counter, 15.0, QUERIES_PER_SECOND_MAX)

    figure = asyncio.run(test())
    print(f"\nan idle cluster of three nodes asks {figure:.2f} queries/s")
    assert 0 < figure < QUERIES_PER_SECOND_MAX


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.skipif("HEADRACE_MINUTES" not in os.environ, reason="`make soak-cluster` runs this")
def test_a_second_node_does_not_lower_throughput(cluster_postgres: PostgresServer, tmp_path: Path) -> None:
    """Alternately alone and in company; the best of each counts, as others may use the machine, too."""
    runs = 1000
    best = {1: float("inf"), 2: float("inf")}
    for turn in range(3):
        for nodes in best:
            folder = tmp_path / f"{turn}-{nodes}"
            folder.mkdir()
            cluster = Cluster(cluster_postgres, folder, lease_seconds=15.0, pause_seconds=0)
            cluster.work_seconds = 0.0
            best[nodes] = min(best[nodes], asyncio.run(burst_seconds(cluster, nodes, runs)))
    ratio = best[1] / best[2]
    print(
        f"\n{runs} runs: {best[1]:.2f} s on one node, {best[2]:.2f} s with a second one beside it (ratio {ratio:.2f})"
    )
    assert ratio > 0.7, "a second node lowers throughput by far more than a shared machine varies"
