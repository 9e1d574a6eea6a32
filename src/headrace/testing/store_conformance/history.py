"""History: flushes are whole, fenced and idempotent; events come back as they were written."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from headrace.core.errors import Fenced, HistoryConflict, NotFound
from headrace.core.ids import Epoch, RunId, WorkflowVersion
from headrace.testing.store_conformance.stage import Stage, event, new_run, run_id, scenario, update, version

R1, R2 = run_id(1), run_id(2)


class HistoryConformance:
    """Scenarios of :class:`headrace.contracts.store.History`."""

    @scenario
    async def test_a_flush_is_read_back_by_every_handle(self, stage: Stage) -> None:
        """Bytes are kept exactly, whatever the characters in them."""
        node = await stage.node()
        events = [
            (R1, 1, '{"text":"äöü € 𝄞 \\u0000 \\" \'"}'.encode()),
            (R1, 2, b'{"n":1.50,"big":123456789012345678901}'),
        ]
        await node.commit(events, new_runs=[new_run(1, owner=node.name, last_seq=2)])
        other = await stage.store()
        assert await other.history(R1) == [(1, events[0][2]), (2, events[1][2])]

    @scenario
    async def test_history_is_ascending_and_can_be_read_in_parts(self, stage: Stage) -> None:
        """Order is by number, not by arrival; ``after`` and ``limit`` page through it; runs do not mix."""
        node = await stage.node()
        events = [event(run, seq) for seq in (3, 1, 2, 12, 10, 11) for run in (R1, R2)]
        await node.commit(events, new_runs=[new_run(1, owner=node.name), new_run(2, owner=node.name)])
        assert [seq for seq, _ in await node.store.history(R1)] == [1, 2, 3, 10, 11, 12]
        assert [seq for seq, _ in await node.store.history(R1, after=3, limit=2)] == [10, 11]
        assert [seq for seq, _ in await node.store.history(R1, after=11)] == [12]
        assert await node.store.history(R1, after=12) == []
        assert await node.store.history(R1, limit=0) == []

    @scenario
    async def test_an_unknown_run_has_no_history(self, stage: Stage) -> None:
        """It is empty, not an error."""
        assert await (await stage.store()).history(run_id(99)) == []

    @scenario
    async def test_the_projection_follows_the_events(self, stage: Stage) -> None:
        """Every changing column is written with the events, and None takes a value back."""
        node = await stage.node()
        await node.start(new_run(1))
        await node.go_on(R1, 2, state="failed", tasks_done=1, tasks_failed=2, ended_at=7.5, error="boom", wake_at=9.0)
        row = await node.store.run(R1)
        assert row is not None
        assert (row.state, row.last_seq, row.tasks_total, row.tasks_done, row.tasks_failed) == ("failed", 2, 3, 1, 2)
        assert (row.ended_at, row.error, row.wake_at, row.owner, row.live) == (7.5, "boom", 9.0, node.name, True)
        await node.go_on(R1, 3, state="running")
        row = await node.store.run(R1)
        assert row is not None
        assert (row.state, row.last_seq, row.ended_at, row.error, row.wake_at) == ("running", 3, None, None, None)

    @scenario
    async def test_a_run_created_and_finished_in_one_flush(self, stage: Stage) -> None:
        """New runs come before updates."""
        node = await stage.node()
        ended = update(R1, 2, state="succeeded", ended_at=5.0, release=True)
        await node.commit(
            [event(R1, 1), event(R1, 2)], new_runs=[new_run(1, owner=node.name, last_seq=1)], updates=[ended]
        )
        row = await node.store.run(R1)
        assert row is not None
        assert (row.state, row.ended_at, row.owner, row.last_seq) == ("succeeded", 5.0, None, 2)

    @scenario
    async def test_a_failing_flush_leaves_nothing(self, stage: Stage) -> None:
        """Whole or not at all: events, new runs, updates and inbox are one."""
        node = await stage.node()
        await node.start(new_run(1))
        message, _ = await node.store.post(R1, "signal", {})
        with pytest.raises(HistoryConflict):
            await node.commit(
                [event(R1, 2), event(R2, 1), event(R1, 1, "another")],
                new_runs=[new_run(2, owner=node.name, tags={"k": "v"})],
                updates=[update(R1, 2, state="paused")],
                inbox_done=[message],
            )
        assert [seq for seq, _ in await node.store.history(R1)] == [1]
        assert await node.store.history(R2) == []
        assert await node.store.run(R2) is None
        row = await node.store.run(R1)
        assert row is not None
        assert (row.state, row.last_seq) == ("running", 1)
        assert [mail.id for mail in await node.store.inbox(None, node.name)] == [message]

    @scenario
    async def test_a_flush_that_fails_late_leaves_nothing(self, stage: Stage) -> None:
        """The same when the last part is the one that does not fit."""
        node = await stage.node()
        with pytest.raises(NotFound):
            await node.commit([event(R1, 1)], new_runs=[new_run(1, owner=node.name)], updates=[update(run_id(9), 1)])
        assert await node.store.history(R1) == []
        assert await node.store.run(R1) is None

    @scenario
    async def test_repeating_a_flush_succeeds_and_changes_nothing(self, stage: Stage) -> None:
        """The caller did not learn that the first try went through."""
        node = await stage.node()
        flush = node.flush(
            [event(R1, 1), event(R1, 2)],
            new_runs=[new_run(1, owner=node.name, last_seq=1, tags={"k": "v"})],
            updates=[update(R1, 2)],
        )
        await node.store.commit(flush)
        before = (await node.store.run(R1), await node.store.history(R1))
        await node.store.commit(flush)
        assert (await node.store.run(R1), await node.store.history(R1)) == before

    @scenario
    async def test_repeating_a_flush_does_not_undo_a_newer_one(self, stage: Stage) -> None:
        """The projection never goes back."""
        node = await stage.node()
        await node.start(new_run(1))
        flush = node.flush([event(R1, 2)], updates=[update(R1, 2, state="paused")])
        await node.store.commit(flush)
        await node.go_on(R1, 3, state="running")
        await node.store.commit(flush)
        row = await node.store.run(R1)
        assert row is not None
        assert (row.state, row.last_seq) == ("running", 3)

    @scenario
    async def test_repeating_a_release_does_not_take_the_run_from_its_new_owner(self, stage: Stage) -> None:
        """Between the two tries somebody else has claimed the run."""
        a, b = await stage.node("a"), await stage.node("b")
        await a.start(new_run(1))
        flush = a.flush([event(R1, 2)], updates=[update(R1, 2, release=True)])
        await a.store.commit(flush)
        assert await b.claim() == [R1]
        await a.store.commit(flush)
        row = await b.store.run(R1)
        assert row is not None
        assert row.owner == "b"

    @scenario
    async def test_a_flush_that_repeats_a_part_adds_the_rest(self, stage: Stage) -> None:
        """A retry may carry what has come in since."""
        node = await stage.node()
        await node.start(new_run(1))
        await node.go_on(R1, 2)
        await node.commit([event(R1, 2), event(R1, 3)], updates=[update(R1, 3)])
        assert await node.store.history(R1, after=1) == [event(R1, 2)[1:], event(R1, 3)[1:]]
        row = await node.store.run(R1)
        assert row is not None
        assert row.last_seq == 3

    @scenario
    async def test_another_event_of_the_same_number_is_a_conflict(self, stage: Stage) -> None:
        """The first writer stays right."""
        node = await stage.node()
        await node.start(new_run(1))
        with pytest.raises(HistoryConflict) as caught:
            await node.commit([event(R1, 1, "another")])
        assert R1 in str(caught.value)
        assert await node.store.history(R1) == [event(R1, 1)[1:]]

    @scenario
    async def test_a_node_that_never_joined_or_has_left_cannot_write(self, stage: Stage) -> None:
        """Nor one with the epoch of another."""
        a, b = await stage.node("a"), await stage.node("b")
        flush = a.flush([event(R1, 1)], new_runs=[new_run(1, owner=a.name)])
        flush.epoch = Epoch(b.epoch + 100)
        with pytest.raises(Fenced):
            await a.store.commit(flush)
        await a.store.leave(a.name, a.epoch)
        flush.epoch = a.epoch
        with pytest.raises(Fenced):
            await a.store.commit(flush)
        assert await b.store.history(R1) == []

    @scenario
    async def test_a_zombie_loses_even_when_it_repeats_a_committed_flush(self, stage: Stage) -> None:
        """After a takeover nothing of the old epoch is accepted, neither new nor repeated."""
        zombie, heir = await stage.node("a", lease_seconds=5), await stage.node("b")
        await zombie.start(new_run(1))
        old = zombie.flush([event(R1, 2)], updates=[update(R1, 2)])
        await zombie.store.commit(old)
        await stage.advance(6)
        assert await heir.store.expire_lost() == ["a"]
        assert await heir.claim() == [R1]
        for flush in (old, zombie.flush([event(R1, 3, "late")], updates=[update(R1, 3)]), zombie.flush()):
            with pytest.raises(Fenced):
                await zombie.store.commit(flush)
        await heir.go_on(R1, 3)
        assert [seq for seq, _ in await heir.store.history(R1)] == [1, 2, 3]

    @scenario
    async def test_a_late_node_that_nobody_replaced_may_still_write(self, stage: Stage) -> None:
        """What counts is whether the lease was taken, not whether it is late."""
        node = await stage.node(lease_seconds=5)
        await stage.advance(6)
        await node.start(new_run(1))
        assert len(await node.store.history(R1)) == 1

    @scenario
    async def test_a_run_of_another_node_cannot_be_updated(self, stage: Stage) -> None:
        """A valid epoch is a right to one's own runs only."""
        a, b = await stage.node("a"), await stage.node("b")
        await a.start(new_run(1))
        with pytest.raises(Fenced):
            await b.go_on(R1, 2)
        await a.park(R1)
        with pytest.raises(Fenced):
            await b.go_on(R1, 3)
        assert [seq for seq, _ in await a.store.history(R1)] == [1, 2]

    @scenario
    async def test_flushes_at_the_same_time_are_all_kept(self, stage: Stage) -> None:
        """Concurrent commits of several nodes and runs do not disturb each other."""
        nodes = [await stage.node(name) for name in ("a", "b", "c")]
        for number, node in enumerate(nodes):
            await node.start(new_run(number))

        async def write(number: int) -> None:
            for seq in range(2, 22):
                await nodes[number].go_on(run_id(number), seq)

        async with asyncio.TaskGroup() as group:
            for number in range(len(nodes)):
                group.create_task(write(number))
        for number, node in enumerate(nodes):
            assert [seq for seq, _ in await node.store.history(run_id(number))] == list(range(1, 22))

    @scenario
    async def test_a_cancelled_commit_leaves_the_store_usable(self, stage: Stage) -> None:
        """It may or may not have taken effect, whole; repeating it settles that."""
        node = await stage.node()
        await node.start(new_run(1))
        flush = node.flush([event(R1, seq) for seq in range(2, 200)], updates=[update(R1, 199)])
        task = asyncio.create_task(node.store.commit(flush))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert len(await node.store.history(R1)) in (1, 199)
        await node.store.commit(flush)
        assert len(await node.store.history(R1)) == 199

    @scenario
    async def test_committing_now_is_whole_or_not_at_all(self, stage: Stage) -> None:
        """True: it is durable; False: nothing was done, whoever is asked."""
        node, other = await stage.node(), await stage.store()
        await node.start(new_run(1))
        for seq in range(2, 60):
            flush = node.flush([event(R1, seq)], updates=[update(R1, seq)])
            committed = node.store.commit_now(flush)
            row = await other.run(R1)
            assert row is not None
            assert row.last_seq == (seq if committed else seq - 1)
            if not committed:
                await node.store.commit(flush)
        assert [seq for seq, _ in await other.history(R1)] == list(range(1, 60))

    @scenario
    async def test_committing_now_refuses_like_commit(self, stage: Stage) -> None:
        """A conflict or a lost lease raises, or False leaves that to commit; nothing is written either way."""
        zombie, heir = await stage.node("a", lease_seconds=5), await stage.node("b")
        await zombie.start(new_run(1))
        for seq in range(2, 30):
            await zombie.go_on(R1, seq)
        with contextlib.suppress(HistoryConflict):
            assert not zombie.store.commit_now(zombie.flush([event(R1, 30), event(R1, 2, "another")]))
        await stage.advance(6)
        await heir.store.expire_lost()
        with contextlib.suppress(Fenced):
            assert not zombie.store.commit_now(zombie.flush([event(R1, 30)], updates=[update(R1, 30)]))
        assert len(await heir.store.history(R1)) == 29

    @scenario
    async def test_large_flushes_and_values(self, stage: Stage) -> None:
        """Thousands of events at once, and an event of a megabyte."""
        node = await stage.node()
        await node.start(new_run(1))
        big = (R1, 5002, b'"' + b"x" * 1_000_000 + b'"')
        await node.commit([*(event(R1, seq) for seq in range(2, 5002)), big], updates=[update(R1, 5002)])
        assert len(await node.store.history(R1)) == 5002
        assert await node.store.history(R1, after=5001) == [big[1:]]

    @scenario
    async def test_workflow_versions(self, stage: Stage) -> None:
        """Found by hash and by name; the version put last is the one of that name, whatever the clocks say."""
        store = await stage.store()
        one, two = version("nightly", 1, 50.0, "a.yaml"), version("nightly", 2, 40.0)
        assert await store.workflow_named("nightly") is None
        assert await store.workflow(one.version) is None
        await store.put_workflow(one)
        await store.put_workflow(two)
        await store.put_workflow(version("hourly", 1, 1.0))
        assert await store.workflow(one.version) == one
        assert await store.workflow_named("nightly") == two
        assert await store.workflow(WorkflowVersion("nightly-3")) is None
        assert await store.workflow_named("night%") is None

    @scenario
    async def test_putting_a_version_again(self, stage: Stage) -> None:
        """Makes it the latest of its name, with the new source and time; its data stays."""
        store = await stage.store()
        await store.put_workflow(version("nightly", 1, 1.0, "old.yaml"))
        await store.put_workflow(version("nightly", 2, 2.0))
        again = version("nightly", 1, 3.0, "new.yaml")
        await store.put_workflow(again)
        assert await store.workflow_named("nightly") == again
        assert await (await stage.store()).workflows() == [again]

    @scenario
    async def test_rows_are_values(self, stage: Stage) -> None:
        """What a caller does to a row it gave or got changes nothing in the store."""
        node = await stage.node()
        row = new_run(1, params={"list": [1]}, tags={"k": "v"}, owner=node.name)
        await node.commit([event(R1, 1)], new_runs=[row])
        row.params["list"].append(2)
        got = await node.store.run(RunId(R1))
        assert got is not None
        got.params["list"].append(3)
        again = await node.store.run(R1)
        assert again is not None
        assert again.params == {"list": [1]}
