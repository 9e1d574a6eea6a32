"""Before any test module imports the suite: its assertions are to explain themselves. And one server of each sort for all
tests, started when the first of them needs it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("headrace.testing.broker_conformance")
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "stores")]

from broker_servers import NatsServer, RabbitServer, ValkeyServer  # noqa: E402
from postgres_server import PostgresServer, postgres_folder  # noqa: E402


@pytest.fixture(scope="session")
def nats_server() -> Iterator[NatsServer]:
    yield from NatsServer.session()


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    yield from ValkeyServer.session()


@pytest.fixture(scope="session")
def rabbit_server() -> Iterator[RabbitServer]:
    yield from RabbitServer.session()


@pytest.fixture(scope="session")
def broker_postgres() -> Iterator[PostgresServer]:
    server = PostgresServer(postgres_folder())
    try:
        server.start()
        yield server
    finally:
        server.close()
