"""Nodes that share a store and nothing else but a broker: what one does wakes the other at once.

Every poll is an hour away (see ``broker_node``), and the doorbell reaches nobody: a wake-up that does not come is a test
that ends by its time limit.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from broker_node import HOUR_SECONDS, engine, listener
from broker_servers import Server
from postgres_rig import PostgresHarness
from postgres_server import PostgresServer

from headrace import Headrace
from headrace.client import handle
from headrace.engine import doorbell, parker, waker

PROGRAM = Path(__file__).with_name("broker_node.py")
WAIT_SECONDS_MAX = 240.0
SIGNALS = 5

pytestmark = pytest.mark.timeout(400)  # a server may take minutes to start where the disk stalls


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process cannot ring at the doors of its children."""
    for module in (doorbell, waker):
        monkeypatch.setattr(module, "here", lambda: "the tests")
    monkeypatch.setattr(parker, "PARK_AFTER_SECONDS", HOUR_SECONDS)


class Owner:
    """A node in another process that owns a run."""

    def __init__(self, store: str, broker: str, folder: Path) -> None:
        command = [sys.executable, str(PROGRAM), store, broker, str(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _word(self, name: str) -> str:
        assert self._process.stdout is not None
        words = self._process.stdout.readline().split()
        assert words[:1] == [name], words
        return words[1]

    def run_id(self) -> str:
        return self._word("run")

    def result(self) -> int:
        self._say("result")
        return int(self._word("result"))

    def stop(self) -> None:
        """In good order: its run is given up."""
        self._say("stop")
        assert self._process.wait(WAIT_SECONDS_MAX) == 0

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    def close(self) -> None:
        self._process.kill()
        self._process.wait(30)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


BROKERS = [f"{store}-{broker}" for store in ("sqlite", "postgres") for broker in ("nats", "valkey", "rabbit")]


@pytest.fixture(params=[*BROKERS, "postgres-store"])
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A store and a broker."""
    store, _, broker = str(request.param).partition("-")
    return store, broker


@pytest.fixture
def store_url(pair: tuple[str, str], request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if pair[0] == "sqlite":
        return f"sqlite:///{tmp_path / 'shared.db'}"
    server: PostgresServer = request.getfixturevalue("broker_postgres")
    return PostgresHarness(server).url


@pytest.fixture
def broker_server(pair: tuple[str, str], request: pytest.FixtureRequest) -> Server | None:
    """None: the store is its own broker."""
    return None if pair[1] == "store" else request.getfixturevalue(f"{pair[1]}_server")


@pytest.fixture
def broker_url(broker_server: Server | None, tmp_path: Path) -> str:
    return "store" if broker_server is None else f"{broker_server.url}?prefix={tmp_path.name[:20].strip('_')}"


@pytest.fixture
def owner(store_url: str, broker_url: str, tmp_path: Path) -> Iterator[Owner]:
    owner = Owner(store_url, broker_url, tmp_path / "owner")
    try:
        yield owner
    finally:
        owner.close()


def play(test: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            await test

    asyncio.run(bounded())


async def until_up(headrace: Headrace) -> None:
    while headrace.broker_health.state != "up":
        await asyncio.sleep(0.02)


def test_who_waits_is_told_of_the_end(
    owner: Owner, store_url: str, broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the owner in another process, which is woken to read the wish."""
    for name in ("POLL_SECONDS_MIN", "POLL_SECONDS_MAX"):
        monkeypatch.setattr(handle, name, HOUR_SECONDS)

    async def test() -> None:
        run_id = await asyncio.to_thread(owner.run_id)
        async with engine(store_url, broker_url, tmp_path / "other", adopt=False) as headrace:
            await until_up(headrace)
            result = asyncio.ensure_future((await headrace.get(run_id)).result())
            while not any(word.will_come for words in headrace._node.wisher._words.values() for word in words):
                await asyncio.sleep(0.02)
            await headrace.signal(run_id, "news", "more")
            await headrace.signal(run_id, "news", "end")
            assert await result == 2

    play(test())


def test_a_signal_wakes_the_owner(owner: Owner, store_url: str, broker_url: str, tmp_path: Path) -> None:
    """Sent by another process, the first of them before that one is connected."""

    async def test() -> None:
        run_id = await asyncio.to_thread(owner.run_id)
        async with engine(store_url, broker_url, tmp_path / "other", adopt=False) as headrace:
            for _ in range(SIGNALS):
                await headrace.signal(run_id, "news", "more")
            await headrace.signal(run_id, "news", "end")
            assert await asyncio.to_thread(owner.result) == SIGNALS + 1

    play(test())


def test_a_command_that_ends_at_once_wakes_the_owner(
    owner: Owner, store_url: str, broker_url: str, tmp_path: Path
) -> None:
    """The command line's way: start, send, stop."""

    async def test() -> None:
        run_id = await asyncio.to_thread(owner.run_id)
        async with engine(store_url, broker_url, tmp_path / "other", adopt=False, execute=False) as headrace:
            await headrace.signal(run_id, "news", "end")
        assert await asyncio.to_thread(owner.result) == 1

    play(test())


def test_a_run_that_is_given_up_is_taken_over(owner: Owner, store_url: str, broker_url: str, tmp_path: Path) -> None:
    """By a node that has been there all the time and looks for such runs once an hour."""

    async def test() -> None:
        run_id = await asyncio.to_thread(owner.run_id)
        async with engine(store_url, broker_url, tmp_path / "other", node="heir") as headrace:
            await until_up(headrace)
            await asyncio.to_thread(owner.stop)
            while (await headrace.row(run_id)).owner != "heir":
                await asyncio.sleep(0.05)
            await headrace.signal(run_id, "news", "end")
            assert await (await headrace.get(run_id)).result() == 1

    play(test())


@pytest.mark.parametrize("pair", BROKERS, indirect=True)
def test_signals_sent_while_the_broker_is_away_arrive(
    owner: Owner, broker_server: Server | None, store_url: str, broker_url: str, tmp_path: Path
) -> None:
    """They are in the store; when the broker is back, everybody is woken. Nothing stops meanwhile."""
    assert broker_server is not None

    async def test() -> None:
        run_id = await asyncio.to_thread(owner.run_id)
        async with engine(store_url, broker_url, tmp_path / "other", adopt=False) as headrace:
            await until_up(headrace)
            await asyncio.to_thread(broker_server.crash)
            try:
                for _ in range(SIGNALS):
                    await headrace.signal(run_id, "news", "more")
                own = await headrace.start(listener)  # work of its own goes on
                await headrace.signal(own.id, "news", "end")
                assert await own.result() == 1
                await headrace.signal(run_id, "news", "end")
            finally:
                await asyncio.to_thread(broker_server.start)
            assert await asyncio.to_thread(owner.result) == SIGNALS + 1

    play(test())


@pytest.mark.parametrize("pair", ["sqlite-nats"], indirect=True)
def test_the_command_line_wakes_the_owner(owner: Owner, store_url: str, broker_url: str) -> None:
    """It is told of the broker by its variable."""
    run_id = owner.run_id()
    command = [str(Path(sys.executable).with_name("headrace")), "runs", "signal", run_id, "news", '"end"']
    surroundings = {**os.environ, "HEADRACE_STORE": store_url, "HEADRACE_BROKER": broker_url}
    done = subprocess.run(
        command, env=surroundings, capture_output=True, text=True, check=False, timeout=WAIT_SECONDS_MAX
    )
    assert done.returncode == 0, done.stderr
    assert owner.result() == 1
    refused = subprocess.run(
        command, env={**surroundings, "HEADRACE_BROKER": "kafka://x"}, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "there is no broker for kafka://" in refused.stderr
    assert "Traceback" not in refused.stderr
