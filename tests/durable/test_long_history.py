"""A run with a long history: its process is killed, others go on with it, and what is stored replays.

A short form of it here; ``make soak-history`` plays it with a million calls (``HEADRACE_CALLS``) and prints the figures that
the documentation gives.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headrace.backends.stores.sqlite import SqliteStore
from headrace.contracts.store import RunFilter

PROGRAM = Path(__file__).with_name("long_history.py")
SHORT = 3_000
SECONDS_MAX = 3_000


def play(url: str, calls: int, phase: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), url, str(calls), phase]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS_MAX)


async def stored(url: str) -> list[bytes]:
    """The history of the run."""
    store = SqliteStore(url)
    await store.open()
    try:
        (row,) = await store.runs(RunFilter(workflow="long"))
        history = await store.history(row.run_id)
        assert [seq for seq, _ in history] == list(range(1, row.last_seq + 1))
        return [data for _, data in history]
    finally:
        await store.close()


def lives(folder: Path, calls: int) -> dict[str, Any]:
    """Three engines, one after another."""
    url = f"sqlite:///{folder}/headrace.db"
    born = play(url, calls, "born")
    assert born.returncode == -signal.SIGKILL, born.stderr
    found: dict[str, Any] = {}
    for phase in ("heir", "last"):
        done = play(url, calls, phase)
        assert done.returncode == 0, done.stderr
        found[phase] = json.loads(done.stdout)
    history = asyncio.run(stored(url))
    succeeded = [json.loads(data)["task"] for data in history if b'"task.succeeded"' in data]
    assert len(succeeded) == len(set(succeeded)) == calls
    assert 0 <= found["heir"]["found"] <= calls // 2 + 500
    assert found["last"]["result"] == sum(range(calls)) + 1
    assert found["last"]["difference"] is None
    assert found["last"]["events"] == len(history) >= calls
    return found


def test_three_engines_share_a_run(tmp_path: Path) -> None:
    lives(tmp_path, SHORT)


@pytest.mark.soak
@pytest.mark.timeout(4 * SECONDS_MAX)
@pytest.mark.skipif("HEADRACE_CALLS" not in os.environ, reason="`make soak-history` runs this")
def test_three_engines_share_a_run_with_a_very_long_history(tmp_path: Path) -> None:
    found = lives(tmp_path, int(os.environ["HEADRACE_CALLS"]))
    size = sum(file.stat().st_size for file in tmp_path.iterdir() if file.is_file())
    print(json.dumps({**found, "database_mib": round(size / 2**20)}, indent=1))
