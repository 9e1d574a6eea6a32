"""Whole engines on PostgreSQL: a graph from end to end, commands from elsewhere, and a node that is killed."""

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from postgres_flow import flow
from postgres_rig import PostgresHarness
from postgres_server import PostgresServer

from headrace import Headrace
from headrace.core.errors import RunCancelled

PROGRAM = Path(__file__).with_name("postgres_flow.py")
LEASE_SECONDS = 2.0
"""Of the node that is killed."""


@pytest.fixture
def harness(postgres: PostgresServer) -> PostgresHarness:
    return PostgresHarness(postgres)


def test_a_graph_runs_and_is_found_by_another_engine(harness: PostgresHarness, tmp_path: Path) -> None:
    async def work() -> None:
        async with Headrace(harness.url, node="a", data_dir=tmp_path) as headrace:
            runs = [await headrace.run(flow) for _ in range(20)]
            assert [await run.result() for run in runs] == [{"third": 42}] * 20
        async with Headrace(harness.url, node="b", data_dir=tmp_path) as headrace:
            rows = await headrace.runs(limit=100)
            assert {row.run_id for row in rows} == {run.id for run in runs}
            assert {row.state for row in rows} == {"succeeded"}

    asyncio.run(work())


@pytest.mark.parametrize("ahead", [600.0, -600.0])
def test_a_node_whose_clock_is_off_goes_by_the_databases(
    harness: PostgresHarness, tmp_path: Path, ahead: float
) -> None:
    """What it writes down is meant for others, too: the time of a timer, of a retry."""

    async def work() -> None:
        async with Headrace(harness.url, data_dir=tmp_path, now=lambda: time.time() + ahead) as headrace:
            run = await headrace.run(flow)
            await run.result()
            now = await headrace.store.now()
            row = await headrace.row(run.id)
            assert abs(row.created_at - now) < abs(ahead) / 2

    asyncio.run(work())


def test_runs_are_cancelled_by_another_node(harness: PostgresHarness, tmp_path: Path) -> None:
    """The message goes through the database, the owner's bell is rung."""

    async def work() -> None:
        command = [sys.executable, str(PROGRAM), harness.url, "victim", "60", str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as owner:
            try:
                run_id = await asyncio.to_thread(_started, owner)
                async with Headrace(harness.url, node="b", data_dir=tmp_path / "b") as headrace:
                    run = await headrace.cancel(run_id)
                    with pytest.raises(RunCancelled):
                        await run.result()
                assert await asyncio.to_thread(owner.wait, 90) == 1  # there, too, the run was cancelled
            finally:
                owner.kill()

    asyncio.run(work())


def test_a_killed_node_is_taken_over(harness: PostgresHarness, tmp_path: Path) -> None:
    """Its run ends elsewhere; what it had done is not done again. How soon: ``tests/engine/test_outage.py``."""

    async def work() -> None:
        command = [sys.executable, str(PROGRAM), harness.url, "victim", str(LEASE_SECONDS), str(tmp_path)]
        async with Headrace(
            harness.url, workflows=[flow], node="heir", lease_seconds=60, data_dir=tmp_path / "heir"
        ) as headrace:
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as victim:
                run_id = await asyncio.to_thread(_started, victim)
                await harness.until(f"SELECT last_seq > 1 FROM {{schema}}.runs WHERE run_id = '{run_id}'")
                victim.send_signal(signal.SIGKILL)
            run = await headrace.get(run_id)
            assert await run.result() == {"third": 42}
            data = [data for _, data in await headrace.store.history(run_id)]
            assert sum(b'"task.succeeded"' in one and b'"first"' in one for one in data) == 1
            assert {str(row.node): row.live for row in await headrace.store.nodes()} == {"heir": True, "victim": False}

    asyncio.run(work())


def _started(process: subprocess.Popen[str]) -> str:
    """Wait until a run was acknowledged and its second task has begun, in whichever order; returns the run's id."""
    assert process.stdout is not None
    lines = sorted(process.stdout.readline().split() for _ in range(2))
    assert [words[0] for words in lines] == ["begun", "started"]
    return lines[1][1]
