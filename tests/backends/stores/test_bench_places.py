"""What ``headrace bench`` makes on a server is usable, and gone at the end."""

import asyncio

from mariadb_server import MariadbServer
from postgres_server import PostgresServer

from headrace.backends.stores import open_store
from headrace.bench.places import place_for


async def _use(url: str) -> None:
    async with place_for(url) as place:
        for _ in range(2):
            for probe in place.probes.values():
                assert await probe() > 0  # type: ignore[misc]
        store = open_store(place.url("W1-x"))
        await store.open()
        assert await store.nodes() == []
        await store.close()


def test_databases_on_mysql(mariadb: MariadbServer) -> None:
    asyncio.run(_use(mariadb.url("bench")))
    assert mariadb.sql("SHOW DATABASES LIKE 'bench\\_%'") == ""


def test_schemas_in_postgresql(postgres: PostgresServer) -> None:
    asyncio.run(_use(postgres.url()))
    assert postgres.sql("postgres", "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'bench\\_%'") == "0"
