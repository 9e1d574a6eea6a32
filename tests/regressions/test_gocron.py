"""Failures of gocron that Headrace must never have, in running tasks and in timers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from headrace import Headrace, RunFailed, dag, task
from headrace.backends.stores.memory import MemoryDatabase, MemoryStore
from headrace.contracts.execution import Attempt

from graphs import graph  # isort: skip
from rig import Work, ended, memory_rig, play, start, states  # isort: skip


class Odd(BaseException):
    """Not an Exception."""


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        StopIteration(),
        asyncio.CancelledError(),
        Odd(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_task_raises_the_process_goes_on(error: BaseException, tmp_path: Path) -> None:
    """There a panic in a job ends the process."""

    async def test() -> None:
        async def raises() -> None:
            raise error

        async def well() -> int:
            return 7

        with dag("panic") as panic:
            task(raises)()
        with dag("calm") as calm:
            task(well)()
        async with Headrace("memory://", data_dir=tmp_path) as headrace:
            run = await headrace.run(panic)
            with pytest.raises(RunFailed) as failed:
                await run.result(20)
            assert type(error).__name__ in str(failed.value)
            assert await (await headrace.run(calm)).result(20) == {"well": 7}

    play(test())


def test_a_wait_for_a_retry_holds_no_slot(tmp_path: Path) -> None:
    """There a job that sleeps before its retry keeps its place in the concurrency limit, for hours."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:

            async def fails(attempt: Attempt) -> Any:
                if attempt.attempt == 1:
                    raise ValueError
                return await other_done.wait()

            async def other(attempt: Attempt) -> None:
                other_done.set()

            other_done = asyncio.Event()
            node = await rig.node(Work(a=fails, b=other), slots={"inline": 1})
            again = {"attempts": 2, "backoff": "fixed", "initial": 0.05, "jitter": "none"}
            live = await start(node, graph(a={"retries": again}, b=None))
            assert states(await ended(live)) == {"a": "succeeded", "b": "succeeded"}

    play(test())


def test_a_run_can_be_stopped_from_another_process(tmp_path: Path) -> None:
    """There stopping needs the very process that started the job: the list of what can be stopped is in its memory."""

    async def test() -> None:
        async with memory_rig(tmp_path) as rig:

            async def hang(attempt: Attempt) -> None:
                await asyncio.Event().wait()

            owner = await rig.node(Work(a=hang), poll_seconds=3600.0)
            other = await rig.node(adopt=False)
            live = await start(owner, graph(a=None))
            await other.command(live.run_id, "cancel", {"reason": "from elsewhere"})
            run = await ended(live)
            assert (run.state, run.reason) == ("cancelled", "from elsewhere")

    play(test())


# ---- timers ----------------------------------------------------------------------------------------------------------


@task
def noted(day: str) -> str:
    return day


with dag("daily", params={"day": str}) as daily:
    noted("{{ params.day }}")


class MovedClock:
    """The database's clock, and that of a node which is some hours off."""

    def __init__(self, seconds_ahead: float = 0.0) -> None:
        self.now = 1_767_225_600.0  # 2026-01-01
        self.seconds_ahead = seconds_ahead

    def __call__(self) -> float:
        return self.now

    def wrong(self) -> float:
        return self.now + self.seconds_ahead


async def fired(database: MemoryDatabase, count: int) -> list[str]:
    """The days of the runs, once there are so many and all have ended."""
    async with asyncio.timeout(20):
        while len(database.runs) < count or any(run.ended_at is None for run in database.runs.values()):
            await asyncio.sleep(0.001)
    return sorted(run.params["day"] for run in database.runs.values())


EVERY_DAY: dict[str, Any] = {"cron": "0 3 * * *", "params": {"day": "{{ schedule.date }}"}}


def test_fires_missed_while_nobody_was_there_are_made_up_for(tmp_path: Path) -> None:
    """There what is due while the process is down or the machine asleep is dropped, and nothing says so."""

    async def test() -> None:
        clock = MovedClock()
        database = MemoryDatabase(clock)
        options: dict[str, Any] = {"data_dir": tmp_path, "now": clock, "lease_seconds": 9e9}
        async with Headrace(MemoryStore(database), **options) as hr:
            await hr.schedules.add("daily", daily, **EVERY_DAY, overlap="buffer_all", catch_up="3d")
        clock.now += 5.5 * 86_400
        async with Headrace(MemoryStore(database), **options) as hr:
            assert await fired(database, 3) == ["2026-01-04", "2026-01-05", "2026-01-06"]
            view = await hr.schedules.get("daily")
            assert (view.counts.started, view.counts.missed) == (3, 3)
            assert view.outcomes[0].reason == "more than 3d late"

    play(test())


@pytest.mark.parametrize("seconds_ahead", [-7200.0, 7200.0])
def test_clocks_that_differ_fire_once(tmp_path: Path, seconds_ahead: float) -> None:
    """There the lock of a job is free again when the job has ended, and an instance with another clock takes it for the
    same fire. Here the one with the wrong clock leads, and hands over right after it has fired."""

    async def test() -> None:
        clock = MovedClock(seconds_ahead)
        database = MemoryDatabase(clock)
        options: dict[str, Any] = {"data_dir": tmp_path, "lease_seconds": 9e9}
        async with (
            Headrace(MemoryStore(database), node="wrong", now=clock.wrong, **options) as wrong,
            Headrace(MemoryStore(database), node="right", now=clock, **options) as right,
        ):
            await right.schedules.add("daily", daily, **EVERY_DAY)
            clock.now += 2.9 * 3600
            wrong._node.scheduler.wake()
            await wrong._node.scheduler._try_round()
            assert database.runs == {}, "it is not three o'clock yet, whatever its own clock says"
            clock.now += 0.2 * 3600
            wrong._node.scheduler.wake()
            assert await fired(database, 1) == ["2026-01-01"]
            await wrong._node.leader.resign()
            assert await right._node.leader.stand() is not None
            await right._node.scheduler._try_round()
            clock.now += 3600
            await right._node.scheduler._try_round()
            assert await fired(database, 1) == ["2026-01-01"]

    play(test())


def test_a_schedule_that_blows_up_ends_neither_the_process_nor_other_schedules(tmp_path: Path) -> None:
    """There a panic in a job ends the process; started again, it meets the same job."""

    async def test() -> None:
        clock = MovedClock()
        database = MemoryDatabase(clock)
        async with Headrace(MemoryStore(database), data_dir=tmp_path, now=clock, lease_seconds=9e9) as hr:
            await hr.schedules.add("a-bomb", daily, **EVERY_DAY)
            await hr.schedules.add("daily", daily, **EVERY_DAY)
            node = hr._node
            binding, bombs = node.library.binding, 0

            def blows_up(version: str, source_dir: str | None) -> Any:
                nonlocal bombs
                bombs += 1
                if bombs == 1:
                    raise RuntimeError("boom")
                return binding(version, source_dir)

            node.library.binding = blows_up  # type: ignore[method-assign]
            clock.now += 3 * 3600
            node.scheduler.wake()
            assert await fired(database, 1) == ["2026-01-01"]
            bomb = await hr.schedules.get("a-bomb")
            assert (bomb.error, bomb.counts.failed) == ("RuntimeError('boom')", 1)
            clock.now += 86_400
            node.scheduler.wake()
            assert await fired(database, 3) == ["2026-01-01", "2026-01-02", "2026-01-02"]

    play(test())
