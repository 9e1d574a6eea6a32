"""The servers that the soaks kill are those of the stores' and brokers' tests, started anew for these tests alone."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TESTS = HERE.parent
sys.path[:0] = [
    str(HERE),
    str(TESTS / "backends" / "stores"),
    str(TESTS / "backends" / "brokers"),
    str(TESTS / "engine"),
]

from broker_servers import NatsServer  # noqa: E402
from postgres_server import PostgresServer, postgres_folder  # noqa: E402


@pytest.fixture(scope="session")
def cluster_postgres() -> Iterator[PostgresServer]:
    """One that remembers when each transaction was committed."""
    server = PostgresServer(postgres_folder())
    try:
        server.start()
        server.sql("postgres", "ALTER SYSTEM SET track_commit_timestamp = on")
        server.crash()
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def cluster_nats() -> Iterator[NatsServer]:
    yield from NatsServer.session()
