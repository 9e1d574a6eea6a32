"""Schedules: what they are, and what follows when time passes. Pure, as :mod:`headrace.core.decide` is for runs.

A schedule is a definition and a state, stored together. :func:`advance` makes one decision: it returns the state that
follows and at most one run to start; both are stored in one transaction. ``cursor`` is the last fire time that was
decided: it only rises, so no fire time is decided twice, and none is passed over unseen: what did not start a run is
counted, and the last ones are listed with the reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal, get_args

import msgspec

from headrace.core.durations import format_duration
from headrace.core.timing import Next, make_next

Overlap = Literal["skip", "buffer_one", "buffer_all", "allow", "cancel_other", "terminate_other"]
"""What happens at a fire time at which a run of the schedule goes on: nothing; one run waits for its end; all wait, one
after the other; a run starts beside it; the run that goes on is cancelled (terminated), and the new one starts at its
end."""

OVERLAPS: tuple[str, ...] = get_args(Overlap)

CATCH_UP_SECONDS = 86_400.0
"""How late a fire time may be and still start its run, unless the schedule says otherwise: a day. A night in which
nothing ran is made up for in the morning; what is older has, for a daily schedule, been followed by a newer fire time."""

CATCH_UP_SECONDS_MIN = 10.0
"""Electing a new leader takes some seconds: no fire time is to be missed for that."""

BUFFER_MAX = 1_000
"""Fire times that wait at once with ``buffer_all``; further ones are skipped, and counted."""

BACKFILLS_MAX = 100
TRIGGERS_MAX = 1_000

OUTCOMES_MAX = 50
"""The last decisions that are listed with the schedule."""

RUNNING_MAX = 200
"""Runs under way that a schedule keeps in view; with ``allow`` there may be more."""

WAIT_SECONDS = 30.0
"""How often it is looked whether a run has ended whose end something waits for, should word of it be lost."""

TIMES_MAX = 1_000
"""Fire times decided in one step."""


class Definition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a user says of a schedule. Times are seconds since the epoch, durations seconds. ``start`` and ``end`` bound
    its fire times (both included). ``jitter``: each fire time is put off by a part of this that follows from the name
    and the time, never past the next one. ``limit``: how many fire times may start runs. ``texts``: parameters that were
    given as texts, to be read as their declared types. ``source``: the workflow file it is in; '' for one that was made
    by hand."""

    name: str
    workflow: str
    timing: tuple[str, ...]
    zone: str = "UTC"
    params: dict[str, Any] = {}
    texts: tuple[str, ...] = ()
    tags: dict[str, str] = {}
    start: float | None = None
    end: float | None = None
    jitter: float = 0.0
    overlap: Overlap = "skip"
    catch_up: float = CATCH_UP_SECONDS
    limit: int | None = None
    note: str = ""
    source: str = ""


class Started(msgspec.Struct, frozen=True, array_like=True):
    """A run of the schedule that has not been seen to end. ``kind``: ``fire``, ``trigger`` or ``backfill``."""

    run_id: str
    time: float
    kind: str = "fire"


class Backfill(msgspec.Struct, frozen=True):
    """Fire times of the past that are to start runs: those after ``cursor`` up to ``to``; one after the other unless
    ``parallel``."""

    number: int
    cursor: float
    to: float
    asked_at: float
    parallel: bool = False


class Trigger(msgspec.Struct, frozen=True):
    """A run asked for by a person, at once."""

    number: int
    asked_at: float


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a fire time. ``what``: ``started``, ``waiting`` (for a run to end), ``skipped``, ``missed`` (too
    late), ``failed`` (no run could be made). ``count``: so many fire times, of which ``time`` is the last."""

    time: float
    what: str
    at: float
    kind: str = "fire"
    run_id: str = ""
    reason: str = ""
    count: int = 1


class Counts(msgspec.Struct, omit_defaults=True):
    """Fire times by what became of them, since the schedule was made."""

    started: int = 0
    skipped: int = 0
    missed: int = 0
    failed: int = 0
    triggered: int = 0
    backfilled: int = 0


class Schedule(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A schedule as it is stored. ``incarnation`` tells it from an earlier one of the same name. ``paused``: the reason;
    None if it is not."""

    definition: Definition
    incarnation: str
    created_at: float
    cursor: float
    paused: str | None = None
    remaining: int | None = None
    number: int = 0
    triggers: list[Trigger] = []
    backfills: list[Backfill] = []
    buffer: list[float] = []
    running: list[Started] = []
    outcomes: list[Outcome] = []
    counts: Counts = msgspec.field(default_factory=Counts)
    error: str | None = None
    """Why the last run could not be started; None once one was."""


class Fire(msgspec.Struct, frozen=True):
    """A run to start: the fire time it stands for, and the id that follows from it."""

    time: float
    kind: str
    run_id: str


class Step(msgspec.Struct, frozen=True):
    """One decision. ``again``: there may be more to decide at once."""

    schedule: Schedule
    fire: Fire | None
    again: bool


def new_schedule(definition: Definition, now: float, incarnation: str) -> Schedule:
    """A schedule whose fire times begin now, or with ``start`` if that is past: those since then are caught up with as
    far as the catch-up window goes."""
    begin = now
    if definition.start is not None and definition.start < now:
        begin = max(definition.start, now - definition.catch_up)
        begin -= 1e-6  # the start itself is a fire time if it is one of the timing's
    return Schedule(
        definition=definition, incarnation=incarnation, created_at=now, cursor=begin, remaining=definition.limit
    )


def redefined(schedule: Schedule, definition: Definition, now: float) -> Schedule:
    """The same schedule with another definition. Fire times that were due by the old one and are not decided yet are
    decided by the new one."""
    cursor = schedule.cursor
    if definition.timing != schedule.definition.timing or definition.zone != schedule.definition.zone:
        cursor = max(cursor, now)
    remaining = schedule.remaining
    if definition.limit != schedule.definition.limit:
        remaining = definition.limit
    return msgspec.structs.replace(schedule, definition=definition, cursor=cursor, remaining=remaining)


# ---- times ---------------------------------------------------------------------------------------------------------


def times_of(definition: Definition) -> Next:
    """The fire times of a definition, within its bounds. Raises ``ValueError``."""
    find = make_next(definition.timing, definition.zone, definition.start)
    start, end = definition.start, definition.end

    def bounded(after: float) -> float | None:
        if start is not None and after < start:
            after = start - 1e-6
        found = find(after)
        return None if found is None or (end is not None and found > end) else found

    return bounded


def put_off(definition: Definition, time: float, following: float | None) -> float:
    """When a fire time is due: later by its share of the jitter, the same whoever computes it."""
    if definition.jitter <= 0:
        return time
    digest = hashlib.sha256(f"{definition.name}\0{time!r}".encode()).digest()
    room = definition.jitter if following is None else min(definition.jitter, following - time)
    return time + room * (int.from_bytes(digest[:6], "big") / 2**48)


def next_due(schedule: Schedule, times: Next) -> float | None:
    """When the next fire time is due; None if none will be as things are."""
    if schedule.paused is not None or schedule.remaining == 0:
        return None
    time = times(schedule.cursor)
    if time is None:
        return None
    return put_off(schedule.definition, time, times(time) if schedule.definition.jitter else None)


def preview(schedule: Schedule, count: int) -> list[float]:
    """The next fire times, as if nothing were paused."""
    times, found, cursor = times_of(schedule.definition), list[float](), schedule.cursor
    most = count if schedule.remaining is None else min(count, schedule.remaining)
    while len(found) < most and (time := times(cursor)) is not None:
        found.append(time)
        cursor = time
    return found


def run_id_of(schedule: Schedule, kind: str, time: float, number: int, asked_at: float) -> str:
    """The id of the run of a fire time: the same whoever computes it, so that the store itself refuses a second one.
    Has the form of every run's id; its time is the fire time, or that of the request."""
    identity = f"{schedule.definition.name}\0{schedule.incarnation}\0{kind}\0{number}\0{time!r}"
    bits = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:10], "big")
    if kind == "backfill":  # all have the time of the request: they sort by their fire times
        bits = (int(time) & (1 << 40) - 1) << 40 | bits & (1 << 40) - 1
    milliseconds = int(max(time, asked_at, 0.0) * 1000) & (1 << 48) - 1
    whole = milliseconds << 80 | bits
    return "".join(_ALPHABET[whole >> shift & 31] for shift in range(125, -1, -5))


_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


# ---- deciding ------------------------------------------------------------------------------------------------------


def advance(schedule: Schedule, now: float, ended: frozenset[str], times: Next) -> Step:
    """What follows at ``now``. ``ended``: those of its runs that have ended or are gone. The given schedule is not
    changed."""
    found = _copy(schedule)
    found.running = [run for run in found.running if run.run_id not in ended]
    fire = _triggered(found, now) or _buffered(found, now) or _backfilled(found, now, times)
    if fire is not None:
        return Step(found, fire, again=True)
    fire, again = _fired(found, now, times)
    return Step(found, fire, again)


def wake_at(schedule: Schedule, now: float, times: Next, *, again: bool) -> float | None:
    """When the leader is to look at the schedule next. What waits for a run's end is looked at now and then in any case:
    whoever leads by then may not know that it waits."""
    blocked = needs_an_end(schedule)
    if again or schedule.triggers or (schedule.backfills and not blocked):
        return now
    due = next_due(schedule, times)
    if blocked:
        due = now + WAIT_SECONDS if due is None else min(due, now + WAIT_SECONDS)
    return due


def needs_an_end(schedule: Schedule) -> bool:
    """Whether something waits for a run of the schedule to end."""
    waits = bool(schedule.buffer) and schedule.paused is None
    return (waits and busy(schedule)) or (bool(schedule.backfills) and bool(_backfilling(schedule)))


def to_stop(schedule: Schedule) -> tuple[str, Sequence[str]]:
    """Which runs are to end because another one waits for their place, and how."""
    if schedule.buffer and schedule.definition.overlap in ("cancel_other", "terminate_other"):
        how = "terminate" if schedule.definition.overlap == "terminate_other" else "cancel"
        return how, [run.run_id for run in schedule.running if run.kind != "backfill"]
    return "", ()


def busy(schedule: Schedule) -> bool:
    """Whether a run of the schedule goes on. Backfilled ones run beside it and do not count."""
    return any(run.kind != "backfill" for run in schedule.running)


def started(schedule: Schedule, fire: Fire, now: float) -> None:
    """Record that the run of a fire time exists, with the transaction that makes it."""
    schedule.running = [*schedule.running, Started(fire.run_id, fire.time, fire.kind)][-RUNNING_MAX:]
    schedule.error = None
    if fire.kind == "trigger":
        schedule.counts.triggered += 1
    elif fire.kind == "backfill":
        schedule.counts.backfilled += 1
    else:
        schedule.counts.started += 1
        if schedule.remaining is not None:
            schedule.remaining = max(schedule.remaining - 1, 0)
    note(schedule, Outcome(fire.time, "started", now, fire.kind, fire.run_id))


def failed(schedule: Schedule, fire: Fire, reason: str, now: float) -> None:
    """Record that no run could be made of a fire time."""
    schedule.error = reason
    schedule.counts.failed += 1
    note(schedule, Outcome(fire.time, "failed", now, fire.kind, reason=reason))


def note(schedule: Schedule, outcome: Outcome) -> None:
    """List an outcome; one that repeats the last is counted there."""
    last = schedule.outcomes[-1] if schedule.outcomes else None
    if (
        last is not None
        and outcome.what in ("skipped", "missed")
        and (last.what, last.reason, last.kind) == (outcome.what, outcome.reason, outcome.kind)
    ):
        outcome = msgspec.structs.replace(outcome, count=last.count + outcome.count)
        schedule.outcomes = [*schedule.outcomes[:-1], outcome]
        return
    schedule.outcomes = [*schedule.outcomes, outcome][-OUTCOMES_MAX:]


def _copy(schedule: Schedule) -> Schedule:
    """Lists are replaced and never changed, so a shallow copy will do."""
    return msgspec.structs.replace(schedule, counts=msgspec.structs.replace(schedule.counts))


def _fire(schedule: Schedule, kind: str, time: float, number: int = 0, asked_at: float = 0.0) -> Fire:
    return Fire(time, kind, run_id_of(schedule, kind, time, number, asked_at))


def _triggered(schedule: Schedule, _now: float) -> Fire | None:
    if not schedule.triggers:
        return None
    first, *schedule.triggers = schedule.triggers
    return _fire(schedule, "trigger", first.asked_at, first.number, first.asked_at)


def _buffered(schedule: Schedule, _now: float) -> Fire | None:
    if not schedule.buffer or schedule.paused is not None or busy(schedule):
        return None
    first, *schedule.buffer = schedule.buffer
    return _fire(schedule, "fire", first)


def _backfilling(schedule: Schedule) -> list[Started]:
    return [run for run in schedule.running if run.kind == "backfill"]


def _backfilled(schedule: Schedule, _now: float, times: Next) -> Fire | None:
    while schedule.backfills:
        first, *rest = schedule.backfills
        if not first.parallel and _backfilling(schedule):
            return None
        time = times(first.cursor)
        if time is None or time > first.to:
            schedule.backfills = rest
            continue
        schedule.backfills = [msgspec.structs.replace(first, cursor=time), *rest]
        return _fire(schedule, "backfill", time, first.number, first.asked_at)
    return None


def _fired(schedule: Schedule, now: float, times: Next) -> tuple[Fire | None, bool]:
    definition = schedule.definition
    time = times(schedule.cursor) if schedule.paused is None and schedule.remaining != 0 else None
    for _ in range(TIMES_MAX):
        if time is None:
            return None, False
        following = times(time)
        due = put_off(definition, time, following)
        if due > now:
            return None, False
        schedule.cursor = time
        if now - due > definition.catch_up:
            schedule.counts.missed += 1
            note(
                schedule, Outcome(time, "missed", now, reason=f"more than {format_duration(definition.catch_up)} late")
            )
        elif (not busy(schedule) and not schedule.buffer) or definition.overlap == "allow":
            return _fire(schedule, "fire", time), True
        else:
            _overlapped(schedule, time, now)
        time = following
    return None, True


def _overlapped(schedule: Schedule, time: float, now: float) -> None:
    overlap, waiting = schedule.definition.overlap, schedule.buffer
    reason = ""
    if overlap in ("cancel_other", "terminate_other"):
        if waiting:
            _skip(schedule, waiting[0], now, "a newer fire time took its place")
        schedule.buffer = [time]
    elif overlap == "buffer_one" and not waiting:
        schedule.buffer = [time]
    elif overlap == "buffer_all" and len(waiting) < BUFFER_MAX:
        schedule.buffer = [*waiting, time]
    elif overlap == "buffer_one":
        reason = "a run goes on, and one fire time waits for its end already"
    elif overlap == "buffer_all":
        reason = f"{BUFFER_MAX:,} fire times wait already"
    else:
        reason = "a run of the schedule goes on"
    if reason:
        _skip(schedule, time, now, reason)
    else:
        note(schedule, Outcome(time, "waiting", now, reason="for the end of a run"))


def _skip(schedule: Schedule, time: float, now: float, reason: str) -> None:
    schedule.counts.skipped += 1
    note(schedule, Outcome(time, "skipped", now, reason=reason))


# ---- what users ask ------------------------------------------------------------------------------------------------


def paused(schedule: Schedule, reason: str) -> Schedule:
    """Nothing fires until it is resumed; triggers and backfills still do."""
    found = _copy(schedule)
    found.paused = reason
    return found


def resumed(schedule: Schedule, now: float, times: Next) -> Schedule:
    """Fire times from now on. Those of the pause are skipped, and counted."""
    found = _copy(schedule)
    if found.paused is None:
        return found
    found.paused = None
    count, last = 0, found.cursor
    while count < TIMES_MAX and (time := times(last)) is not None and time <= now:
        count, last = count + 1, time
    if count:
        found.counts.skipped += count
        note(found, Outcome(last, "skipped", now, reason="the schedule was paused", count=count))
    found.cursor = max(found.cursor, now)
    return found


def triggered(schedule: Schedule, now: float) -> Schedule:
    """A run now, whatever else goes on."""
    found = _copy(schedule)
    found.number += 1
    found.triggers = [*found.triggers, Trigger(found.number, now)]
    return found


def backfilled(schedule: Schedule, begin: float, to: float, now: float, *, parallel: bool) -> Schedule:
    """Runs for the fire times from ``begin`` to ``to``, both included."""
    found = _copy(schedule)
    found.number += 1
    found.backfills = [*found.backfills, Backfill(found.number, begin - 1e-6, to, now, parallel)]
    return found
