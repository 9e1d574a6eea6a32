"""All stores pass the suite that every store must pass."""

import time
from pathlib import Path

import pytest
from mariadb_server import MariadbServer
from mysql_rig import MysqlHarness
from postgres_rig import PostgresHarness
from postgres_server import PostgresServer

from headrace.backends.stores.memory import MemoryDatabase, MemoryStore
from headrace.backends.stores.sqlite import SqliteStore
from headrace.testing.store_conformance import StoreConformance


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.offset = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset

    async def advance(self, seconds: float) -> None:
        self.offset += seconds


class MemoryHarness:
    def __init__(self) -> None:
        clock = Clock()
        self.advance = clock.advance
        self.database = MemoryDatabase(clock)

    def handle(self) -> MemoryStore:
        return MemoryStore(self.database)


class SqliteHarness:
    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.advance = self.clock.advance
        self.url = f"sqlite:///{folder}/headrace.db"

    def handle(self) -> SqliteStore:
        return SqliteStore(self.url, clock=self.clock)


class TestMemoryStore(StoreConformance):
    @pytest.fixture
    def harness(self) -> MemoryHarness:
        return MemoryHarness()


class TestSqliteStore(StoreConformance):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> SqliteHarness:
        return SqliteHarness(tmp_path)


class TestPostgresStore(StoreConformance):
    @pytest.fixture
    def harness(self, postgres: PostgresServer) -> PostgresHarness:
        return PostgresHarness(postgres)


class TestMysqlStore(StoreConformance):
    @pytest.fixture
    def harness(self, mariadb: MariadbServer) -> MysqlHarness:
        return MysqlHarness(mariadb)
