"""One PostgreSQL for all tests of servers; the same as for those of stores."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "backends" / "stores"))
sys.path.insert(0, str(Path(__file__).parent))

from postgres_server import PostgresServer, postgres_folder


@pytest.fixture(scope="session")
def server_postgres() -> Iterator[PostgresServer]:
    server = PostgresServer(postgres_folder())
    try:
        server.start()
        yield server
    finally:
        server.close()
