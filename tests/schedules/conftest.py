"""Nodes as in the engine's tests, and the servers of the stores' tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TESTS = HERE.parent
sys.path[:0] = [str(HERE), str(TESTS / "backends" / "stores"), str(TESTS / "engine"), str(TESTS / "core")]

from mariadb_server import MariadbServer, mariadb_programs  # noqa: E402
from postgres_server import PostgresServer, postgres_folder  # noqa: E402


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running server."""
    server = PostgresServer(postgres_folder())
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariadbServer]:
    """A running server."""
    server = MariadbServer(mariadb_programs())
    try:
        server.start()
        yield server
    finally:
        server.close()
