"""What a broker may do to nodes: nothing that matters. And what it costs them when it is away: nothing that grows."""

import asyncio
import logging
import uuid
from pathlib import Path
from typing import Any

import pytest
from broker_node import HOUR_SECONDS, listener

from headrace import Headrace
from headrace.backends.brokers import linked
from headrace.backends.brokers.linked import LinkedBroker, Pace
from headrace.backends.brokers.memory import MemoryHub
from headrace.backends.stores.memory import MemoryDatabase, MemoryStore
from headrace.contracts.broker import EVERYTHING, TOPICS_PENDING_MAX, node_topic
from headrace.core.errors import StoreUnavailable
from headrace.engine import doorbell, parker, waker
from headrace.testing.faulty_broker import FaultyBroker

WAIT_SECONDS_MAX = 60.0
PACE = Pace(pause_first=0.01, pause_max=0.05)
RUNS = 8
SIGNALS = 4


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No two nodes are in the same place: nobody can ring at anybody's door."""
    for module in (doorbell, waker):
        monkeypatch.setattr(module, "here", lambda: uuid.uuid4().hex)
    monkeypatch.setattr(parker, "PARK_AFTER_SECONDS", HOUR_SECONDS)


def play(test: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            await test

    asyncio.run(bounded())


def node(database: MemoryDatabase, broker: Any, folder: Path, poll_seconds: float, **options: Any) -> Headrace:
    return Headrace(
        MemoryStore(database),
        broker=broker,
        workflows=[listener],
        data_dir=folder,
        poll_seconds=poll_seconds,
        lease_seconds=3 * HOUR_SECONDS,
        **options,
    )


async def until(reached: Any) -> None:
    while not reached():
        await asyncio.sleep(0.01)


async def converse(owner: Headrace, other: Headrace) -> list[int]:
    """Runs of one node, signals through the other: what the runs have counted."""
    runs = [await owner.start(listener) for _ in range(RUNS)]
    for _ in range(SIGNALS):
        for run in runs:
            await other.signal(run.id, "news", "more")
    for run in runs:
        await other.signal(run.id, "news", "end")
    return [await run.result() for run in runs]


def test_a_sound_broker_needs_no_poll(tmp_path: Path) -> None:
    async def test() -> None:
        hub, database = MemoryHub(), MemoryDatabase()
        async with (
            node(database, hub.broker(PACE), tmp_path, HOUR_SECONDS) as owner,
            node(database, hub.broker(PACE), tmp_path, HOUR_SECONDS, adopt=False) as other,
        ):
            assert await converse(owner, other) == [SIGNALS + 1] * RUNS
            assert owner.broker_health.heard > 0

    play(test())


@pytest.mark.parametrize(
    ("faults", "seed"),
    [
        ({"lose": 1.0}, 1),
        ({"lose": 0.5, "repeat": 0.5, "delay": 0.5}, 2),
        ({"repeat": 1.0, "delay": 0.5, "delay_seconds": 0.3}, 3),
    ],
)
def test_what_a_broker_does_wrong_is_healed(faults: dict[str, float], seed: int, tmp_path: Path) -> None:
    """Signals whose wake-ups are lost, doubled, late or in another order are applied once each, by the poll at last."""

    async def test() -> None:
        hub, database = MemoryHub(), MemoryDatabase()
        faulty = FaultyBroker(hub.broker(PACE), seed=seed, **faults)
        async with (
            node(database, hub.broker(PACE), tmp_path, 0.1) as owner,
            node(database, faulty, tmp_path, 0.1, adopt=False) as other,
        ):
            assert await converse(owner, other) == [SIGNALS + 1] * RUNS
            assert sum(faulty.faults.values()) > 0

    play(test())


def test_a_broker_that_comes_and_goes_stops_nobody(tmp_path: Path) -> None:
    async def test() -> None:
        hub, database = MemoryHub(), MemoryDatabase()
        async with (
            node(database, hub.broker(PACE), tmp_path, HOUR_SECONDS) as owner,
            node(database, hub.broker(PACE), tmp_path, HOUR_SECONDS, adopt=False) as other,
        ):
            for _ in range(5):
                hub.crash()
                run = await owner.start(listener)
                await other.signal(run.id, "news", "more")
                hub.recover()
                await other.signal(run.id, "news", "end")
                assert await run.result() == 2

    play(test())


def test_an_engine_starts_and_ends_without_its_broker(tmp_path: Path) -> None:
    async def test() -> None:
        hub = MemoryHub()
        hub.crash()
        async with node(MemoryDatabase(), hub.broker(PACE), tmp_path, HOUR_SECONDS) as headrace:
            run = await headrace.start(listener)
            await headrace.signal(run.id, "news", "end")
            assert await run.result() == 1
            await until(lambda: headrace.broker_health.state == "down")
            [row] = await headrace.store.nodes()
            assert row.info["broker"] == "memory://"

    play(test())


def test_an_outage_is_told_once_and_takes_no_memory(caplog: pytest.LogCaptureFixture) -> None:
    """However many connections fail and wake-ups wait; and its end is told once. Passwords are not told."""

    async def test() -> None:
        hub = MemoryHub()
        hub.crash()
        tries = 0
        inner = hub.broker(PACE)._connect

        async def connect(heard: Any) -> Any:
            nonlocal tries
            tries += 1
            try:
                return await inner(heard)
            except StoreUnavailable:
                raise ConnectionError("cannot log in with s3cret") from None

        broker = LinkedBroker("memory://", connect, secrets=["s3cret"], pace=PACE)
        heard: list[str] = []
        await broker.start(heard.append)
        for number in range(5 * TOPICS_PENDING_MAX):
            broker.publish(node_topic(str(number)))
        await until(lambda: tries > 5)
        assert len(broker._pending) == TOPICS_PENDING_MAX
        assert broker.health().dropped == 4 * TOPICS_PENDING_MAX
        assert broker.health().error == "cannot log in with ***"
        hub.recover()
        await until(lambda: broker.health().state == "up")
        await until(lambda: broker.health().sent == TOPICS_PENDING_MAX)
        assert heard == [EVERYTHING]
        assert broker.health().outages == 1
        await broker.stop()

    with caplog.at_level(logging.INFO, logger="headrace.broker"):
        play(test())
    assert [record.message for record in caplog.records if record.name == "headrace.broker"] == [
        "the broker cannot be reached; wake-ups come by the slow poll",
        "the broker is back",
    ]
    assert "s3cret" not in caplog.text + str([vars(record) for record in caplog.records])


def test_a_connection_that_has_gone_deaf_is_given_up() -> None:
    """It takes what is sent and brings nothing: no socket tells, the probe does."""

    async def test() -> None:
        hub = MemoryHub()
        broker = hub.broker(Pace(pause_first=0.01, pause_max=0.01, probe=0.05, answer=0.1))
        heard: list[str] = []
        await broker.start(heard.append)
        await until(lambda: broker.health().state == "up")
        [wire] = hub.wires
        hub.wires.clear()
        await until(lambda: len(heard) == 2)
        assert hub.wires != [wire]
        assert broker.health().outages == 1
        assert heard == [EVERYTHING] * 2
        await broker.stop()

    play(test())


def test_a_client_that_swallows_a_cancellation_cannot_keep_a_broker_from_stopping(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It fails in its own way instead, and the link would connect anew for ever."""
    monkeypatch.setattr(linked, "STOP_AGAIN_SECONDS", 0.01)
    cancelled = 0

    async def connect(_heard: Any) -> Any:
        nonlocal cancelled
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled += 1
            if cancelled == 1:
                raise ConnectionError("the stream was closed") from None
            raise

    async def test() -> None:
        broker = LinkedBroker("memory://", connect, pace=PACE)
        await broker.start(lambda _topic: None)
        await asyncio.sleep(0)
        await broker.stop()

    play(test())
    assert cancelled


def test_a_bell_of_another_place_is_not_rung_but_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loopback address of another host is a stranger's here. Those of older nodes name no place."""
    monkeypatch.setattr(doorbell, "here", lambda: "this")
    assert doorbell.bell_of("127.0.0.1:4711/this/node.a") == doorbell.Bell(4711, "this", "node.a")
    assert doorbell.bell_of("127.0.0.1:4711/this/node.a").near
    assert not doorbell.bell_of("127.0.0.1:4711/that/node.a").near
    assert doorbell.bell_of("127.0.0.1:4711").near
    for unusable in ("", "/this/node.a", "10.0.0.1:4711/this/node.a", "127.0.0.1:x/this/n", "127.0.0.1:999999/this/n"):
        assert not doorbell.bell_of(unusable).near
    assert doorbell.bell_of("/that/node.a").topic == "node.a"
