"""Real processes that lead or hold a lock, over real databases: suspended past their lease, killed, stopped."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from postgres_rig import PostgresHarness
from postgres_server import PostgresServer

from headrace import Headrace
from headrace.core.ids import NodeId
from headrace.engine.node import Node

LEADER = Path(__file__).with_name("leader_process.py")
LOCKS = Path(__file__).with_name("lock_process.py")
LEASE_SECONDS = 2.0
"""Of those that lose it in a test; nobody else's ends."""
HELD_SECONDS = 6.0
"""The same, of one that has to hold it for a while before, on a busy machine."""
WAIT_SECONDS_MAX = 60.0


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'x.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return PostgresHarness(server).url


class Process:
    def __init__(self, popen: subprocess.Popen[str]) -> None:
        self.popen = popen

    async def line(self) -> str:
        assert self.popen.stdout is not None
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            return (await asyncio.to_thread(self.popen.stdout.readline)).strip()

    async def act(self) -> str:
        assert self.popen.stdin is not None
        self.popen.stdin.write("act\n")
        self.popen.stdin.flush()
        return await self.line()


@contextmanager
def process(url: str, name: str, lease_seconds: float, folder: Path, program: Path = LEADER) -> Generator[Process]:
    command = [sys.executable, str(program), url, name, str(lease_seconds), str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as popen:
        try:
            yield Process(popen)
        finally:
            popen.kill()


async def leads(node: Node) -> int:
    """Its term, once it leads."""
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while (term := node.leader.term()) is None:
            await asyncio.sleep(0.01)
        return term.number


def test_a_suspended_leader_is_followed_and_its_acts_are_refused(url: str, tmp_path: Path) -> None:
    async def work() -> None:
        with process(url, "old", HELD_SECONDS, tmp_path) as old:
            word, first = (await old.line()).split()
            assert word == "leads"
            async with Headrace(url, node="new", lease_seconds=60, data_dir=tmp_path / "new") as headrace:
                node = headrace._node
                assert node.leader.term() is None
                assert await old.act() == "done leads"
                old.popen.send_signal(signal.SIGSTOP)
                second = await leads(node)
                assert second > int(first)
                old.popen.send_signal(signal.SIGCONT)
                assert await old.act() == "NotLeader follows"
                # A node that is lost is found by the new one.
                epoch = await node.store.join(NodeId("dead"), -1.0, "", {})
                async with asyncio.timeout(WAIT_SECONDS_MAX):
                    while any(row.node == "dead" and row.epoch == epoch for row in await node.store.nodes()):
                        await asyncio.sleep(0.01)
                assert await leads(node) == second

    asyncio.run(work())


def test_a_killed_leader_is_followed(url: str, tmp_path: Path) -> None:
    """On SQLite at once, whatever its lease: its process is known to be dead."""
    lease = 3600.0 if url.startswith("sqlite") else LEASE_SECONDS

    async def work() -> None:
        with process(url, "old", lease, tmp_path) as old:
            first = int((await old.line()).split()[1])
            async with Headrace(url, node="new", lease_seconds=3600, data_dir=tmp_path / "new") as headrace:
                old.popen.kill()
                assert await leads(headrace._node) > first
                nodes = {str(row.node): row.live for row in await headrace.store.nodes()}
                assert nodes["new"]

    asyncio.run(work())


def test_a_leader_that_stops_is_followed_at_once(url: str, tmp_path: Path) -> None:
    """Its lease has an hour to go, and the follower would look again by itself only after twenty minutes."""

    async def work() -> None:
        slow = {"lease_seconds": 3600.0, "poll_seconds": 1200.0}
        async with Headrace(url, node="new", data_dir=tmp_path / "new", adopt=False):
            pass  # makes the database
        first = Headrace(url, node="first", data_dir=tmp_path / "first", **slow)  # type: ignore[arg-type]
        async with first, Headrace(url, node="second", data_dir=tmp_path / "second", **slow) as second:  # type: ignore[arg-type]
            assert second._node.leader.term() is None
            old = await leads(first._node)
            await first.close()
            assert await leads(second._node) > old

    asyncio.run(work())


def test_a_suspended_holder_of_a_lock_is_followed_and_told(url: str, tmp_path: Path) -> None:
    """Whoever waits gets the lock under a higher token; the former holder's block is cancelled when it wakes up."""

    async def work() -> None:
        with process(url, "old", LEASE_SECONDS, tmp_path, LOCKS) as old:
            word, first = (await old.line()).split()
            assert word == "held"
            async with Headrace(url, node="new", lease_seconds=60, data_dir=tmp_path / "new") as headrace:
                old.popen.send_signal(signal.SIGSTOP)
                async with asyncio.timeout(WAIT_SECONDS_MAX), headrace.lock("door") as held:
                    assert held.token > int(first)
                    old.popen.send_signal(signal.SIGCONT)
                    assert await old.line() == f"LockLost {first}"
                    assert held.is_held

    asyncio.run(work())


def test_the_lock_of_a_killed_process_falls_free(url: str, tmp_path: Path) -> None:
    """On SQLite at once, whatever its lease: its process is known to be dead."""
    lease = 3600.0 if url.startswith("sqlite") else LEASE_SECONDS

    async def work() -> None:
        with process(url, "old", lease, tmp_path, LOCKS) as old:
            first = int((await old.line()).split()[1])
            async with Headrace(url, node="new", lease_seconds=3600, data_dir=tmp_path / "new") as headrace:
                old.popen.kill()
                async with asyncio.timeout(WAIT_SECONDS_MAX), headrace.lock("door") as held:
                    assert held.token > first

    asyncio.run(work())
