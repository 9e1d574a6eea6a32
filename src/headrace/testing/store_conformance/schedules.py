"""Schedules: changed by one at a time, fired by the leader alone, together with the run."""

from __future__ import annotations

import asyncio

import msgspec

from headrace.contracts.locks import LEADER, STORE, LockClaim, Term
from headrace.contracts.schedules import Firing, ScheduleRow
from headrace.contracts.store import RunFilter
from headrace.core.errors import Fenced, HeadraceError, HistoryConflict, NotLeader
from headrace.core.ids import Epoch
from headrace.testing.store_conformance.stage import Node, Stage, event, new_run, run_id, scenario

R1 = run_id(1)
ODD = "\u00e4 \u2028 ' \\ %s ? ;"


def _row(name: str = "nightly", revision: int = 1, wake_at: float | None = None, text: str = "a") -> ScheduleRow:
    return ScheduleRow(name, revision, wake_at, msgspec.json.encode({"text": text}))


async def _term(node: Node) -> Term:
    holder = f"{node.name}/{node.epoch}"
    claim = LockClaim(name=LEADER, holder=holder, node=node.name, epoch=node.epoch, ttl_seconds=60.0, queue=False)
    turn = await node.store.take_lock(claim)
    assert turn.token
    return Term(turn.token, STORE)


def _firing(node: Node, term: Term, row: ScheduleRow, number: int | None = 1) -> Firing:
    if number is None:
        return Firing(row, node.flush(), term)
    run = msgspec.structs.replace(new_run(number), last_seq=1, tags={"by": "nightly"})
    return Firing(row, node.flush([event(run.run_id, 1)], new_runs=[run]), term)


class SchedulesConformance:
    """Scenarios of :class:`headrace.contracts.schedules.Schedules`."""

    @scenario
    async def test_schedules_are_added_changed_and_removed(self, stage: Stage) -> None:
        """Seen by every handle; only from the revision before."""
        one, other = await stage.store(), await stage.store()
        assert await one.schedule("nightly") is None
        assert await one.put_schedule(_row(text=ODD))
        assert await other.schedule("nightly") == _row(text=ODD)
        assert not await other.put_schedule(_row())
        assert not await other.put_schedule(_row(revision=3))
        assert not await other.put_schedule(_row("unknown", revision=2))
        assert await other.put_schedule(_row(revision=2, wake_at=5.5, text="b"))
        assert not await one.put_schedule(_row(revision=2, text="c"))
        assert await one.schedule("nightly") == _row(revision=2, wake_at=5.5, text="b")
        assert await one.remove_schedule("nightly")
        assert not await one.remove_schedule("nightly")
        assert await other.schedule("nightly") is None
        assert await other.put_schedule(_row())

    @scenario
    async def test_schedules_are_listed_by_name_in_pages(self, stage: Stage) -> None:
        """In the order of bytes, as every store has it."""
        store = await stage.store()
        names = ["B", "Z-1", "a", "a.b", "b"]
        for name in reversed(names):
            await store.put_schedule(_row(name))
        assert [row.name for row in await store.schedules()] == names
        assert [row.name for row in await store.schedules(limit=2)] == names[:2]
        assert [row.name for row in await store.schedules("Z-1", 2)] == ["a", "a.b"]
        assert await store.schedules("b") == []

    @scenario
    async def test_what_is_due_is_judged_by_the_database(self, stage: Stage) -> None:
        """Longest due first, with the time of the next one."""
        store = await stage.store()
        now = await store.now()
        assert (await store.due_schedules()).next_at is None
        for name, wake_at in {
            "late": now - 5,
            "never": None,
            "later": now - 2,
            "soon": now + 100,
            "far": now + 900,
        }.items():
            await store.put_schedule(_row(name, wake_at=wake_at))
        due = await store.due_schedules()
        assert [row.name for row in due.rows] == ["late", "later"]
        assert due.next_at == now + 100
        assert due.now >= now
        assert [row.name for row in (await store.due_schedules(1)).rows] == ["late"]
        await stage.advance(101)
        due = await store.due_schedules()
        assert [row.name for row in due.rows] == ["late", "later", "soon"]
        assert due.next_at == now + 900

    @scenario
    async def test_a_fire_makes_the_run_and_moves_the_schedule(self, stage: Stage) -> None:
        """Both are there, and the run is anybody's; the same decision again does nothing."""
        leader = await stage.node("a")
        term = await _term(leader)
        await leader.store.put_schedule(_row())
        firing = _firing(leader, term, _row(revision=2, wake_at=7.0, text="b"))
        assert await leader.store.fire(firing)
        other = await stage.node("b")
        assert await other.store.schedule("nightly") == firing.row
        assert await other.store.history(R1) == [(1, event(R1, 1)[2])]
        run = await other.store.run(R1)
        assert run is not None
        assert run.owner is None
        assert [row.run_id for row in await other.store.runs(RunFilter(tags={"by": "nightly"}))] == [R1]
        assert not await leader.store.fire(firing)
        assert await other.claim() == [R1]

    @scenario
    async def test_a_decision_without_a_run_moves_the_schedule(self, stage: Stage) -> None:
        """A fire time that was skipped."""
        leader = await stage.node("a")
        term = await _term(leader)
        await leader.store.put_schedule(_row())
        assert await leader.store.fire(_firing(leader, term, _row(revision=2), None))
        assert await leader.store.schedule("nightly") == _row(revision=2)
        assert await leader.store.runs(RunFilter()) == []

    @scenario
    async def test_a_schedule_that_was_changed_does_not_fire(self, stage: Stage) -> None:
        """Nor one that was removed: no run is made."""
        leader = await stage.node("a")
        term = await _term(leader)
        await leader.store.put_schedule(_row())
        await leader.store.put_schedule(_row(revision=2, text="changed"))
        assert not await leader.store.fire(_firing(leader, term, _row(revision=2)))
        assert await leader.store.schedule("nightly") == _row(revision=2, text="changed")
        await leader.store.remove_schedule("nightly")
        assert not await leader.store.fire(_firing(leader, term, _row(revision=3)))
        assert not await leader.store.fire(_firing(leader, term, _row(revision=1)))
        assert await leader.store.schedule("nightly") is None
        assert await leader.store.run(R1) is None
        assert await leader.store.history(R1) == []

    @scenario
    async def test_only_the_leader_fires(self, stage: Stage) -> None:
        """A term that is over, or a lease that was taken, leaves everything as it was."""
        former, leader = await stage.node("a"), await stage.node("b")
        over = await _term(former)
        await former.store.release_lock(LEADER, f"{former.name}/{former.epoch}")
        term = await _term(leader)
        await leader.store.put_schedule(_row())
        await _raises(NotLeader, former, _firing(former, over, _row(revision=2)))
        await _raises(NotLeader, former, _firing(former, over, _row(revision=2), None))
        fenced = Node(leader.store, leader.name, Epoch(leader.epoch + 100))
        await _raises(Fenced, fenced, _firing(fenced, term, _row(revision=2)))
        await _raises(Fenced, fenced, _firing(fenced, term, _row(revision=2), None))
        assert await leader.store.schedule("nightly") == _row()
        assert await leader.store.run(R1) is None
        assert await leader.store.fire(_firing(leader, term, _row(revision=2)))

    @scenario
    async def test_a_run_of_that_id_keeps_another_from_being_made(self, stage: Stage) -> None:
        """And the schedule where it was."""
        leader = await stage.node("a")
        term = await _term(leader)
        await leader.store.put_schedule(_row())
        run = msgspec.structs.replace(new_run(1), last_seq=1)
        await leader.commit([event(R1, 1, "another")], new_runs=[run])
        await _raises(HistoryConflict, leader, _firing(leader, term, _row(revision=2)))
        assert await leader.store.schedule("nightly") == _row()

    @scenario
    async def test_of_two_who_fire_at_once_one_does(self, stage: Stage) -> None:
        """Whatever they believe of their right to."""
        leader = await stage.node("a")
        term = await _term(leader)
        twin = Node(await stage.store(), leader.name, leader.epoch)
        await leader.store.put_schedule(_row())
        for number in range(1, 6):
            done = await _both(_firing(leader, term, _row(revision=number + 1), number), leader, twin)
            assert sorted(done) == [False, True]
        assert len(await leader.store.runs(RunFilter())) == 5


async def _both(firing: Firing, *nodes: Node) -> list[bool]:
    return list(await asyncio.gather(*(node.store.fire(firing) for node in nodes)))


async def _raises(kind: type[HeadraceError], node: Node, firing: Firing) -> None:
    try:
        await node.store.fire(firing)
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised")
