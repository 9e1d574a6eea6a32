"""16 processes claim from 100,000 runs at the same time: each run goes to one of them. In ``make soak``; a shorter form, with
connections side by side in one process, is part of the conformance suite."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mariadb_server import MariadbServer
from mysql_rig import MysqlHarness
from postgres_rig import PostgresHarness
from postgres_server import PostgresServer

from headrace.backends.stores import open_store
from headrace.testing.store_conformance.stage import Stage, new_run, run_id

PROGRAM = Path(__file__).with_name("claim_process.py")
CLAIMERS, RUNS, BATCH, RUNS_PER_FLUSH = 16, 100_000, 50, 5_000
WAIT_SECONDS_MAX = 1800.0

Urls = dict[str, Callable[[], str]]


@pytest.fixture
def urls(postgres: PostgresServer, mariadb: MariadbServer, tmp_path: Path) -> Urls:
    return {
        "postgres": lambda: PostgresHarness(postgres).url,
        "mysql": lambda: MysqlHarness(mariadb).url,
        "sqlite": lambda: f"sqlite:///{tmp_path}/contention.db",
    }


@pytest.mark.soak
@pytest.mark.timeout(2 * WAIT_SECONDS_MAX)
@pytest.mark.skipif("HEADRACE_KILLS" not in os.environ, reason="`make soak` runs this")
@pytest.mark.parametrize("kind", ["postgres", "mysql", "sqlite"])
def test_each_run_goes_to_one_process(urls: Urls, kind: str) -> None:
    url = urls[kind]()
    asyncio.run(_make(url))
    claimers = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), url, f"n{number}", str(BATCH)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(CLAIMERS)
    ]
    try:
        for claimer in claimers:
            assert claimer.stdout is not None
            assert claimer.stdout.readline() == "joined\n"
        for claimer in claimers:
            assert claimer.stdin is not None
            claimer.stdin.write("go\n")
            claimer.stdin.flush()
        taken = [claimer.communicate(timeout=WAIT_SECONDS_MAX)[0].split() for claimer in claimers]
    finally:
        for claimer in claimers:
            claimer.kill()
            claimer.wait()
    print(f"{kind}: {sorted(map(len, taken))}")
    everything = [run for runs in taken for run in runs]
    assert len(everything) == RUNS
    assert set(everything) == {run_id(number) for number in range(RUNS)}
    assert sum(1 for runs in taken if runs) > CLAIMERS // 2  # it was a contest


async def _make(url: str) -> None:
    store = open_store(url)
    await store.open()
    node = await Stage(None).node("maker", lease_seconds=3600.0, store=store)  # type: ignore[arg-type]
    for first in range(0, RUNS, RUNS_PER_FLUSH):
        await node.start(*(new_run(number) for number in range(first, first + RUNS_PER_FLUSH)))
    await store.leave(node.name, node.epoch)
    await store.close()
