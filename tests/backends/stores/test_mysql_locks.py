"""Who waits for whom: takeovers for flushes under way, renewals for nobody, parking for posts."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from mariadb_server import MariadbServer
from mysql_rig import MysqlHarness

from headrace.backends.stores import mysql_connections
from headrace.backends.stores.mysql_connections import connect
from headrace.backends.stores.mysql_text import placed
from headrace.backends.stores.mysql_url import place_of_url
from headrace.contracts.ready import Offer, Result
from headrace.core.errors import Fenced
from headrace.testing.store_conformance.stage import Stage, event, new_run, run_id, scenario, update

PROGRAM = Path(__file__).with_name("sqlite_process.py")
R1, R2, R3 = run_id(1), run_id(2), run_id(3)


@asynccontextmanager
async def changing(harness: MysqlHarness, text: str, *values: str | float) -> AsyncIterator[None]:
    """Somebody's transaction has done this and is about to commit."""
    db = await connect(place_of_url(harness.url))
    try:
        await db.run(b"START TRANSACTION")
        await db.run(placed(text, values))
        yield
    finally:
        await db.run(b"COMMIT")
        await db.close()


@asynccontextmanager
async def holding(harness: MysqlHarness, run: str) -> AsyncIterator[None]:
    """Somebody has locked a run's row, as a post does for a moment."""
    async with changing(harness, "SELECT 1 FROM runs WHERE run_id = ? FOR UPDATE", run):
        yield


class TestLocks:
    @pytest.fixture(autouse=True)
    def patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A slow machine must not make these waits end by themselves."""
        monkeypatch.setattr(mysql_connections, "LOCK_SECONDS", 100)

    @pytest.fixture
    def harness(self, mariadb: MariadbServer) -> MysqlHarness:
        return MysqlHarness(mariadb)

    @scenario
    async def test_a_takeover_waits_for_a_flush_and_sees_what_it_wrote(self, stage: Stage) -> None:
        """The late node creates a run in that very flush: it must not stay with a node that is gone. Its renewal, meanwhile,
        waits for neither."""
        harness: MysqlHarness = stage._harness  # type: ignore[assignment]
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
            await harness.until_blocked("runs.state = given.s")
            assert await asyncio.to_thread(late.store.renew, late.name, late.epoch, 5.0)
            await stage.advance(6)
            takeover = asyncio.create_task(heir.store.expire_lost())
            await harness.until_blocked("UPDATE nodes SET epoch")
            assert not flush.done()
        await flush
        assert await takeover == ["a"]
        assert await heir.claim() == [R1, R2]
        with pytest.raises(Fenced):
            await late.go_on(R2, 2)

    @scenario
    async def test_a_flush_that_waits_for_a_takeover_is_fenced(self, stage: Stage) -> None:
        """The other way round: it had begun before the takeover was committed."""
        harness: MysqlHarness = stage._harness  # type: ignore[assignment]
        late, heir = await stage.node("a", lease_seconds=5), await stage.node("b")
        await late.start(new_run(1))
        await stage.advance(6)
        async with holding(harness, R1):
            takeover = asyncio.create_task(heir.store.expire_lost())
            await harness.until_blocked("runs SET owner = NULL")  # it has the node and wants the run
            flush = asyncio.create_task(late.go_on(R1, 2))
            await harness.until_blocked("FROM nodes WHERE node")
        assert await takeover == ["a"]
        with pytest.raises(Fenced):
            await flush
        assert [seq for seq, _ in await heir.store.history(R1)] == [1]

    @scenario
    async def test_a_post_and_a_parking_flush_do_not_miss_each_other(self, stage: Stage) -> None:
        """Whichever comes second sees the other: the run does not sleep on its message."""
        harness: MysqlHarness = stage._harness  # type: ignore[assignment]
        node, other = await stage.node("a"), await stage.store()
        for number in (1, 2):
            await node.start(new_run(number))
        wake_at = await node.store.now() + 1000
        async with holding(harness, R1):
            post = asyncio.create_task(other.post(R1, "signal", {}))
            await harness.until_blocked("FROM runs WHERE run_id")
            park = asyncio.create_task(node.park(R1, wake_at=wake_at))
            await harness.until_blocked("runs.state = given.s")
        await asyncio.gather(post, park)
        async with holding(harness, R2):
            park = asyncio.create_task(node.park(R2, wake_at=wake_at))
            await harness.until_blocked("runs.state = given.s")
            post = asyncio.create_task(other.post(R2, "signal", {}))
            await harness.until_blocked("FROM runs WHERE run_id")
        await asyncio.gather(post, park)
        assert await node.claim() == [R1, R2]

    @scenario
    async def test_an_outcome_waits_for_whoever_changes_its_run_or_its_offer(self, stage: Stage) -> None:
        """It then goes by what they have done: a run that was parked is woken, a claim that was given back is refused."""
        harness: MysqlHarness = stage._harness  # type: ignore[assignment]
        owner, worker = await stage.node("a"), await stage.node("b")
        for number in (1, 2):
            await owner.start(new_run(number))
        offers = [Offer(key=f"{run}/t/1", queue="q", call=b"{}") for run in (R1, R2)]
        await owner.store.offer(owner.name, owner.epoch, offers)
        claims = await worker.store.claim_attempts(worker.name, worker.epoch, ["q"], {}, {"": 2})
        first, second = ([Result(one.key, one.delivery, {})] for one in claims)

        async with changing(harness, "UPDATE runs SET owner = NULL, wake_at = 4e9 WHERE run_id = ?", R1):
            task = asyncio.create_task(worker.store.complete(worker.name, worker.epoch, first))
            await harness.until_blocked("COUNT(runs.wake_at)")
        assert await task == [""]
        assert await owner.claim() == [R1]

        async with changing(harness, "UPDATE ready SET worker = NULL WHERE `key` = ?", offers[1].key):
            task = asyncio.create_task(worker.store.complete(worker.name, worker.epoch, second))
            await harness.until_blocked("COUNT(ready.delivery)")
        assert await task == [None]
        assert [message.run_id for message in await owner.store.inbox([R1, R2], owner.name)] == [R1]

    @scenario
    async def test_a_claim_looks_beyond_what_others_are_taking(self, stage: Stage) -> None:
        """It waits for nobody and takes what it has room for, also if everything that it looks at first is somebody else's."""
        harness: MysqlHarness = stage._harness  # type: ignore[assignment]
        owner, worker = await stage.node("a"), await stage.node("b")
        await owner.start(new_run(1))
        offers = [Offer(key=f"{R1}/t{number}/1", queue="q", call=b"{}") for number in range(9)]
        await owner.store.offer(owner.name, owner.epoch, offers)
        places = "SELECT 1 FROM ready WHERE number IN (1, 2, 4) FOR UPDATE"
        async with changing(harness, places):
            claims = await worker.store.claim_attempts(worker.name, worker.epoch, ["q"], {}, {"": 2})
            assert [one.key for one in claims] == [offers[2].key, offers[4].key]
            claims = await worker.store.claim_attempts(worker.name, worker.epoch, ["q"], {}, {"": 9})
            assert [one.key for one in claims] == [one.key for one in offers[5:]]
        claims = await worker.store.claim_attempts(worker.name, worker.epoch, ["q"], {}, {"": 9})
        assert [one.key for one in claims] == [offers[place].key for place in (0, 1, 3)]

    @scenario
    async def test_what_was_taken_since_a_claim_looked_stays_taken(self, stage: Stage) -> None:
        """A claim looks without locks; here it saw everything before the others came."""
        harness: MysqlHarness = stage._harness  # type: ignore[assignment]
        owner, first, second = [await stage.node(name) for name in ("a", "b", "c")]
        await owner.start(new_run(1))
        offers = [Offer(key=f"{R1}/t{number}/1", queue="q", call=b"{}") for number in range(4)]
        await owner.store.offer(owner.name, owner.epoch, offers)
        assert len(await first.store.claim_attempts(first.name, first.epoch, ["q"], {}, {"": 2})) == 2
        await owner.store.withdraw(owner.name, owner.epoch, [offers[2].key])
        looked = (
            "DROP PROCEDURE waiting_1; CREATE PROCEDURE waiting_1(IN p_queues LONGTEXT, IN p_executor VARBINARY(255),"
            " IN p_labels LONGTEXT, IN p_now DOUBLE, IN p_most INT, OUT p_found LONGTEXT, OUT p_more INT)"
            " SELECT '[1,2,3,4]', 0 INTO p_found, p_more"
        )
        await asyncio.to_thread(harness.sql, looked)
        claims = await second.store.claim_attempts(second.name, second.epoch, ["q"], {}, {"": 9})
        assert [(one.key, one.delivery) for one in claims] == [(offers[3].key, 1)]
        assert len(await first.store.held(first.name, first.epoch)) == 2

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


def test_a_suspended_process_is_taken_over_and_fenced(mariadb: MariadbServer) -> None:
    """Wherever it stood still: in the middle of a flush it holds nothing that others wait for."""
    harness = MysqlHarness(mariadb)

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
            await asyncio.to_thread(harness.sql, "DELETE FROM runs; DELETE FROM events")
        await stage.close()

    asyncio.run(work())
