"""Inbox: messages are kept in order until a commit folds them in, and reach whoever owns the run."""

from __future__ import annotations

import asyncio

import pytest

from headrace.core.errors import Fenced, NotFound
from headrace.core.ids import NodeId
from headrace.testing.store_conformance.stage import Stage, event, new_run, run_id, scenario, update

R1, R2, R3 = run_id(1), run_id(2), run_id(3)


class InboxConformance:
    """Scenarios of :class:`headrace.contracts.store.Inbox`."""

    @scenario
    async def test_messages_come_in_the_order_of_acknowledgement(self, stage: Stage) -> None:
        """Across handles; ids rise; content is kept; ``limit`` cuts at the end."""
        node = await stage.node()
        await node.start(new_run(1), new_run(2))
        other = await stage.store()
        payloads = [{"n": 1, "text": "€"}, {"nested": {"list": [1, 2.5, None, True]}}, {}]
        ids = [
            (await node.store.post(R1, "signal", payloads[0]))[0],
            (await other.post(R2, "cancel", payloads[1]))[0],
            (await node.store.post(R1, "outcome", payloads[2]))[0],
        ]
        assert ids == sorted(set(ids))
        rows = await other.inbox(None, node.name)
        assert [row.id for row in rows] == ids
        assert [row.payload for row in rows] == payloads
        assert [(row.run_id, row.kind) for row in rows] == [(R1, "signal"), (R2, "cancel"), (R1, "outcome")]
        assert [row.id for row in await other.inbox(None, node.name, limit=2)] == ids[:2]

    @scenario
    async def test_each_node_sees_the_messages_of_its_runs(self, stage: Stage) -> None:
        """Unless runs are named, whoever owns them."""
        a, b = await stage.node("a"), await stage.node("b")
        await a.start(new_run(1))
        await b.start(new_run(2), new_run(3))
        await b.store.release(b.name, b.epoch, [R3])
        for run in (R1, R2, R3):
            await a.store.post(run, "signal", {})
        assert [row.run_id for row in await a.store.inbox(None, a.name)] == [R1]
        assert [row.run_id for row in await a.store.inbox(None, b.name)] == [R2]
        assert [row.run_id for row in await a.store.inbox([R3, R1], a.name)] == [R1, R3]
        assert await a.store.inbox([], a.name) == []
        assert await a.store.inbox(None, NodeId("nobody")) == []

    @scenario
    async def test_posting_tells_the_bell_of_a_live_owner(self, stage: Stage) -> None:
        """Nothing to ring for unowned runs, nor when the owner's lease has ended."""
        node = await stage.node(lease_seconds=5, bell="http://127.0.0.1:1/bell")
        await node.start(new_run(1), new_run(2))
        await node.park(R2)
        assert (await node.store.post(R1, "signal", {}))[1] == "http://127.0.0.1:1/bell"
        assert (await node.store.post(R2, "signal", {}))[1] == ""
        await stage.advance(6)
        assert (await node.store.post(R1, "signal", {}))[1] == ""

    @scenario
    async def test_posting_to_an_unknown_run(self, stage: Stage) -> None:
        """Is an error and stores nothing."""
        store = await stage.store()
        with pytest.raises(NotFound) as caught:
            await store.post(run_id(99), "signal", {})
        assert run_id(99) in str(caught.value)
        assert await store.inbox([run_id(99)], NodeId("a")) == []

    @scenario
    async def test_a_message_goes_with_the_commit_that_folds_it_in(self, stage: Stage) -> None:
        """Only that one, and its id never comes again: a repeated flush deletes nothing newer."""
        node = await stage.node()
        await node.start(new_run(1))
        first, _ = await node.store.post(R1, "signal", {"n": 1})
        second, _ = await node.store.post(R1, "signal", {"n": 2})
        flush = node.flush([event(R1, 2)], updates=[update(R1, 2)], inbox_done=[first, second])
        await node.store.commit(flush)
        assert await node.store.inbox(None, node.name) == []
        third, _ = await node.store.post(R1, "signal", {"n": 3})
        assert third > second
        await node.store.commit(flush)
        assert [row.id for row in await node.store.inbox(None, node.name)] == [third]

    @scenario
    async def test_a_message_outlives_the_node_it_was_sent_to(self, stage: Stage) -> None:
        """The zombie's commit, which would have folded it in, fails; the heir finds it."""
        zombie, heir = await stage.node("a", lease_seconds=5), await stage.node("b")
        await zombie.start(new_run(1))
        message, _ = await heir.store.post(R1, "signal", {"n": 1})
        await stage.advance(6)
        await heir.store.expire_lost()
        with pytest.raises(Fenced):
            await zombie.go_on(R1, 2, inbox_done=[message])
        await heir.claim()
        assert [row.id for row in await heir.store.inbox(None, heir.name)] == [message]

    @scenario
    async def test_posting_wakes_a_parked_run(self, stage: Stage) -> None:
        """Its timer is cleared, so that it can be claimed at once."""
        node = await stage.node()
        await node.start(new_run(1))
        await node.park(R1, wake_at=await node.store.now() + 1000)
        assert await node.claim() == []
        await node.store.post(R1, "signal", {})
        row = await node.store.run(R1)
        assert row is not None
        assert row.wake_at is None
        assert await node.claim() == [R1]

    @scenario
    async def test_a_message_that_crosses_with_parking_wakes_the_run(self, stage: Stage) -> None:
        """It was acknowledged while the owner was about to park: it must not wait for the timer. One folded in by the
        parking commit does not keep the run awake."""
        node = await stage.node()
        await node.start(new_run(1), new_run(2))
        wake_at = await node.store.now() + 1000
        await node.store.post(R1, "signal", {})
        await node.park(R1, wake_at=wake_at)
        folded, _ = await node.store.post(R2, "signal", {})
        await node.go_on(R2, 2, inbox_done=[folded], wake_at=wake_at, release=True)
        assert await node.claim() == [R1]

    @scenario
    async def test_waiting_runs_are_unowned_ones_with_messages(self, stage: Stage) -> None:
        """Finished ones included, each once, the longest waiting first."""
        node = await stage.node()
        await node.start(new_run(1), new_run(2), new_run(3))
        await node.finish(R2)
        for run in (R3, R2, R1, R3):
            await node.store.post(run, "retry", {})
        assert await node.store.waiting_runs() == [R2]
        await node.store.release(node.name, node.epoch, [R1, R3])
        assert await node.store.waiting_runs() == [R3, R2, R1]
        assert await node.store.waiting_runs(limit=2) == [R3, R2]
        assert await node.claim(10, [R2]) == [R2]
        assert await node.store.waiting_runs() == [R3, R1]

    @scenario
    async def test_posts_at_the_same_time_all_arrive(self, stage: Stage) -> None:
        """In the order in which each sender was answered."""
        node = await stage.node()
        await node.start(new_run(1))
        stores = [await stage.store() for _ in range(3)]
        answered: dict[int, list[int]] = {0: [], 1: [], 2: []}

        async def send(sender: int) -> None:
            for n in range(20):
                answered[sender].append((await stores[sender].post(R1, "signal", {"sender": sender, "n": n}))[0])

        async with asyncio.TaskGroup() as group:
            for sender in answered:
                group.create_task(send(sender))
        rows = await node.store.inbox(None, node.name)
        assert len(rows) == 60
        for sender, ids in answered.items():
            mine = [row for row in rows if row.payload["sender"] == sender]
            assert [row.id for row in mine] == ids
            assert [row.payload["n"] for row in mine] == list(range(20))
