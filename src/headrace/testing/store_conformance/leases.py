"""Leases: one holder at a time, and every run goes to one claimer."""

from __future__ import annotations

import asyncio

import pytest

from headrace.core.errors import Fenced
from headrace.core.ids import Epoch, NodeId
from headrace.testing.store_conformance.stage import Stage, new_run, run_id, scenario

R1, R2, R3 = run_id(1), run_id(2), run_id(3)

CLAIMERS, CONTESTED_RUNS = 16, 5000


class LeasesConformance:
    """Scenarios of :class:`headrace.contracts.store.Leases`."""

    @scenario
    async def test_a_node_is_listed_with_what_it_told(self, stage: Stage) -> None:
        """Name, bell and info, live while its lease runs."""
        store = await stage.store()
        epoch = await store.join(NodeId("a"), 10.0, "http://bell", {"pid": 7, "queues": ["default"]})
        await stage.node("b", store=store)
        rows = await store.nodes()
        assert [row.node for row in rows] == ["a", "b"]
        assert (rows[0].epoch, rows[0].live, rows[0].bell) == (epoch, True, "http://bell")
        assert rows[0].info == {"pid": 7, "queues": ["default"]}
        assert 0 < rows[0].expires_at - await store.now() <= 10.0
        await stage.advance(11)
        assert [row.live for row in await store.nodes()] == [False, True]

    @scenario
    async def test_joining_again_fences_the_former_holder(self, stage: Stage) -> None:
        """The epoch rises and the runs become unowned, though the former lease had not ended."""
        old = await stage.node("a")
        await old.start(new_run(1))
        new = await stage.node("a")
        assert new.epoch > old.epoch
        assert not old.store.renew(old.name, old.epoch, 60.0)
        with pytest.raises(Fenced):
            await old.go_on(R1, 2)
        row = await new.store.run(R1)
        assert row is not None
        assert row.owner is None
        assert await new.claim() == [R1]
        assert len(await new.store.nodes()) == 1

    @scenario
    async def test_renewing_keeps_a_lease(self, stage: Stage) -> None:
        """It counts from the moment of renewal, and works from another thread."""
        a, b = await stage.node("a", lease_seconds=5), await stage.node("b")
        await stage.advance(4)
        assert await asyncio.to_thread(a.store.renew, a.name, a.epoch, 5.0)
        await stage.advance(4)
        assert await b.store.expire_lost() == []
        await stage.advance(2)
        assert await b.store.expire_lost() == ["a"]
        assert not await asyncio.to_thread(a.store.renew, a.name, a.epoch, 5.0)

    @scenario
    async def test_a_late_lease_that_nobody_took_can_be_renewed(self, stage: Stage) -> None:
        """Only a takeover ends the right."""
        node = await stage.node(lease_seconds=5)
        await stage.advance(6)
        assert node.store.renew(node.name, node.epoch, 5.0)
        assert await node.store.expire_lost() == []
        assert [row.live for row in await node.store.nodes()] == [True]

    @scenario
    async def test_renewing_with_a_wrong_epoch_or_name_fails(self, stage: Stage) -> None:
        """And changes nothing."""
        node = await stage.node(lease_seconds=5)
        assert not node.store.renew(node.name, Epoch(node.epoch + 1), 1000.0)
        assert not node.store.renew(NodeId("nobody"), node.epoch, 1000.0)
        await stage.advance(6)
        assert await node.store.expire_lost() == ["a"]

    @scenario
    async def test_lost_nodes_lose_their_runs_once(self, stage: Stage) -> None:
        """Each loss is reported to one caller; runs of living nodes stay."""
        a, b = await stage.node("a", lease_seconds=5), await stage.node("b", lease_seconds=50)
        await a.start(new_run(1), new_run(2))
        await b.start(new_run(3))
        assert await b.store.expire_lost() == []
        await stage.advance(6)
        both = await asyncio.gather(b.store.expire_lost(), (await stage.store()).expire_lost())
        assert sorted(map(len, both)) == [0, 1]
        assert await b.store.expire_lost() == []
        rows = {str(row.node): row for row in await b.store.nodes()}
        assert "a" not in rows or (rows["a"].epoch > a.epoch and not rows["a"].live)
        assert await b.claim() == [R1, R2]

    @scenario
    async def test_a_lost_node_may_come_back_under_a_new_epoch(self, stage: Stage) -> None:
        """Its old epoch stays worthless."""
        old = await stage.node("a", lease_seconds=5)
        await stage.advance(6)
        await old.store.expire_lost()
        new = await stage.node("a", store=old.store)
        assert new.epoch > old.epoch
        await new.start(new_run(1))
        with pytest.raises(Fenced):
            await old.claim()

    @scenario
    async def test_leaving_gives_everything_up(self, stage: Stage) -> None:
        """Idempotent; a node that comes back never gets an old epoch; leaving with an old one does no harm."""
        a, b = await stage.node("a"), await stage.node("b")
        await a.start(new_run(1))
        await a.store.leave(a.name, a.epoch)
        await a.store.leave(a.name, a.epoch)
        assert [row.node for row in await b.store.nodes() if row.live] == ["b"]
        assert not a.store.renew(a.name, a.epoch, 60.0)
        assert await b.store.expire_lost() == []
        assert await b.claim() == [R1]
        back = await stage.node("a", store=a.store)
        assert back.epoch > a.epoch
        await back.start(new_run(2))
        await back.store.leave(a.name, a.epoch)
        await back.go_on(R2, 2)

    @scenario
    async def test_nodes_that_left_do_not_pile_up(self, stage: Stage) -> None:
        """A process that starts a node for every run leaves no row behind."""
        store = await stage.store()
        for number in range(20):
            node = await stage.node(f"node-{number}", store=store)
            await store.leave(node.name, node.epoch)
        assert await store.nodes() == []

    @scenario
    async def test_claiming_takes_unowned_unfinished_runs(self, stage: Stage) -> None:
        """Not those of others, not finished ones; at most ``limit``; oldest first."""
        a, b = await stage.node("a"), await stage.node("b")
        await a.start(*(new_run(number) for number in range(1, 7)))
        await a.finish(R1)
        await a.store.release(a.name, a.epoch, [R2, R3, run_id(4), run_id(5)])
        assert await b.claim(0) == []
        assert await b.claim(3) == [R2, R3, run_id(4)]
        assert await b.claim(3) == [run_id(5)]
        assert await b.claim(3) == []
        row = await b.store.run(R2)
        assert row is not None
        assert (row.owner, row.live) == ("b", True)

    @scenario
    async def test_runs_created_without_an_owner_can_be_claimed(self, stage: Stage) -> None:
        """As a process does that only serves the API."""
        a, b = await stage.node("a"), await stage.node("b")
        await a.commit(new_runs=[new_run(1)])
        assert await b.claim() == [R1]

    @scenario
    async def test_wake_at_holds_a_run_back_until_its_time(self, stage: Stage) -> None:
        """Judged by the database's clock."""
        node = await stage.node()
        now = await node.store.now()
        await node.start(new_run(1), new_run(2), new_run(3))
        await node.park(R1, wake_at=now + 20)
        await node.park(R2, wake_at=now + 5)
        await node.park(R3, wake_at=None)
        assert await node.claim() == [R3]
        await stage.advance(6)
        assert await node.claim() == [R2]
        assert await node.claim() == []
        await stage.advance(15)
        assert await node.claim() == [R1]

    @scenario
    async def test_claiming_named_runs(self, stage: Stage) -> None:
        """Exactly those, finished and sleeping ones included, owned and unknown ones left out."""
        a, b = await stage.node("a"), await stage.node("b")
        await a.start(*(new_run(number) for number in range(1, 5)))
        await a.finish(R1)
        await a.park(R2, wake_at=await a.store.now() + 1000)
        await a.store.release(a.name, a.epoch, [run_id(4)])
        assert sorted(await b.claim(10, [R1, R2, R3, run_id(77), R1])) == [R1, R2]
        assert await b.claim(10, []) == []
        await b.go_on(R1, 3, state="running")
        row = await b.store.run(R1)
        assert row is not None
        assert (row.state, row.ended_at, row.owner) == ("running", None, "b")

    @scenario
    async def test_claiming_and_releasing_need_the_lease(self, stage: Stage) -> None:
        """A fenced node takes nothing and gives nothing away."""
        zombie, heir = await stage.node("a", lease_seconds=5), await stage.node("b")
        await heir.start(new_run(1), new_run(2))
        await heir.store.release(heir.name, heir.epoch, [R2])
        await stage.advance(6)
        await heir.store.expire_lost()
        with pytest.raises(Fenced):
            await zombie.claim()
        with pytest.raises(Fenced):
            await zombie.claim(1, [R2])
        with pytest.raises(Fenced):
            await zombie.store.release(zombie.name, zombie.epoch, [R1])
        assert await heir.claim() == [R2]

    @scenario
    async def test_releasing_leaves_the_runs_of_others_alone(self, stage: Stage) -> None:
        """And may be repeated."""
        a, b = await stage.node("a"), await stage.node("b")
        await a.start(new_run(1))
        await b.start(new_run(2))
        for _ in range(2):
            await a.store.release(a.name, a.epoch, [R1, R2, run_id(99)])
        assert await a.claim() == [R1]

    @scenario
    async def test_each_run_goes_to_one_claimer(self, stage: Stage) -> None:
        """Many nodes claim from the same heap until it is empty, each over connections of its own."""
        maker = await stage.node("maker")
        await maker.start(*(new_run(number) for number in range(CONTESTED_RUNS)))
        await maker.store.leave(maker.name, maker.epoch)
        nodes = [await stage.node(f"n{number}", lease_seconds=600.0) for number in range(CLAIMERS)]
        taken: list[list[str]] = [[] for _ in nodes]

        async def take(number: int) -> None:
            while found := await nodes[number].claim(25):
                assert len(found) <= 25
                taken[number] += found

        async with asyncio.TaskGroup() as group:
            for number in range(CLAIMERS):
                group.create_task(take(number))
        everything = [run for runs in taken for run in runs]
        assert len(everything) == CONTESTED_RUNS
        assert set(everything) == {run_id(number) for number in range(CONTESTED_RUNS)}

    @scenario
    async def test_live_says_whether_the_owner_is_alive(self, stage: Stage) -> None:
        """False for unowned runs and for owners whose lease has ended, before anybody took it."""
        node = await stage.node(lease_seconds=5)
        await node.start(new_run(1), new_run(2))
        await node.store.release(node.name, node.epoch, [R2])

        async def seen() -> list[bool]:
            rows = [await node.store.run(R1), await node.store.run(R2)]
            return [row.live for row in rows if row is not None]

        assert await seen() == [True, False]
        await stage.advance(6)
        assert await seen() == [False, False]
