"""Every store keeps locks and elects leaders as promised; and refuses what a former leader wants to do."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from mariadb_server import MariadbServer
from mysql_rig import MysqlHarness
from postgres_rig import PostgresHarness
from postgres_server import PostgresServer
from test_store_conformance import MemoryHarness, SqliteHarness

from headrace.contracts.locks import LEADER, PLACE_SECONDS, LockClaim, Term
from headrace.contracts.store import Store
from headrace.core.errors import NotLeader
from headrace.core.ids import NodeId
from headrace.testing.lock_conformance import (
    ElectionConformance,
    FencedLockConformance,
    LockConformance,
    LockHarness,
    Member,
    ask,
    lock_scenario,
)
from headrace.testing.store_conformance import StoreHarness

FOR_EVER = 1e6


class StoreCluster:
    """See :class:`headrace.testing.lock_conformance.LockHarness`; over a store whose clock moves when told."""

    ttl_seconds = 4.0
    place_seconds = PLACE_SECONDS

    def __init__(self, harness: StoreHarness) -> None:
        self._harness = harness
        self.advance = harness.advance
        self.stores: list[Store] = []

    async def member(self, name: str) -> Member:
        store = self._harness.handle()
        self.stores.append(store)
        await store.open()
        return Member(store, NodeId(name), await store.join(NodeId(name), FOR_EVER, f"bell of {name}", {}))

    async def lose(self, member: Member) -> None:
        store = self.stores[0] if member.locks is not self.stores[0] else self.stores[1]
        await store.join(member.node, -1.0, "", {})
        assert await store.expire_lost() == [member.node]

    async def close(self) -> None:
        for store in self.stores:
            await store.close()


class StoreLocks(LockConformance, ElectionConformance, FencedLockConformance):
    @lock_scenario
    async def test_the_bell_of_the_next_one_is_told(self, harness: LockHarness) -> None:
        a, b = await harness.member("a"), await harness.member("b")
        await ask(a, harness, "door", "a1")
        assert await a.locks.release_lock("door", "nobody") == ""
        await ask(b, harness, "door", "b1")
        assert await a.locks.release_lock("door", "nobody") == ""
        assert await a.locks.release_lock("door", "a1") == "bell of b"
        assert await a.locks.release_lock("door", "a1") == "bell of b"

    @lock_scenario
    async def test_what_a_former_leader_wants_to_do_is_refused(self, harness: LockHarness) -> None:
        """In the same transaction; nothing was done then."""
        assert isinstance(harness, StoreCluster)
        a, b = await harness.member("a"), await harness.member("b")
        store = harness.stores[1]
        first = Term((await ask(a, harness, LEADER, "a", queue=False)).token)
        assert await harness.stores[0].expire_lost(first) == []
        assert await harness.stores[0].delete_runs(1.0, term=first) == []
        await harness.advance(harness.ttl_seconds * 1.5)
        second = Term((await ask(b, harness, LEADER, "b", queue=False)).token)
        await store.join(NodeId("dead"), -1.0, "", {})
        with pytest.raises(NotLeader):
            await harness.stores[0].expire_lost(first)
        with pytest.raises(NotLeader):
            await harness.stores[0].delete_runs(1e12, term=first)
        assert [row.node for row in await store.nodes() if row.live] == ["a", "b"]
        assert await store.expire_lost(second) == ["dead"]
        await b.locks.release_lock(LEADER, "b")
        await store.join(NodeId("dead"), -1.0, "", {})
        with pytest.raises(NotLeader):
            await store.expire_lost(second)

    @lock_scenario
    async def test_terms_of_another_authority_only_rise(self, harness: LockHarness) -> None:
        """The store cannot ask etcd who leads; it remembers the highest term that it has seen."""
        assert isinstance(harness, StoreCluster)
        await harness.member("a")
        store = harness.stores[0]
        for number in (7, 7, 9):
            assert await store.expire_lost(Term(number, "etcd/1")) == []
        await store.join(NodeId("dead"), -1.0, "", {})
        with pytest.raises(NotLeader):
            await store.expire_lost(Term(8, "etcd/1"))
        assert await store.expire_lost(Term(3, "etcd/2")) == ["dead"]
        with pytest.raises(NotLeader):
            await store.delete_runs(1.0, term=Term(8, "etcd/1"))

    @lock_scenario
    async def test_leaving_and_joining_again_free_the_locks(self, harness: LockHarness) -> None:
        """Under another epoch it is another node."""
        assert isinstance(harness, StoreCluster)
        a = await harness.member("a")
        await ask(a, harness, "door", "a1")
        await harness.member("a")
        assert await harness.stores[0].locks() == []
        b = await harness.member("b")
        await ask(b, harness, "door", "b1")
        await ask(b, harness, "door", "b2")
        await harness.stores[2].leave(b.node, b.epoch)
        assert await harness.stores[0].locks() == []

    @lock_scenario
    async def test_words_left_for_a_node(self, harness: LockHarness) -> None:
        """A living one finds them until it joins anew; it may say something else about itself any time."""
        assert isinstance(harness, StoreCluster)
        a, _ = await harness.member("a"), await harness.member("b")
        store = harness.stores[1]
        assert await store.ask_node(NodeId("nobody"), "drain") is None
        assert await store.ask_node(a.node, "drain") == "bell of a"
        await harness.stores[0].describe_node(a.node, a.epoch, {"pid": 7})
        assert [(row.node, row.asked, row.info.get("pid")) for row in await store.nodes()] == [
            ("a", "drain", 7),
            ("b", "", None),
        ]
        await harness.member("a")
        assert [row.asked for row in await store.nodes()] == ["", ""]
        await harness.lose(await harness.member("c"))
        assert await store.ask_node(NodeId("c"), "drain") is None


@pytest.fixture
def cluster(harness: StoreHarness) -> Callable[[], StoreCluster]:
    return lambda: StoreCluster(harness)


class TestMemoryLocks(StoreLocks):
    @pytest.fixture
    def harness(self) -> MemoryHarness:
        return MemoryHarness()


class TestSqliteLocks(StoreLocks):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> SqliteHarness:
        return SqliteHarness(tmp_path)

    def test_a_dead_process_holds_nothing(self, harness: SqliteHarness) -> None:
        """Its lock file tells at once, whatever is left of its lease; so does its place in a line."""

        async def work() -> None:
            a, b, c = (harness.handle() for _ in range(3))
            for store in (a, b, c):
                await store.open()
            try:
                epochs = [
                    await store.join(NodeId(name), FOR_EVER, "", {}) for store, name in ((a, "a"), (b, "b"), (c, "c"))
                ]
                asked = [
                    LockClaim(name="door", holder=name, node=NodeId(name), epoch=epoch, ttl_seconds=1e6)
                    for name, epoch in zip("abc", epochs, strict=True)
                ]
                assert (await a.take_lock(asked[0])).token
                assert not (await b.take_lock(asked[1])).token
                assert not (await c.take_lock(asked[2])).token
                await a.close()  # without leaving: as the kernel does when the process dies
                await b.close()
                assert (await c.take_lock(asked[2])).token
            finally:
                await c.close()

        asyncio.run(work())


class TestPostgresLocks(StoreLocks):
    @pytest.fixture
    def harness(self, postgres: PostgresServer) -> PostgresHarness:
        return PostgresHarness(postgres)


class TestMysqlLocks(StoreLocks):
    @pytest.fixture
    def harness(self, mariadb: MariadbServer) -> MysqlHarness:
        return MysqlHarness(mariadb)
