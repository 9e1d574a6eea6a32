"""Who waits for whom: takeovers for flushes under way, renewals for nobody, parking for posts."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from postgres_rig import PostgresHarness
from postgres_server import PostgresServer

from headrace.contracts.ready import Offer
from headrace.core.errors import Fenced
from headrace.testing.store_conformance.stage import Stage, event, new_run, run_id, scenario, update

PROGRAM = Path(__file__).with_name("sqlite_process.py")
R1, R2, R3 = run_id(1), run_id(2), run_id(3)


@asynccontextmanager
async def holding(harness: PostgresHarness, run: str) -> AsyncIterator[None]:
    """Somebody has locked a run's row, as a post does for a moment."""
    db = await asyncpg.connect(harness.url.partition("?")[0])
    try:
        async with db.transaction():
            await db.execute(f"SELECT 1 FROM {harness.schema}.runs WHERE run_id = $1 FOR UPDATE", run)
            yield
    finally:
        await db.close()


class TestLocks:
    @pytest.fixture
    def harness(self, postgres: PostgresServer) -> PostgresHarness:
        return PostgresHarness(postgres)

    @scenario
    async def test_a_takeover_waits_for_a_flush_and_sees_what_it_wrote(self, stage: Stage) -> None:
        """The late node creates a run in that very flush: it must not stay with a node that is gone. Its renewal, meanwhile,
        waits for neither."""
        harness: PostgresHarness = stage._harness  # type: ignore[assignment]
        late, heir = await stage.node("a", lease_seconds=5), await stage.node("b")
        await late.start(new_run(1))
        async with holding(harness, R1):
            flush = asyncio.create_task(
                late.commit(
                    [event(R1, 2), event(R2, 1)],
                    new_runs=[new_run(2, owner=late.name, last_seq=1)],
                    updates=[update(R1, 2)],
                )
            )
            await harness.until_blocked("flush_more_1")
            assert await asyncio.to_thread(late.store.renew, late.name, late.epoch, 5.0)
            await stage.advance(6)
            takeover = asyncio.create_task(heir.store.expire_lost())
            await harness.until_blocked("expire_lost_2")
            assert not flush.done()
        await flush
        assert await takeover == ["a"]
        assert await heir.claim() == [R1, R2]
        with pytest.raises(Fenced):
            await late.go_on(R2, 2)

    @scenario
    async def test_a_flush_that_waits_for_a_takeover_is_fenced(self, stage: Stage) -> None:
        """The other way round: it had begun before the takeover was committed."""
        harness: PostgresHarness = stage._harness  # type: ignore[assignment]
        late, heir = await stage.node("a", lease_seconds=5), await stage.node("b")
        await late.start(new_run(1))
        await stage.advance(6)
        async with holding(harness, R1):
            takeover = asyncio.create_task(heir.store.expire_lost())
            await harness.until_blocked("expire_lost_2")  # it has the node and wants the run
            flush = asyncio.create_task(late.go_on(R1, 2))
            await harness.until_blocked("flush_1")
        assert await takeover == ["a"]
        with pytest.raises(Fenced):
            await flush
        assert [seq for seq, _ in await heir.store.history(R1)] == [1]

    @scenario
    async def test_a_post_and_a_parking_flush_do_not_miss_each_other(self, stage: Stage) -> None:
        """Whichever comes second sees the other: the run does not sleep on its message."""
        harness: PostgresHarness = stage._harness  # type: ignore[assignment]
        node, other = await stage.node("a"), await stage.store()
        for number in (1, 2):
            await node.start(new_run(number))
        wake_at = await node.store.now() + 1000
        async with holding(harness, R1):
            post = asyncio.create_task(other.post(R1, "signal", {}))
            await harness.until_blocked("post_1")
            park = asyncio.create_task(node.park(R1, wake_at=wake_at))
            await harness.until_blocked("flush_1")
        await asyncio.gather(post, park)
        async with holding(harness, R2):
            park = asyncio.create_task(node.park(R2, wake_at=wake_at))
            await harness.until_blocked("flush_1")
            post = asyncio.create_task(other.post(R2, "signal", {}))
            await harness.until_blocked("post_1")
        await asyncio.gather(post, park)
        assert await node.claim() == [R1, R2]

    @scenario
    async def test_a_claim_looks_beyond_what_others_are_taking(self, stage: Stage) -> None:
        """It waits for nobody and takes what it has room for, also if everything that it looks at first is somebody else's."""
        harness: PostgresHarness = stage._harness  # type: ignore[assignment]
        owner, worker = await stage.node("a"), await stage.node("b")
        await owner.start(new_run(1))
        offers = [Offer(key=f"{R1}/t{number}/1", queue="q", call=b"{}") for number in range(60)]
        await owner.store.offer(owner.name, owner.epoch, offers)
        db = await asyncpg.connect(harness.url.partition("?")[0])
        try:
            async with db.transaction():
                await db.execute(f"SELECT 1 FROM {harness.schema}.ready WHERE number <= 55 FOR UPDATE")
                claims = await worker.store.claim_attempts(worker.name, worker.epoch, ["q"], {}, {"": 1})
                assert [one.key for one in claims] == [offers[55].key]
        finally:
            await db.close()
        last = Offer(key=f"{R1}/last/1", queue="q", call=b"{}", priority=1)
        await owner.store.offer(owner.name, owner.epoch, [last])
        claims = await worker.store.claim_attempts(worker.name, worker.epoch, ["q", "q"], {}, {"": 3})
        assert [one.key for one in claims] == [last.key, offers[0].key, offers[1].key]

    @scenario
    async def test_what_was_taken_since_a_claim_looked_stays_taken(self, stage: Stage) -> None:
        """A claim looks without locks; here it waits in the middle of that, for a table that is slow to read."""
        harness: PostgresHarness = stage._harness  # type: ignore[assignment]
        owner, worker = await stage.node("a"), await stage.node("b")
        await owner.start(new_run(1))
        offers = [Offer(key=f"{R1}/t{number}/1", queue="q", call=b"{}") for number in range(2)]
        await owner.store.offer(owner.name, owner.epoch, offers)
        db = await asyncpg.connect(harness.url.partition("?")[0])
        try:
            await db.execute(f"SET search_path = {harness.schema}")
            await db.execute(
                "ALTER TABLE runs RENAME TO quick_runs; CREATE VIEW runs AS SELECT * FROM quick_runs"
                " WHERE pg_advisory_xact_lock_shared(1) IS NOT NULL"
            )
            async with db.transaction():
                await db.execute("SELECT pg_advisory_xact_lock(1)")
                task = asyncio.create_task(worker.store.claim_attempts(worker.name, worker.epoch, ["q"], {}, {"": 2}))
                await harness.until_blocked("claim_attempts_2")
                other = await asyncpg.connect(harness.url.partition("?")[0])
                await other.execute(f"UPDATE {harness.schema}.ready SET worker = 'c' WHERE number = 1")
                await other.close()
            assert [one.key for one in await task] == [offers[1].key]
        finally:
            await db.close()

    @scenario
    async def test_a_wrong_clock_of_a_node_changes_nothing(self, stage: Stage) -> None:
        """Ten minutes ahead or behind: leases and timers are the database's affair."""
        with pytest.MonkeyPatch.context() as patch:
            for name, minutes in (("ahead", 10), ("behind", -10)):
                real = time.time
                patch.setattr(time, "time", lambda real=real, minutes=minutes: real() + 60 * minutes)
                node = await stage.node(name, lease_seconds=30)
                assert await node.store.expire_lost() == []
                assert await asyncio.to_thread(node.store.renew, node.name, node.epoch, 30.0)
                row = next(row for row in await node.store.nodes() if row.node == name)
                assert row.live
                assert 0 < row.expires_at - real() < 31
                await node.start(new_run(minutes + 100))
                await node.park(run_id(minutes + 100), wake_at=await node.store.now() + 60)
                assert await node.claim() == []
                patch.setattr(time, "time", real)


def test_a_suspended_process_is_taken_over_and_fenced(postgres: PostgresServer) -> None:
    """Wherever it stood still: in the middle of a flush it holds nothing that others wait for."""
    harness = PostgresHarness(postgres)

    async def work() -> None:
        stage = Stage(harness)
        heir = await stage.node("heir", lease_seconds=3600.0)
        store = heir.store
        command = [sys.executable, str(PROGRAM), harness.url, "write", "victim", "60"]
        for _ in range(5):
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as victim:
                try:
                    assert victim.stdout is not None
                    while not victim.stdout.readline().startswith("acked"):
                        pass
                    victim.send_signal(signal.SIGSTOP)
                    await stage.advance(61)
                    assert await store.expire_lost() == ["victim"]  # it would fail after 5 s if something was locked
                    assert store.renew(heir.name, heir.epoch, 3600.0)
                    assert await heir.claim() == [R1]
                    last = len(await store.history(R1))
                    victim.send_signal(signal.SIGCONT)
                    assert await asyncio.to_thread(victim.wait, 30) != 0  # fenced, and that ended it
                    assert len(await store.history(R1)) == last
                finally:
                    victim.kill()
            row = await store.run(R1)
            assert row is not None
            assert row.owner == "heir"
            await asyncio.to_thread(harness.sql, "DELETE FROM {schema}.runs; DELETE FROM {schema}.events")
        await stage.close()

    asyncio.run(work())
