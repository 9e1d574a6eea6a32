"""Schedules on living nodes: one run for a fire time, whoever leads, whatever breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest
from schedule_rig import BEGIN, DAY, HOUR, MINUTE, World, until

from headrace import Headrace, continue_as_new, dag, task, wait_for_signal, workflow
from headrace.backends.stores.memory import MemoryStore
from headrace.client.schedules import Schedules
from headrace.contracts.schedules import Firing, ScheduleRow
from headrace.core.errors import InvalidCommand, InvalidParams, InvalidSchedule, NotFound, StoreUnavailable
from headrace.core.ids import RunId
from headrace.sync import Headrace as SyncHeadrace
from headrace.sync import Schedules as SyncSchedules
from headrace.testing import Environment


@task
def echo(text: str) -> str:
    return text


@workflow
async def told(when: str = "") -> str:
    return await echo(when)


@workflow
async def waits() -> str:
    return await wait_for_signal("go")


@task
def six() -> int:
    return 6


with dag("graph") as graph:
    six()


def play(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test

    asyncio.run(bounded())


# ---- one run for a fire time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("definition", [graph, told], ids=["graph", "code"])
def test_a_fire_time_starts_one_run(tmp_path: Path, definition: Any) -> None:
    async def test() -> None:
        async with World(tmp_path) as world:
            hr = await world.node("a")
            await hr.schedules.add("hourly", definition, cron="0 * * * *")
            for _ in range(3):
                await world.advance(HOUR)
                await until(lambda: all(run.state == "succeeded" for run in world.runs()))
            assert world.fire_times("hourly") == {HOUR: 1, 2 * HOUR: 1, 3 * HOUR: 1}
            run = world.runs()[0]
            assert (run.trigger, run.tags) == (
                "schedule",
                {"schedule": "hourly", "schedule_time": "2026-01-01T01:00:00Z"},
            )
            view = await hr.schedules.get("hourly")
            assert view.counts.started == 3
            assert view.running == []  # the scheduler will not look before the next fire time

    play(test())


def test_however_many_nodes_and_whoever_leads(tmp_path: Path) -> None:
    """The leader changes between fire times, and once while one is due."""

    async def test() -> None:
        async with World(tmp_path) as world:
            for name in ("a", "b", "c"):
                await world.node(name)
            await world.nodes[0].schedules.add("hourly", told, cron="0 * * * *", overlap="allow")
            for _ in range(3):
                await world.advance(HOUR)
                world.clock.now += HOUR
                leader = next(hr for hr in world.nodes if hr._node.leader.term() is not None)
                await leader._node.leader.resign()
                others = [hr for hr in world.nodes if hr is not leader]
                assert await others[0]._node.leader.stand() is not None
                await world.settle()
            assert world.fire_times("hourly") == {hour * HOUR: 1 for hour in range(1, 7)}

    play(test())


def test_a_former_leader_that_knows_nothing_of_it_fires_nothing(tmp_path: Path) -> None:
    """It was suspended in the middle: the store refuses its decision, and the new leader's stands."""

    async def test() -> None:
        class Suspended(MemoryStore):
            held: asyncio.Event | None = None

            async def fire(self, firing: Firing) -> bool:
                if self.held is not None:
                    waiting.set()
                    await self.held.wait()
                return await super().fire(firing)

        waiting = asyncio.Event()
        async with World(tmp_path) as world:
            slow = Suspended(world.database)
            former, heir = await world.node("a", store=slow), await world.node("b")
            await former.schedules.add("hourly", told, cron="0 * * * *")
            slow.held = asyncio.Event()
            world.clock.now += HOUR
            former._node.scheduler.wake()
            await waiting.wait()
            term = former._node.leader.term()
            await former._node.locks.release_lock("headrace.leader", f"a/{former._node.epoch}")
            assert await heir._node.leader.stand() is not None
            await until(lambda: world.fire_times("hourly"))
            slow.held.set()
            await until(lambda: former._node.leader.term() != term)
            await world.settle()
            assert world.fire_times("hourly") == {HOUR: 1}

    play(test())


@pytest.mark.parametrize("takes_effect", [True, False], ids=["after the commit", "before it"])
def test_an_answer_that_was_lost_starts_no_second_run(tmp_path: Path, takes_effect: bool) -> None:
    async def test() -> None:
        class Lossy(MemoryStore):
            losses = 0

            async def fire(self, firing: Firing) -> bool:
                if self.losses:
                    self.losses -= 1
                    if takes_effect:
                        await super().fire(firing)
                    raise StoreUnavailable("the connection broke")
                return await super().fire(firing)

        async with World(tmp_path) as world:
            store = Lossy(world.database)
            hr = await world.node("a", store=store)
            await hr.schedules.add("hourly", told, cron="0 * * * *")
            store.losses = 2
            world.clock.now += HOUR
            hr._node.scheduler.wake()
            await until(lambda: world.runs(schedule="hourly"))
            await world.settle()
            assert world.fire_times("hourly") == {HOUR: 1}
            assert (await hr.schedules.get("hourly")).counts.started == 1

    play(test())


def test_a_run_of_that_fire_time_that_is_there_already_is_enough(tmp_path: Path) -> None:
    """Somebody has put the schedule back to what it was: its run's id says that it has begun."""

    async def test() -> None:
        async with World(tmp_path) as world:
            hr = await world.node("a")
            await hr.schedules.add("hourly", told, cron="0 * * * *")
            before = await hr.store.schedule("hourly")
            assert before is not None
            await world.advance(HOUR)
            row = await hr.store.schedule("hourly")
            assert row is not None
            await hr.store.put_schedule(msgspec.structs.replace(before, revision=row.revision + 1))
            await world.advance(1.0)
            assert world.fire_times("hourly") == {HOUR: 1}
            await until(lambda: all(run.state == "succeeded" for run in world.runs()))
            await world.advance(HOUR)
            assert world.fire_times("hourly") == {HOUR: 1, 2 * HOUR: 1}

    play(test())


# ---- what breaks -----------------------------------------------------------------------------------------------------


def test_a_bad_schedule_keeps_no_other_from_firing(tmp_path: Path) -> None:
    """Whose workflow is gone, whose parameters no longer fit, whose document is damaged. What is wrong is kept with it."""

    async def test() -> None:
        async with World(tmp_path) as world:
            hr = await world.node("a")
            for name in ("a-gone", "b-params", "c-damaged", "d-good"):
                await hr.schedules.add(name, told, cron="0 * * * *")
            await _rewrite(hr, "a-gone", workflow="was-there-once")
            await _rewrite(hr, "b-params", params={"nonsense": 1})
            await hr.store.put_schedule(ScheduleRow("c-damaged", 2, BEGIN + HOUR, b"{"))
            await world.advance(HOUR)
            await until(lambda: world.fire_times("d-good"))
            assert (await hr.schedules.get("d-good")).counts.started == 1
            gone, params = await hr.schedules.get("a-gone"), await hr.schedules.get("b-params")
            assert "no stored workflow named 'was-there-once'" in (gone.error or "")
            assert "nonsense: unknown parameter" in (params.error or "")
            assert (gone.counts.failed, params.counts.failed, len(gone.outcomes)) == (1, 1, 1)
            assert [view.name for view in await hr.schedules.list()] == ["a-gone", "b-params", "d-good"]
            await hr.schedules.remove("c-damaged")
            await _rewrite(hr, "a-gone", workflow="told")
            await until(lambda: all(run.state == "succeeded" for run in world.runs()))
            await world.advance(HOUR)
            mended = await hr.schedules.get("a-gone")
            assert (mended.error, mended.counts.started) == (None, 1)
            assert world.fire_times("d-good") == {HOUR: 1, 2 * HOUR: 1}

    play(test())


async def _rewrite(hr: Headrace, name: str, **fields: Any) -> None:
    row = await hr.store.schedule(name)
    assert row is not None
    document = msgspec.json.decode(row.data)
    document["definition"].update(fields)
    data = msgspec.json.encode(document)
    assert await hr.store.put_schedule(msgspec.structs.replace(row, revision=row.revision + 1, data=data))


def test_a_node_whose_clock_is_wrong_fires_when_the_database_says(tmp_path: Path) -> None:
    async def test() -> None:
        async with World(tmp_path) as world:
            ahead = await world.node("a", now=lambda: world.clock.now + 5 * HOUR)
            behind = await world.node("b", now=lambda: world.clock.now - 5 * HOUR)
            await behind.schedules.add("hourly", told, cron="0 * * * *", overlap="allow")
            await world.advance(30 * MINUTE)
            assert world.fire_times("hourly") == {}
            await world.advance(30 * MINUTE)
            assert world.fire_times("hourly") == {HOUR: 1}
            await ahead._node.leader.resign()
            assert await behind._node.leader.stand() is not None
            await world.advance(HOUR)
            assert world.fire_times("hourly") == {HOUR: 1, 2 * HOUR: 1}

    play(test())


def test_what_was_due_while_nobody_was_there(tmp_path: Path) -> None:
    async def test() -> None:
        async with World(tmp_path) as world:
            async with Headrace(MemoryStore(world.database), now=world.clock, data_dir=tmp_path / "f") as hr:
                await hr.schedules.add("nightly", told, cron="0 3 * * *")
                await hr.schedules.add("all", told, cron="0 3 * * *", overlap="allow", catch_up="3d")
            world.clock.now += 5 * DAY + 12 * HOUR
            hr = await world.node("a")
            await world.settle()
            assert world.fire_times("nightly") == {5 * DAY + 3 * HOUR: 1}
            assert world.fire_times("all") == {day * DAY + 3 * HOUR: 1 for day in (3, 4, 5)}
            nightly = await hr.schedules.get("nightly")
            assert (nightly.counts.started, nightly.counts.missed) == (1, 5)
            assert [outcome.what for outcome in nightly.outcomes] == ["missed", "started"]
            assert hr._node.counts.schedule_misses == 5 + 3

    play(test())


# ---- overlap ---------------------------------------------------------------------------------------------------------


def test_what_waits_begins_when_the_run_before_it_ends(tmp_path: Path) -> None:
    """Without any time passing: the leader is told of the end, also of a run that another node has."""

    async def test() -> None:
        async with World(tmp_path) as world:
            leader, other = await world.node("a"), await world.node("b")
            await leader.schedules.add("hourly", waits, cron="0 * * * *", overlap="buffer_one")
            for _ in range(2):
                await world.advance(HOUR)
            assert world.fire_times("hourly") == {HOUR: 1}
            view = await leader.schedules.get("hourly")
            assert view.waiting == [BEGIN + 2 * HOUR]
            assert [run.run_id for run in view.running] == [world.runs()[0].run_id]
            await other.signal(world.runs()[0].run_id, "go", "on")
            await until(lambda: world.fire_times("hourly") == {HOUR: 1, 2 * HOUR: 1})

    play(test())


def test_what_waits_begins_after_a_pause(tmp_path: Path) -> None:
    """In which the run before it has ended, unnoticed."""

    async def test() -> None:
        async with World(tmp_path) as world:
            hr = await world.node("a")
            await hr.schedules.add("hourly", waits, cron="0 * * * *", overlap="buffer_one")
            for _ in range(2):
                await world.advance(HOUR)
            await hr.schedules.pause("hourly")
            await hr.signal(world.runs()[0].run_id, "go", "on")
            await until(lambda: world.runs()[0].state == "succeeded")
            await world.settle()
            assert world.fire_times("hourly") == {HOUR: 1}, "not while it is paused"
            await hr.schedules.resume("hourly")
            await until(lambda: world.fire_times("hourly") == {HOUR: 1, 2 * HOUR: 1})

    play(test())


@pytest.mark.parametrize(("overlap", "state"), [("cancel_other", "cancelled"), ("terminate_other", "terminated")])
def test_a_run_makes_room_for_the_next(tmp_path: Path, overlap: Any, state: str) -> None:
    async def test() -> None:
        async with World(tmp_path) as world:
            hr = await world.node("a")
            await hr.schedules.add("hourly", waits, cron="0 * * * *", overlap=overlap)
            for _ in range(3):
                await world.advance(HOUR)
                await until(lambda: max(world.fire_times("hourly")) == world.clock.now - BEGIN)
            states = [run.state for run in world.runs()]
            assert states == [state, state, "running"]

    play(test())


def test_a_graph_that_cannot_be_terminated_is_cancelled(tmp_path: Path) -> None:
    async def test() -> None:
        held = asyncio.Event()

        async def hangs() -> None:
            await held.wait()

        with dag("hanging") as hanging:
            task(hangs)()
        async with World(tmp_path) as world:
            hr = await world.node("a")
            await hr.schedules.add("hourly", hanging, cron="0 * * * *", overlap="terminate_other")
            for _ in range(2):
                await world.advance(HOUR)
                await until(lambda: max(world.fire_times("hourly")) == world.clock.now - BEGIN)
            assert [run.state for run in world.runs()] == ["cancelled", "running"]
            held.set()

    play(test())


# ---- live changes ----------------------------------------------------------------------------------------------------


def test_schedules_are_changed_while_they_live(tmp_path: Path) -> None:
    async def test() -> None:
        async with World(tmp_path) as world:
            hr = await world.node("a")
            guest = await world.node("guest", adopt=False)
            await guest.schedules.add("s", told, cron="0 * * * *", params={"when": "{{ schedule.time }}"})
            await world.advance(HOUR)
            await until(lambda: world.ended() == 1)
            assert await (await hr.get(world.runs()[0].run_id)).result(10) == "2026-01-01T01:00:00Z"
            await guest.schedules.pause("s", "release")
            await world.advance(HOUR)
            view = await guest.schedules.get("s")
            assert (view.paused, view.next) == ("release", [])
            await guest.schedules.resume("s")
            await world.advance(HOUR)
            await until(lambda: world.ended() == 2)
            await guest.schedules.trigger("s")
            await until(lambda: world.ended() == 3)
            await guest.schedules.add("s", told, cron="30 * * * *", replace=True)
            await world.advance(HOUR)
            await until(lambda: len(world.runs()) == 4)
            assert max(world.fire_times("s")) == 3.5 * HOUR
            await guest.schedules.remove("s")
            await world.advance(DAY)
            assert len(world.runs()) == 4
            view_counts = view.counts
            assert (view_counts.started, view_counts.skipped) == (1, 0)

    play(test())


def test_a_backfill_runs_the_times_of_the_past_in_order(tmp_path: Path) -> None:
    async def test() -> None:
        async with World(tmp_path) as world:
            hr = await world.node("a")
            await hr.schedules.add("daily", told, cron="@daily", zone="Europe/Berlin")
            _, count = await hr.schedules.backfill("daily", "2025-12-30", "2026-01-01T00:30")
            assert count == 3
            await until(lambda: len(world.runs()) == 3 and all(run.state == "succeeded" for run in world.runs()))
            times = [run.tags["schedule_time"] for run in world.runs()]
            assert times == ["2025-12-29T23:00:00Z", "2025-12-30T23:00:00Z", "2025-12-31T23:00:00Z"]
            with pytest.raises(InvalidSchedule, match="no fire time between"):
                await hr.schedules.backfill("daily", "2025-12-30T01:00", "2025-12-30T02:00")
            with pytest.raises(InvalidSchedule, match="yet to come"):
                await hr.schedules.backfill("daily", "2025-12-30", "2027-01-01")
            with pytest.raises(InvalidSchedule, match="before the beginning"):
                await hr.schedules.backfill("daily", "2025-12-30", "2025-12-29")

    play(test())


def test_what_could_never_run_is_refused_at_once(tmp_path: Path) -> None:
    async def test() -> None:
        async with World(tmp_path) as world:
            hr = await world.node("a")
            with pytest.raises(NotFound):
                await hr.schedules.add("s", "nothing-of-that-name", cron="@daily")
            with pytest.raises(InvalidParams, match="unknown parameter"):
                await hr.schedules.add("s", told, cron="@daily", params={"wen": 1})
            with pytest.raises(InvalidSchedule, match="did you mean '@daily'"):
                await hr.schedules.add("s", told, cron="@dayly")
            assert await hr.schedules.list() == []
            await hr.schedules.add("s", told, cron="@daily")
            with pytest.raises(InvalidCommand, match="there is a schedule 's' already"):
                await hr.schedules.add("s", told, cron="@daily")
            with pytest.raises(NotFound, match="did you mean 's'"):
                await hr.schedules.pause("S")

    play(test())


# ---- what it costs ---------------------------------------------------------------------------------------------------


def test_a_leader_sleeps_until_something_is_due() -> None:
    """A month without schedules, then one with a daily one: looks are counted, not timed. This node never polls."""

    async def test() -> None:
        looks = 0

        async with Environment() as env:
            inner: Any = env._handle.inner  # type: ignore[union-attr]
            due = inner.due_schedules

            async def counted(limit: int = 100) -> Any:
                nonlocal looks
                looks += 1
                return await due(limit)

            inner.due_schedules = counted
            await env.advance("30d")
            assert looks <= 1
            await env.headrace.schedules.add("daily", told, cron="@daily")
            looks = 0
            await env.advance("30d")
            assert looks <= 30 * 3 + 2

    asyncio.run(test())


def test_a_year_of_days() -> None:
    """Virtual time: every day has its run, and the two on which the clocks change have one each."""

    async def test() -> None:
        async with Environment() as env:
            hr = env.headrace
            await hr.schedules.add("daily", told, cron="30 2 * * *", zone="Europe/Berlin", params={"when": "x"})
            await env.advance("365d")
            rows = await hr.runs(limit=1000, tags={"schedule": "daily"})
            assert len(rows) == 365
            assert len({row.tags["schedule_time"] for row in rows}) == 365
            assert {row.state for row in rows} == {"succeeded"}
            assert await (await hr.get(RunId(rows[0].run_id))).result() == "x"
            counts = (await hr.schedules.get("daily")).counts
            assert (counts.started, counts.missed, counts.skipped, counts.failed) == (365, 0, 0, 0)

    asyncio.run(test())


def test_a_run_that_goes_on_as_another_is_still_the_schedules() -> None:
    """A code workflow that continues as a new run: the next fire time overlaps with that one."""

    @workflow
    async def chain(left: int = 2) -> int:
        await asyncio.sleep(1800)
        if left:
            continue_as_new(left=left - 1)
        return left

    async def test() -> None:
        async with Environment() as env:
            hr = env.headrace
            await hr.schedules.add("hourly", chain, cron="0 * * * *")
            await env.advance("3h5m")
            counts = (await hr.schedules.get("hourly")).counts
            assert (counts.started, counts.skipped) == (2, 1)

    asyncio.run(test())


def test_the_same_without_an_event_loop(tmp_path: Path) -> None:
    """The synchronous twin has every method, with the same arguments."""
    with SyncHeadrace(MemoryStore(), data_dir=tmp_path) as hr:
        added = hr.schedules.add("s", told, cron="@yearly", params={"when": "x"})
        assert added.next
        assert hr.schedules.pause("s", "why").paused == "why"
        assert hr.schedules.resume("s").paused is None
        assert [view.name for view in hr.schedules.list()] == ["s"]
        _, count = hr.schedules.backfill("s", "2024-01-01", "2025-01-01", parallel=True)
        assert count == 2
        hr.schedules.trigger("s")
        while len(runs := hr.runs(tags={"schedule": "s"}, states=("succeeded",))) < 3:
            pass
        assert hr.get(runs[0].run_id).result(10) == "x"
        counts = hr.schedules.get("s").counts
        assert (counts.backfilled, counts.triggered) == (2, 1)
        hr.schedules.remove("s")
        assert hr.schedules.list() == []
    own = {name for name in vars(Schedules) if not name.startswith("_")} - {"put"}
    assert own == {name for name in vars(SyncSchedules) if not name.startswith("_")}
