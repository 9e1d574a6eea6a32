"""The conformance suite of brokers: every sentence of :class:`headrace.contracts.broker.Broker` as a scenario.

A new broker inherits it and says how to reach one::

    class TestMyBroker(BrokerConformance):
        @pytest.fixture
        def place(self, my_server):
            return MyPlace(my_server)  # a BrokerPlace

For readable failures name the module to pytest before importing it:
``pytest.register_assert_rewrite("headrace.testing.broker_conformance")``.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Protocol

from headrace.contracts.broker import EVERYTHING, TOPICS_PENDING_MAX, Broker, node_topic, queue_topic
from headrace.testing.faulty_broker import FaultyBroker

SCENARIO_SECONDS_MAX = 240.0
"""A scenario that takes longer has failed. Generous: a server that starts anew may take its time."""

NAMES = ("a", "node 1", "*", ">", "a.b..c", "ä/ö#&?", "x" * 300)
"""Nodes and queues may be called anything."""


class BrokerPlace(Protocol):
    """A broker under test and the server behind it. The calls may block: they are made from threads."""

    def broker(self) -> Broker:
        """A new client. All of one place hear each other; nobody else does."""
        ...

    def crash(self) -> None:
        """Kill the server. Called off the event loop."""
        ...

    def recover(self) -> None:
        """Start it again, at the same address; returns when it takes connections. Called off the event loop."""
        ...


class Ears:
    """What one client has heard."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.count: Counter[str] = Counter()
        self._more = asyncio.Event()

    def heard(self, topic: str) -> None:
        """The broker's callback."""
        self.count[topic] += 1
        self._more.set()

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait until what was heard fulfils a condition."""
        while not reached():
            self._more.clear()
            await self._more.wait()

    async def hears(self, topic: str, times: int = 1) -> None:
        """Wait until a topic was heard that often in all."""
        await self.until(lambda: self.count[topic] >= times)


@contextlib.asynccontextmanager
async def listening(broker: Broker, *topics: str) -> AsyncGenerator[Ears]:
    """A client that is connected and hears these topics."""
    ears = Ears(broker)
    broker.subscribe(topics)
    await broker.start(ears.heard)
    try:
        await ears.hears(EVERYTHING)
        yield ears
    finally:
        await broker.stop()


async def until(reached: Callable[[], bool]) -> None:
    """Wait until a condition holds that nobody signals."""
    while not reached():  # noqa: ASYNC110 - a broker's health is there to be looked at
        await asyncio.sleep(0.02)


def play(scenario: Coroutine[Any, Any, None]) -> None:
    """Run a scenario on an event loop of its own, for a bounded time."""

    async def bounded() -> None:
        async with asyncio.timeout(SCENARIO_SECONDS_MAX):
            await scenario

    asyncio.run(bounded())


class BrokerConformance:
    """Inherit, and give a fixture ``place`` of type :class:`BrokerPlace`."""

    def test_what_is_published_is_heard(self, place: BrokerPlace) -> None:
        """By everybody who has subscribed, the publisher included, and by nobody else."""

        async def scenario() -> None:
            async with (
                listening(place.broker(), node_topic("a")) as a,
                listening(place.broker(), node_topic("b"), node_topic("c")) as b,
            ):
                a.broker.publish(node_topic("b"))
                await b.hears(node_topic("b"))
                b.broker.publish(node_topic("a"))
                await a.hears(node_topic("a"))
                b.broker.publish(node_topic("c"))
                await b.hears(node_topic("c"))
                assert a.count == {EVERYTHING: 1, node_topic("a"): 1}
                assert b.count == {EVERYTHING: 1, node_topic("b"): 1, node_topic("c"): 1}
                health = a.broker.health()
                assert (health.state, health.error, health.outages) == ("up", "", 0)
                assert health.heard == 1
                assert health.round_trip_seconds is not None

        play(scenario())

    def test_all_who_serve_a_queue_are_woken(self, place: BrokerPlace) -> None:
        async def scenario() -> None:
            topic = queue_topic("gpu")
            async with (
                listening(place.broker(), topic) as one,
                listening(place.broker(), topic) as other,
                listening(place.broker()) as publisher,
            ):
                publisher.broker.publish(topic)
                await one.hears(topic)
                await other.hears(topic)

        play(scenario())

    def test_names_may_be_anything(self, place: BrokerPlace) -> None:
        """Wildcards, dots, spaces, letters of all scripts, any length: no two are mixed up."""

        async def scenario() -> None:
            topics = [make(name) for name in NAMES for make in (node_topic, queue_topic)]
            assert len(set(topics)) == len(topics)
            async with listening(place.broker(), *topics) as ears:
                for topic in topics:
                    ears.broker.publish(topic)
                for topic in topics:
                    await ears.hears(topic)
                assert ears.count == Counter([EVERYTHING, *topics])

        play(scenario())

    def test_subscriptions_can_change(self, place: BrokerPlace) -> None:
        """What was given up is not heard any more, what is new is heard soon."""

        async def scenario() -> None:
            old, new = queue_topic("old"), queue_topic("new")
            async with (
                listening(place.broker(), old) as ears,
                listening(place.broker()) as publisher,
            ):
                ears.broker.subscribe([new])
                while not ears.count[new]:  # "soon": a wake-up that comes too early is lost
                    publisher.broker.publish(new)
                    await asyncio.sleep(0.05)
                publisher.broker.publish(old)
                publisher.broker.publish(new)
                await ears.hears(new, ears.count[new] + 1)
                assert not ears.count[old]

        play(scenario())

    def test_a_publisher_may_stop_at_once(self, place: BrokerPlace) -> None:
        """As a command line does: what it has published is still sent."""

        async def scenario() -> None:
            topic = node_topic("a")
            async with listening(place.broker(), topic) as ears:
                hasty = place.broker()
                await hasty.start(lambda _: None)
                hasty.publish(topic)
                await hasty.stop()
                await hasty.stop()
                await ears.hears(topic)

        play(scenario())

    def test_floods_are_coalesced_and_bounded(self, place: BrokerPlace) -> None:
        """Ten thousand wake-ups of one topic are a few; of more topics than there is room for, some are dropped."""

        async def scenario() -> None:
            topic = node_topic("a")
            async with (
                listening(place.broker(), topic) as ears,
                listening(place.broker()) as publisher,
            ):
                for _ in range(10_000):
                    publisher.broker.publish(topic)
                await ears.hears(topic)
                await until(lambda: publisher.broker.health().sent > 0)
                assert publisher.broker.health().sent == 1
                for number in range(TOPICS_PENDING_MAX + 500):
                    publisher.broker.publish(node_topic(str(number)))
                assert publisher.broker.health().dropped == 500
                heard = ears.count[topic]
                while ears.count[topic] == heard:  # there was no room for it just now
                    publisher.broker.publish(topic)
                    await asyncio.sleep(0.05)
                assert publisher.broker.health().state == "up"

        play(scenario())

    def test_a_subscriber_that_is_busy_loses_nothing_that_matters(self, place: BrokerPlace) -> None:
        """It blocks its event loop while wake-ups pour in; afterwards it has been woken at least once, and hears on."""

        async def scenario() -> None:
            topic = node_topic("slow")
            async with listening(place.broker(), topic) as slow:
                done = asyncio.Event()

                def flood() -> None:
                    async def publish() -> None:
                        async with listening(place.broker()) as publisher:
                            for _ in range(300):
                                publisher.broker.publish(topic)
                                await asyncio.sleep(0)
                            publisher.broker.publish(topic)

                    asyncio.run(publish())

                thread = asyncio.get_running_loop().run_in_executor(None, flood)
                thread.add_done_callback(lambda _: done.set())
                for _ in range(5):
                    time.sleep(0.05)  # noqa: ASYNC251 - user code that does not await
                    await asyncio.sleep(0)
                await done.wait()
                await thread
                await slow.hears(topic)
                heard = slow.count[topic]
                slow.broker.publish(topic)
                await slow.hears(topic, heard + 1)

        play(scenario())

    def test_a_server_that_is_not_there_yet_is_waited_for(self, place: BrokerPlace) -> None:
        """Starting raises nothing; what was published meanwhile is sent once, and the first connection wakes all."""

        async def scenario() -> None:
            topic = node_topic("a")
            await asyncio.to_thread(place.crash)
            broker = place.broker()
            ears = Ears(broker)
            try:
                broker.subscribe([topic])
                await broker.start(ears.heard)
                for _ in range(1000):
                    broker.publish(topic)
                await until(lambda: broker.health().state == "down")
                assert broker.health().error
                assert not ears.count
            finally:
                await asyncio.to_thread(place.recover)
            await ears.hears(topic)
            assert ears.count[EVERYTHING] >= 1
            assert ears.count[topic] < 10  # of a thousand
            await broker.stop()

        play(scenario())

    def test_a_server_that_is_killed_is_found_again(self, place: BrokerPlace) -> None:
        """Both sides notice, come back, subscribe again, and are woken because something may have been lost."""

        async def scenario() -> None:
            topic = node_topic("a")
            async with (
                listening(place.broker(), topic) as ears,
                listening(place.broker()) as publisher,
            ):
                await asyncio.to_thread(place.crash)
                try:
                    await until(lambda: {ears.broker.health().state, publisher.broker.health().state} == {"down"})
                    for number in range(3 * TOPICS_PENDING_MAX):
                        publisher.broker.publish(node_topic(f"other {number}"))
                    assert publisher.broker.health().dropped == 2 * TOPICS_PENDING_MAX
                finally:
                    await asyncio.to_thread(place.recover)
                await ears.hears(EVERYTHING, 2)
                await publisher.hears(EVERYTHING, 2)
                while not ears.count[topic]:  # the publisher still sends what has piled up
                    publisher.broker.publish(topic)
                    await asyncio.sleep(0.05)
                assert ears.broker.health().outages == 1

        play(scenario())

    def test_stopping_while_the_server_is_away_does_not_wait(self, place: BrokerPlace) -> None:
        async def scenario() -> None:
            await asyncio.to_thread(place.crash)
            try:
                broker = place.broker()
                await broker.start(lambda _: None)
                broker.publish(node_topic("a"))
                await broker.stop()
                never = place.broker()
                never.publish(node_topic("a"))
                await never.stop()
            finally:
                await asyncio.to_thread(place.recover)

        play(scenario())

    def test_it_can_be_made_worse(self, place: BrokerPlace) -> None:
        """With faults in front of it some wake-ups are lost, come twice, late or in another order; the rest arrives."""

        async def scenario() -> None:
            topics = [node_topic(str(number)) for number in range(200)]
            async with listening(place.broker(), *topics) as ears:
                faulty = FaultyBroker(ears.broker, seed=7, lose=0.3, repeat=0.3, delay=0.3)
                for topic in topics:
                    faulty.publish(topic)
                    await asyncio.sleep(0)
                assert faulty.faults["lost"] > 20
                assert faulty.faults["repeated"] > 20
                assert faulty.faults["delayed"] > 20
                expected = len(topics) - faulty.faults["lost"]
                await ears.until(lambda: len(ears.count) - 1 >= expected)
                assert len(ears.count) - 1 == expected

        play(scenario())
