"""Behind a pooler in transaction mode, where each transaction may find itself on another session."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from postgres_rig import PostgresHarness
from postgres_server import PostgresServer
from postgres_wire import Pooler

from headrace.backends.stores.postgres import PostgresStore
from headrace.core.errors import HeadraceError, NotFound
from headrace.testing.store_conformance.stage import Stage, event, new_run, run_id, update

R1, R2 = run_id(1), run_id(2)


@pytest.fixture
def harness(postgres: PostgresServer) -> Iterator[PostgresHarness]:
    harness = PostgresHarness(postgres)
    asyncio.run(_make(harness))
    yield harness


async def _make(harness: PostgresHarness) -> None:
    store = harness.handle()
    await store.open()
    await store.close()


def test_everything_works_without_a_session(harness: PostgresHarness) -> None:
    """Every sort of call, many at once, on sessions that change with every transaction."""

    async def work() -> None:
        async with Pooler(harness.server.port, "postgres", "postgres").listening() as pooler:
            store = PostgresStore(harness.url_through(pooler.port, "&pgbouncer=true"))
            await store.open()
            stage = Stage(harness)
            node = await stage.node("a", store=store)
            await node.start(new_run(1, tags={"k": "v"}, attributes={"n": 1}, key="k"), new_run(2))
            for seq in range(2, 30):
                await node.commit([event(R1, seq)], updates=[update(R1, seq, attributes={"n": seq})])
                await node.go_on(R2, seq)
            await asyncio.gather(*(store.run(R1) for _ in range(30)), *(store.history(R2) for _ in range(30)))
            message, _ = await store.post(R1, "signal", {"x": 1})
            assert [row.id for row in await store.inbox(None, node.name)] == [message]
            assert await asyncio.to_thread(store.renew, node.name, node.epoch, 60.0)
            await store.release(node.name, node.epoch, [R1, R2])
            assert await node.claim(1) == [R1]
            assert await node.claim() == [R2]
            assert await store.reserve_key(node.name, node.epoch, "nightly", "k", run_id(3)) is not None
            with pytest.raises(NotFound):
                await node.go_on(run_id(9), 1)

            async def pays(db: Any) -> bytes:
                async with db.transaction():
                    return str(await db.fetchval("SELECT count(*) FROM pg_class")).encode()

            kept = await store.transact(node.name, node.epoch, R1, "pay", pays)
            assert await store.transact(node.name, node.epoch, R1, "pay", pays) == kept
            assert len(await store.history(R1)) == 29
            assert pooler.transactions > 100
            await store.close()

    asyncio.run(work())


def test_a_fresh_database_is_opened_through_a_pooler(postgres: PostgresServer) -> None:
    """Migrations need no session either."""
    harness = PostgresHarness(postgres)

    async def work() -> None:
        async with Pooler(postgres.port, "postgres", "postgres").listening() as pooler:
            store = PostgresStore(harness.url_through(pooler.port, "&pgbouncer=true"))
            await store.open()
            assert await store.nodes() == []
            await store.close()

    asyncio.run(work())


def test_a_pooler_that_was_not_mentioned_is_guessed(harness: PostgresHarness) -> None:
    """Prepared statements are then missing on other sessions; the message says what to put into the URL."""

    async def work() -> None:
        async with Pooler(harness.server.port, "postgres", "postgres").listening() as pooler:
            store = PostgresStore(harness.url_through(pooler.port))
            try:
                await store.open()
                for _ in range(10):
                    await store.nodes()
            finally:
                await store.close()

    with pytest.raises(HeadraceError, match="pgbouncer=true"):
        asyncio.run(work())
