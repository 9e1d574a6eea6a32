"""The leader is killed (SIGKILL) around fire times, again and again: every fire time starts one run, none is left out.

Real processes on SQLite, PostgreSQL and MariaDB. When they die is random, the seed is printed; what is asserted holds whenever they do.
"""

from __future__ import annotations

import asyncio
import os
import queue
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from pathlib import Path
from random import Random
from typing import TypeVar

import pytest
from mariadb_server import MariadbServer
from postgres_server import PostgresServer

from headrace import Headrace
from headrace.contracts.store import RunRow
from headrace.engine.schedule_runs import TIME_TAG

T = TypeVar("T")

PROCESS = Path(__file__).with_name("kill_node.py")
FLOW = Path(__file__).with_name("kill_flow.py")
KILLS = int(os.environ.get("HEADRACE_KILLS", "3"))
NAMES = ("a", "b", "c")
SECONDS_MAX = 60.0


class Process:
    """One node, and what it says."""

    def __init__(self, url: str, name: str, folder: Path, said: queue.Queue[tuple[str, str]]) -> None:
        self.name = name
        log = (folder / f"log-{name}").open("ab")
        command = [sys.executable, str(PROCESS), url, name, str(folder / "files")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        self._reader = threading.Thread(target=self._read, args=(said,), daemon=True)
        self._reader.start()

    def _read(self, said: queue.Queue[tuple[str, str]]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said.put((self.name, line.strip()))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(SECONDS_MAX)


def leader_of(said: queue.Queue[tuple[str, str]]) -> str:
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        name, word = said.get(timeout=max(deadline - time.monotonic(), 0.01))
        if word == "leads":
            return name


@pytest.fixture(params=["sqlite", "postgres", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/headrace.db"
        return
    if request.param == "mysql":
        mariadb: MariadbServer = request.getfixturevalue("mariadb")
        with mariadb.database() as name:
            yield mariadb.url(name)
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    yield server.url(more=f"?schema=t_{uuid.uuid4().hex[:12]}")


def test_no_fire_time_is_lost_or_doubled(url: str, tmp_path: Path) -> None:
    seed = int(os.environ.get("HEADRACE_SEED", "5"))
    print(f"seed {seed}")
    chance = Random(seed)
    added_at = ask(url, tmp_path, _add)
    said: queue.Queue[tuple[str, str]] = queue.Queue()
    nodes = {name: Process(url, name, tmp_path, said) for name in NAMES}
    try:
        for _ in range(KILLS):
            leader = leader_of(said)
            until_next = 1.0 - time.time() % 1.0
            time.sleep(until_next + chance.uniform(-0.01, 0.03) if until_next > 0.02 else until_next)
            nodes[leader].kill()
            nodes[leader] = Process(url, leader, tmp_path, said)
        leader_of(said)
        last = ask(url, tmp_path, _until_caught_up)
    finally:
        for node in nodes.values():
            node.stop() if node.process.poll() is None else None
    rows = ask(url, tmp_path, _rows)
    times = Counter(int(datetime.fromisoformat(row.tags[TIME_TAG]).timestamp()) for row in rows)
    expected = set(range(int(added_at) + 1, last + 1))
    assert {due: count for due, count in times.items() if count > 1} == {}
    assert expected - times.keys() == set()


def ask(url: str, folder: Path, question: Callable[[Headrace], Awaitable[T]]) -> T:
    async def do() -> T:
        async with Headrace(url, node=f"guest-{uuid.uuid4().hex[:6]}", data_dir=folder / "files", adopt=False) as hr:
            return await question(hr)

    return asyncio.run(do())


async def _add(hr: Headrace) -> float:
    view = await hr.schedules.add("each", FLOW, every="1s", overlap="allow", catch_up="1h")
    return view.created_at


async def _until_caught_up(hr: Headrace) -> int:
    """Until a fire time has started its run that had not come when this was asked."""
    asked_at = await hr.store.now()
    async with asyncio.timeout(SECONDS_MAX):
        while True:
            view = await hr.schedules.get("each")
            if view.next[0] > asked_at + 1.0:
                return int(asked_at)
            await asyncio.sleep(0.05)


async def _rows(hr: Headrace) -> list[RunRow]:
    return await hr.runs(tags={"schedule": "each"}, limit=10_000)
