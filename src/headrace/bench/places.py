"""Where a bench keeps its databases, and which limits a store there has: :func:`place_for`.

Databases are new ones, beside what the store's URL names, and are removed at the end: files in a temporary folder on the
disk of an SQLite store, schemas in the database of a PostgreSQL store, databases on the server of a MySQL store.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import uuid
from collections.abc import AsyncGenerator, Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from headrace.backends.stores import open_store
from headrace.backends.stores.sqlite_files import path_of_url
from headrace.bench.raw import Probe, SqliteProbes
from headrace.bench.workloads import Workload
from headrace.core.errors import HeadraceError

if TYPE_CHECKING:
    from headrace.backends.stores.mysql_connections import Connections as MysqlConnections
    from headrace.backends.stores.postgres_connections import Connections

NETWORK_HOP_TARGET = 2.0
"""A sequential hop, as a multiple of one raw commit, over a network."""


class Place(Protocol):
    """One bench's place."""

    kind: str

    def url(self, name: str) -> str:
        """The URL of the database of that name, which may not exist yet."""
        ...

    def files(self, name: str) -> Path | None:
        """The folder for the files beside that database; None for one that the caller makes and removes."""
        ...

    def judged(self, workload: Workload) -> Workload:
        """The workload with the targets that hold for this store."""
        ...

    @property
    def probes(self) -> Mapping[str, Probe]:
        """What measures the limits of the store, by the name of the limit."""
        ...


class MemoryPlace:
    """No disk and so no limits of one."""

    kind = "memory"
    probes: Mapping[str, Probe] = {}

    def url(self, name: str) -> str:
        """Every engine has a database of its own."""
        return "memory://"

    def files(self, name: str) -> None:
        """Nowhere."""

    def judged(self, workload: Workload) -> Workload:
        """The usual targets."""
        return workload


class SqlitePlace:
    """Files in a folder."""

    kind = "sqlite"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._probes = SqliteProbes(folder / "raw.db")
        self.probes: Mapping[str, Probe] = self._probes.by_name

    def url(self, name: str) -> str:
        """A file."""
        return f"sqlite:///{self._folder / name}.db"

    def files(self, name: str) -> Path:
        """Beside it."""
        return self._folder / f"{name}.files"

    def judged(self, workload: Workload) -> Workload:
        """The usual targets."""
        return workload

    def close(self) -> None:
        """Release the probes' connection."""
        self._probes.close()


class PostgresPlace:
    """Schemas of one database. ``connections``: to that database, for the probes."""

    kind = "postgresql"

    def __init__(self, url: str, connections: Connections) -> None:
        from headrace.bench.raw_postgres import PostgresProbes  # noqa: PLC0415

        self._url = url
        self._prefix = f"bench_{uuid.uuid4().hex[:12]}"
        self.schemas: set[str] = set()
        self.probes: Mapping[str, Probe] = PostgresProbes(connections, self.schema("raw")).by_name

    def schema(self, name: str) -> str:
        """The schema of that name; it is dropped at the end."""
        schema = f"{self._prefix}_{name}".lower().replace("-", "_")
        self.schemas.add(schema)
        return schema

    def url(self, name: str) -> str:
        """A schema."""
        from headrace.backends.stores.postgres_url import with_schema  # noqa: PLC0415

        return with_schema(self._url, self.schema(name))

    def files(self, name: str) -> None:
        """Files are not in the database."""

    def judged(self, workload: Workload) -> Workload:
        """Absolute targets are about a store without a network."""
        hop = None if workload.ratio_target is None else NETWORK_HOP_TARGET
        return msgspec.structs.replace(workload, target=None, ratio_target=hop)


class MysqlPlace:
    """Databases of one server. ``connections``: to that server, for the probes."""

    kind = "mysql"

    def __init__(self, url: str, connections: MysqlConnections) -> None:
        from headrace.bench.raw_mysql import MysqlProbes  # noqa: PLC0415

        self._url = url
        self._prefix = f"bench_{uuid.uuid4().hex[:12]}"
        self.databases: set[str] = set()
        self.probes: Mapping[str, Probe] = MysqlProbes(connections, self.database("raw")).by_name

    def database(self, name: str) -> str:
        """The database of that name; it is dropped at the end."""
        database = f"{self._prefix}_{name}".lower().replace("-", "_")
        self.databases.add(database)
        return database

    def url(self, name: str) -> str:
        """A database."""
        from headrace.backends.stores.mysql_url import with_database  # noqa: PLC0415

        return with_database(self._url, self.database(name))

    def files(self, name: str) -> None:
        """Files are not in the database."""

    def judged(self, workload: Workload) -> Workload:
        """Absolute targets are about a store without a network."""
        hop = None if workload.ratio_target is None else NETWORK_HOP_TARGET
        return msgspec.structs.replace(workload, target=None, ratio_target=hop)


@contextlib.asynccontextmanager
async def place_for(store: str) -> AsyncGenerator[Place]:
    """The place beside a store, removed at the end. Raises :class:`HeadraceError` if it cannot be used."""
    scheme = store.partition("://")[0]
    if scheme == "memory":
        yield MemoryPlace()
    elif scheme in ("postgresql", "postgres"):
        async with _postgres(store) as place:
            yield place
    elif scheme in ("mysql", "mariadb"):
        async with _mysql(store) as place:
            yield place
    else:
        with folder_beside(store) as folder, contextlib.closing(SqlitePlace(folder)) as place:
            yield place


@contextlib.contextmanager
def folder_beside(store: str) -> Generator[Path]:
    """A temporary folder on the disk of an SQLite store, removed at the end."""
    path = path_of_url(store)
    parent = Path(tempfile.gettempdir()) if path is None else path.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="bench-", dir=parent))
    except OSError as error:
        raise HeadraceError(
            f"the bench cannot write to {parent}: {error.strerror}", hint="give --store sqlite:///FOLDER/any.db"
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def _postgres(store: str) -> AsyncGenerator[PostgresPlace]:
    open_store(store)  # tells what is wrong with the URL, or that the driver is missing
    from headrace.backends.stores.postgres_connections import pool_of  # noqa: PLC0415 - loads the driver
    from headrace.backends.stores.postgres_url import place_of_url  # noqa: PLC0415

    connections = pool_of(place_of_url(store), 1)
    await connections.open()
    try:
        place = PostgresPlace(store, connections)
        try:
            yield place
        finally:
            for schema in sorted(place.schemas):
                await connections.call(lambda db, schema=schema: db.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE"))
    finally:
        await connections.close()


@contextlib.asynccontextmanager
async def _mysql(store: str) -> AsyncGenerator[MysqlPlace]:
    open_store(store)  # tells what is wrong with the URL, or that the driver is missing
    from headrace.backends.stores.mysql_connections import pool_of  # noqa: PLC0415 - loads the driver
    from headrace.backends.stores.mysql_url import place_of_url  # noqa: PLC0415

    connections = pool_of(place_of_url(store), 1)
    await connections.open()
    try:
        place = MysqlPlace(store, connections)
        try:
            yield place
        finally:
            for database in sorted(place.databases):
                text = f"DROP DATABASE IF EXISTS {database}".encode()
                await connections.call(lambda db, text=text: db.run(text))
    finally:
        await connections.close()
