"""Every broker does what the contract says, against a real server."""

import asyncio
import uuid
from collections.abc import Callable, Iterator

import pytest
from broker_relay import Relay
from broker_servers import NatsServer, RabbitServer, Server, ValkeyServer
from postgres_server import PostgresServer

from headrace.backends.brokers.linked import Pace
from headrace.backends.brokers.memory import MemoryHub
from headrace.backends.brokers.nats import nats_broker
from headrace.backends.brokers.postgres import postgres_broker
from headrace.backends.brokers.rabbitmq import rabbitmq_broker
from headrace.backends.brokers.redis import redis_broker
from headrace.backends.brokers.url import address_of_url
from headrace.backends.stores.postgres_url import place_of_url
from headrace.contracts.broker import Broker
from headrace.testing.broker_conformance import BrokerConformance

pytestmark = pytest.mark.timeout(400)  # a server may take minutes to start where the disk stalls

PACE = Pace(pause_first=0.05, pause_max=0.3, answer=20.0, call=20.0, flush=20.0)
"""Eager to come back, and patient with a machine that is busy with other things."""


class ServerPlace:
    """A server and a prefix that no other test uses."""

    def __init__(self, server: Server, make: Callable[..., Broker]) -> None:
        self._server = server
        self._make = make
        self._prefix = f"t{uuid.uuid4().hex[:12]}"

    def broker(self) -> Broker:
        return self._make(address_of_url(f"{self._server.url}?prefix={self._prefix}"), PACE)

    def crash(self) -> None:
        self._server.crash()

    def recover(self) -> None:
        self._server.start()


class PostgresPlace:
    """A schema that no other test uses; it need not exist."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._schema = f"t{uuid.uuid4().hex[:12]}"

    def broker(self) -> Broker:
        return postgres_broker(place_of_url(self._server.url(more=f"?schema={self._schema}")), PACE)

    def crash(self) -> None:
        self._server.crash()

    def recover(self) -> None:
        self._server.start()


class MemoryPlace:
    """The calls come from threads, the hub lives on the event loop."""

    def __init__(self) -> None:
        self._hub = MemoryHub()
        self._loop: asyncio.AbstractEventLoop | None = None

    def broker(self) -> Broker:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._hub.broker(PACE)

    def crash(self) -> None:
        self._hub.running = False
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._hub.crash)

    def recover(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._hub.recover)
        else:
            self._hub.recover()


class TestMemory(BrokerConformance):
    @pytest.fixture
    def place(self) -> MemoryPlace:
        return MemoryPlace()

    test_a_subscriber_that_is_busy_loses_nothing_that_matters = None  # type: ignore[assignment] # one event loop only


class TestNats(BrokerConformance):
    @pytest.fixture
    def place(self, nats_server: NatsServer) -> ServerPlace:
        return ServerPlace(nats_server, nats_broker)


class TestValkey(BrokerConformance):
    @pytest.fixture
    def place(self, valkey_server: ValkeyServer) -> ServerPlace:
        return ServerPlace(valkey_server, redis_broker)


class RabbitPlace(ServerPlace):
    """Behind a door, which is shut sooner than this server is started again; but for one test, that is done."""

    def __init__(self, server: RabbitServer) -> None:
        super().__init__(server, rabbitmq_broker)
        self.relay = Relay(server.port)
        self.relay.open()
        self.kills = False

    def broker(self) -> Broker:
        return rabbitmq_broker(
            address_of_url(f"amqp://guest:guest@127.0.0.1:{self.relay.port}/?prefix={self._prefix}"), PACE
        )

    def crash(self) -> None:
        if self.kills:
            self._server.crash()
        else:
            self.relay.shut()

    def recover(self) -> None:
        if self.kills:
            self._server.start()
        else:
            self.relay.open()


class TestRabbitMQ(BrokerConformance):
    @pytest.fixture
    def place(self, rabbit_server: RabbitServer) -> Iterator[RabbitPlace]:
        place = RabbitPlace(rabbit_server)
        yield place
        place.relay.shut()

    def test_a_server_that_is_killed_is_found_again(self, place: RabbitPlace) -> None:  # type: ignore[override]
        place.kills = True
        super().test_a_server_that_is_killed_is_found_again(place)


class TestPostgres(BrokerConformance):
    @pytest.fixture
    def place(self, broker_postgres: PostgresServer) -> PostgresPlace:
        return PostgresPlace(broker_postgres)
