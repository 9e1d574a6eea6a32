"""Before any test module imports the suite: its assertions are to explain themselves. And one PostgreSQL and one
MariaDB for all tests that need one."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite(
    "headrace.testing.store_conformance", "headrace.testing.lock_conformance", "outage_scenarios", "outages"
)
sys.path.insert(0, str(Path(__file__).parent))  # importlib mode: what lies beside the tests is imported by name

from mariadb_server import MariadbServer, mariadb_programs  # noqa: E402
from namespaces import hosts  # noqa: E402, F401
from postgres_server import PostgresServer, postgres_folder  # noqa: E402


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running server; tests that crash it start it again."""
    server = PostgresServer(postgres_folder())
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariadbServer]:
    """A running server; tests that crash it start it again."""
    server = MariadbServer(mariadb_programs())
    try:
        server.start()
        yield server
    finally:
        server.close()
