"""What follows from fire times: every overlap policy, catching up, bounds, pauses. Pure: virtual time over years."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from headrace.core import schedules as core
from headrace.core.errors import InvalidSchedule
from headrace.core.schedule_checks import Given, define
from headrace.core.schedules import Fire, Schedule

BEGIN = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0


class World:
    """A schedule and the runs it started, as a leader would have it."""

    def __init__(self, now: float = BEGIN, **fields: Any) -> None:
        definition = define("nightly", "wf", Given(**{"cron": "0 * * * *", **fields}))
        self.now = now
        self.schedule = core.new_schedule(definition, now, "1")
        self.fires: list[Fire] = []
        self.ended: set[str] = set()

    def look(self, now: float | None = None) -> list[float]:
        """Decide all that is due; the fire times of the runs that begin."""
        self.now = self.now if now is None else now
        times, begun = core.times_of(self.schedule.definition), list[float]()
        while True:
            step = core.advance(self.schedule, self.now, frozenset(self.ended), times)
            self.schedule = step.schedule
            if step.fire is not None:
                core.started(self.schedule, step.fire, self.now)
                self.fires.append(step.fire)
                begun.append(step.fire.time - BEGIN)
            if not step.again:
                return begun

    def change(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def end(self, number: int = -1) -> None:
        self.ended.add(self.fires[number].run_id)

    @property
    def counts(self) -> dict[str, int]:
        counts = self.schedule.counts
        names = ("started", "skipped", "missed", "failed", "triggered", "backfilled")
        return {name: count for name in names if (count := getattr(counts, name))}

    def wake_in(self) -> float | None:
        times = core.times_of(self.schedule.definition)
        wake_at = core.wake_at(self.schedule, self.now, times, again=False)
        return None if wake_at is None else wake_at - self.now


def test_a_fire_time_begins_a_run_when_it_comes() -> None:
    world = World()
    assert world.look() == []
    assert world.wake_in() == HOUR
    assert world.look(BEGIN + HOUR - 0.001) == []
    assert world.look(BEGIN + HOUR) == [HOUR]
    assert world.look() == []
    assert world.wake_in() == HOUR


def test_skip_leaves_fire_times_out_while_a_run_goes_on() -> None:
    world = World()
    world.look(BEGIN + HOUR)
    assert world.look(BEGIN + 2 * HOUR) == []
    assert world.look(BEGIN + 3 * HOUR) == []
    world.end()
    assert world.look() == [], "what was skipped is not made up for"
    assert world.look(BEGIN + 4 * HOUR) == [4 * HOUR]
    assert world.counts == {"started": 2, "skipped": 2}
    skipped = world.schedule.outcomes[1]
    assert (skipped.what, skipped.count, skipped.reason) == ("skipped", 2, "a run of the schedule goes on")


def test_buffer_one_keeps_the_first_that_comes() -> None:
    world = World(overlap="buffer_one")
    for hour in (1, 2, 3):
        world.look(BEGIN + hour * HOUR)
    assert core.needs_an_end(world.schedule)
    assert world.wake_in() == core.WAIT_SECONDS
    world.end()
    assert world.look() == [2 * HOUR]
    world.end()
    assert world.look() == []
    assert not core.needs_an_end(world.schedule)
    assert world.counts == {"started": 2, "skipped": 1}


def test_buffer_all_keeps_all_in_order_up_to_a_bound() -> None:
    world = World(overlap="buffer_all", catch_up="10000d")
    world.look(BEGIN + HOUR)
    world.look(BEGIN + (core.BUFFER_MAX + 3) * HOUR)
    assert len(world.schedule.buffer) == core.BUFFER_MAX
    for hour in range(2, core.BUFFER_MAX + 2):
        world.end()
        assert world.look() == [hour * HOUR]
    world.end()
    assert world.look() == []
    assert world.counts == {"started": core.BUFFER_MAX + 1, "skipped": 2}


def test_allow_begins_runs_beside_each_other() -> None:
    world = World(overlap="allow")
    assert world.look(BEGIN + 3 * HOUR) == [HOUR, 2 * HOUR, 3 * HOUR]
    assert world.counts == {"started": 3}


@pytest.mark.parametrize(("overlap", "how"), [("cancel_other", "cancel"), ("terminate_other", "terminate")])
def test_the_other_is_stopped_and_the_newest_waits_for_its_end(overlap: str, how: str) -> None:
    world = World(overlap=overlap)
    world.look(BEGIN + HOUR)
    assert core.to_stop(world.schedule) == ("", ())
    assert world.look(BEGIN + 2 * HOUR) == []
    assert core.to_stop(world.schedule) == (how, [world.fires[0].run_id])
    assert world.look(BEGIN + 3 * HOUR) == []
    world.end()
    assert world.look() == [3 * HOUR]
    assert world.counts == {"started": 2, "skipped": 1}
    assert world.schedule.outcomes[2].reason == "a newer fire time took its place"


def test_what_is_too_late_is_missed_and_counted() -> None:
    world = World(catch_up="2h", overlap="allow")
    assert world.look(BEGIN + 10.5 * HOUR) == [9 * HOUR, 10 * HOUR]
    assert world.counts == {"started": 2, "missed": 8}
    missed = world.schedule.outcomes[0]
    assert (missed.what, missed.count, missed.time) == ("missed", 8, BEGIN + 8 * HOUR)


def test_a_night_without_anybody_is_made_up_for_once() -> None:
    """The defaults: a day, and one run at a time."""
    world = World(cron="0 3 * * *")
    assert world.look(BEGIN + 9 * HOUR) == [3 * HOUR]
    world.end()
    assert world.look(BEGIN + 5 * DAY + 9 * HOUR) == [5 * DAY + 3 * HOUR]
    assert world.counts == {"started": 2, "missed": 4}


def test_years_without_anybody_are_counted_step_by_step() -> None:
    world = World(every="1m", catch_up="10m")
    found = world.look(BEGIN + 30 * DAY)
    assert found == [30 * DAY - 10 * MINUTE]
    assert world.counts == {"started": 1, "skipped": 10, "missed": 30 * 1440 - 11}


def test_every_fire_time_of_ten_years_begins_one_run() -> None:
    """Daily in a zone whose clocks change, looked at at odd moments."""
    world = World(cron="30 2 * * *", zone="Europe/Berlin", overlap="allow")
    now = BEGIN
    while now < BEGIN + 3652 * DAY:
        now += 17.3 * HOUR
        world.look(now)
    days = {datetime.fromtimestamp(fire.time + HOUR, UTC).date() for fire in world.fires}
    assert len(world.fires) == len(days)
    assert abs(len(days) - 3652) <= 1
    assert len({fire.run_id for fire in world.fires}) == len(world.fires)


def test_start_and_end_are_included() -> None:
    world = World(start=BEGIN + 2 * HOUR, end="2026-01-01T04:00:00Z")
    assert world.wake_in() == 2 * HOUR
    for hour, begun in ((1, []), (2, [2 * HOUR]), (3, [3 * HOUR]), (4, [4 * HOUR]), (5, [])):
        assert world.look(BEGIN + hour * HOUR) == begun
        if begun:
            world.end()
    assert world.wake_in() is None


def test_a_start_in_the_past_is_caught_up_with() -> None:
    world = World(start=BEGIN - 5 * HOUR, catch_up="2h", overlap="allow", every="1h", cron=())
    assert world.look() == [-2 * HOUR, -HOUR, 0.0]


def test_a_limit_ends_it() -> None:
    world = World(limit=2, overlap="allow")
    assert world.look(BEGIN + 5 * HOUR) == [HOUR, 2 * HOUR]
    assert (world.schedule.remaining, world.wake_in()) == (0, None)


def test_jitter_is_the_same_for_everybody_and_ends_before_the_next_time() -> None:
    world, other = World(jitter="3h", overlap="allow"), World(jitter="3h", overlap="allow")
    found: list[float] = []
    for schedule in (world.schedule, other.schedule):
        times, cursor = core.times_of(schedule.definition), BEGIN
        for _ in range(200):
            time = times(cursor)
            assert time is not None
            due = core.put_off(schedule.definition, time, times(time))
            assert time <= due < time + HOUR
            found.append(due)
            cursor = time
    assert found[:200] == found[200:]
    assert max(due % HOUR for due in found) > 0.9 * HOUR
    assert world.look(found[0] - 0.01) == []
    assert world.look(found[0]) == [HOUR]


def test_nothing_fires_while_paused_and_what_was_passed_over_is_counted() -> None:
    world = World()
    world.change(core.paused(world.schedule, "migration"))
    assert world.look(BEGIN + 3 * HOUR) == []
    assert world.wake_in() is None
    world.change(core.resumed(world.schedule, world.now, core.times_of(world.schedule.definition)))
    assert world.look() == []
    assert world.look(BEGIN + 4 * HOUR) == [4 * HOUR]
    assert world.counts == {"started": 1, "skipped": 3}
    assert world.schedule.outcomes[0].reason == "the schedule was paused"


def test_triggers_of_one_moment_are_as_many_runs() -> None:
    """Two in the same second are two, paused or not."""
    world = World()
    world.change(core.paused(world.schedule, ""))
    for _ in range(3):
        world.change(core.triggered(world.schedule, BEGIN))
    assert world.wake_in() == 0.0
    assert world.look() == [0.0, 0.0, 0.0]
    assert len({fire.run_id for fire in world.fires}) == 3
    assert world.counts == {"triggered": 3}


def test_a_triggered_run_keeps_the_next_fire_time_from_overlapping() -> None:
    world = World()
    world.change(core.triggered(world.schedule, BEGIN))
    world.look()
    assert world.look(BEGIN + HOUR) == []
    assert world.counts == {"triggered": 1, "skipped": 1}


def test_a_backfill_goes_one_by_one_beside_the_schedule() -> None:
    world = World()
    world.change(core.backfilled(world.schedule, BEGIN - 3 * HOUR, BEGIN - HOUR, BEGIN, parallel=False))
    assert world.look() == [-3 * HOUR]
    assert world.look(BEGIN + HOUR) == [HOUR], "its own fire times are not kept waiting"
    assert world.look() == []
    world.end(0)
    assert world.look() == [-2 * HOUR]
    world.end()
    assert world.look() == [-HOUR]
    world.end()
    assert world.look() == []
    assert world.schedule.backfills == []
    assert world.counts == {"started": 1, "backfilled": 3}
    assert [fire.run_id for fire in world.fires if fire.kind == "backfill"] == sorted(
        fire.run_id for fire in world.fires if fire.kind == "backfill"
    )


def test_a_parallel_backfill_begins_all_at_once() -> None:
    world = World()
    world.change(core.backfilled(world.schedule, BEGIN - 3 * HOUR, BEGIN - HOUR, BEGIN, parallel=True))
    assert world.look() == [-3 * HOUR, -2 * HOUR, -HOUR]


def test_another_timing_holds_from_now_on() -> None:
    world = World()
    world.look(BEGIN + HOUR)
    world.end()
    definition = define("nightly", "wf", Given(every="10m", limit=2))
    world.change(core.redefined(world.schedule, definition, BEGIN + 1.5 * HOUR))
    assert world.look(BEGIN + 1.5 * HOUR) == []
    assert world.look(BEGIN + 1.5 * HOUR + 600) == [1.5 * HOUR + 600]
    assert world.schedule.remaining == 1
    assert world.counts == {"started": 2}


def test_the_run_of_a_fire_time_has_one_name() -> None:
    """Whoever computes it; another incarnation of the schedule has others."""
    one = World().schedule
    again = World().schedule
    assert core.run_id_of(one, "fire", BEGIN, 0, 0.0) == core.run_id_of(again, "fire", BEGIN, 0, 0.0)
    again.incarnation = "2"
    assert core.run_id_of(one, "fire", BEGIN, 0, 0.0) != core.run_id_of(again, "fire", BEGIN, 0, 0.0)
    run_id = core.run_id_of(one, "fire", BEGIN, 0, 0.0)
    assert len(run_id) == 26
    assert run_id[:10] < core.run_id_of(one, "fire", BEGIN + 1, 0, 0.0)[:10]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"cron": ()}, "cron: a schedule needs a time"),
        ({"zone": "Berlin"}, "zone: the time zone 'Berlin' is not known: did you mean 'Europe/Berlin'?"),
        ({"start": "2026-02-01", "end": "2026-01-01"}, "end: the end is before the start"),
        ({"overlap": "skipp"}, "overlap: 'skipp' is no overlap policy\n    did you mean 'skip'?"),
        ({"catch_up": "1s"}, "catch_up: the catch-up window is 10 s at least"),
        ({"limit": 0}, "limit: the limit is a number of runs from 1 up"),
        ({"jitter": "soon"}, "jitter: expected a duration"),
        ({"at": [5]}, "at: expected a time such as"),
        ({"tags": {"a": 1}}, "tags.a: tags are texts"),
        ({"params": {"a": "x" * 300_000}}, "262,144 are the most"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_wrong_is_named_with_its_field(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidSchedule) as wrong:
        define("nightly", "wf", Given(**{"cron": "@daily", **fields}))
    assert says in str(wrong.value)


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(InvalidSchedule) as wrong:
        define("a b", "wf", Given(cron=["@dayly", "* * *"], zone="Mars/Olympus"))
    assert [problem.path[0] for problem in wrong.value.problems] == ["name", "zone", "cron", "cron"]
