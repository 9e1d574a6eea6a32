"""Schedules, for programs: add, look, change, remove; pause, resume, trigger, backfill. See
docs/how-to/run-on-a-schedule.md.

Every change is durable on return, and the leader is told. Changes are made from what is stored at that moment, so two
programs that change one schedule at once both get what they asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.client.plain import plain
from headrace.contracts.schedules import ScheduleRow
from headrace.core import schedules as core
from headrace.core.errors import InvalidCommand, InvalidSchedule, NotFound, Problem, StoreCorrupt, StoreUnavailable
from headrace.core.ids import RunId
from headrace.core.schedule_checks import Duration, Given, Instant, define
from headrace.core.schedules import CATCH_UP_SECONDS, Counts, Definition, Outcome, Schedule, Started
from headrace.core.states import FINAL_RUN_STATES
from headrace.core.suggest import did_you_mean
from headrace.core.timing import parse_instant
from headrace.engine.minting import new_run_id
from headrace.engine.schedule_runs import params_of, tags_of, workflow_of

if TYPE_CHECKING:
    from headrace.client.client import Client
    from headrace.client.definitions import Workflow

logger = logging.getLogger("headrace.schedules")

CHANGES_MAX = 50
"""How often a change is made anew because somebody else changed the schedule meanwhile, or it fired."""

NEXT_SHOWN = 5
BACKFILL_TIMES_MAX = 10_000
PAGE = 500


class ScheduleView(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule as it is now. ``next``: its coming fire times, without jitter; empty while it is paused. ``running``:
    its runs that the scheduler has not seen end (it looks when one could be in the way); ``waiting``: fire times that
    wait for that. ``outcomes``: what became of the last ones. ``error``: why the last one started no run."""

    name: str
    definition: Definition
    created_at: float
    paused: str | None
    remaining: int | None
    next: list[float]
    running: list[Started]
    waiting: list[float]
    backfills: int
    outcomes: list[Outcome]
    counts: Counts
    error: str | None


class Schedules:
    """Those of one store. Also there as ``hr.schedules`` of the synchronous :class:`headrace.sync.Headrace`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def add(
        self,
        name: str,
        workflow: Workflow,
        *,
        cron: str | Sequence[str] = (),
        every: Duration | None = None,
        at: Instant | Sequence[Instant] = (),
        zone: str = "UTC",
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        jitter: Duration = 0.0,
        overlap: core.Overlap = "skip",
        catch_up: Duration = CATCH_UP_SECONDS,
        limit: int | None = None,
        note: str = "",
        paused: str | None = None,
        replace: bool = False,
        from_strings: bool | AbstractSet[str] = False,
    ) -> ScheduleView:
        """Run a workflow whenever a time has come: ``cron`` expressions, ``every`` so often, ``at`` single times, or
        all of them. Times without an offset are meant in ``zone``. The rest: :class:`headrace.core.schedules.Definition`.

        ``workflow``: a definition or a file (which is stored now) or the name of a stored one, whose newest version at
        the fire time runs. ``params`` and ``tags`` may hold templates: ``{{ schedule.time }}``, see
        :func:`headrace.engine.schedule_runs.scope_of`. ``paused``: add it paused, for that reason. ``replace``: change
        the one of that name if there is one; what has fired already does not fire again, and what was counted stays.

        Raises :class:`InvalidSchedule`, :class:`InvalidParams`, :class:`NotFound` and what reading the workflow raises,
        before anything is stored; :class:`InvalidCommand` if there is one of that name."""
        given = Given(
            cron=cron,
            every=every,
            at=at,
            zone=zone,
            params=plain(dict(params or {})),
            tags=dict(tags or {}),
            start=start,
            end=end,
            jitter=jitter,
            overlap=overlap,
            catch_up=catch_up,
            limit=limit,
            note=note,
        )
        texts = sorted(given.params if from_strings is True else from_strings or ())
        workflow_name = await self._workflow_name(workflow)
        return await self.put(define(name, workflow_name, given, texts=texts), paused=paused, replace=replace)

    async def _workflow_name(self, workflow: Workflow) -> str:
        client = self._client
        found = await client._definitions.find(workflow)
        if not isinstance(workflow, str) or found.spec.name != workflow:  # a name means what is stored
            await client.register(workflow)
        return found.spec.name

    async def put(self, definition: Definition, *, paused: str | None = None, replace: bool = False) -> ScheduleView:
        """Store a checked definition; see :meth:`add`."""
        node = self._client._node
        now = await node.store.now()
        await self._check(definition, now)
        for _ in range(CHANGES_MAX):
            row = await node.store.schedule(definition.name)
            if row is None:
                schedule = core.new_schedule(definition, now, new_run_id(now))
                schedule.paused = paused
                revision = 0
            elif not replace:
                raise InvalidCommand(
                    f"there is a schedule {definition.name!r} already", hint="change it with replace (--replace)"
                )
            else:
                former = schedule_of(row)
                if definition.source and former.definition.source != definition.source:
                    raise InvalidCommand(
                        f"there is a schedule {definition.name!r} already, "
                        + (f"from {former.definition.source}" if former.definition.source else "made by hand"),
                        hint=f"remove it (headrace schedules remove {definition.name}), or rename this one",
                    )
                if former.definition == definition and (paused is None or former.paused is not None):
                    return self._view(former)
                schedule, revision = core.redefined(former, definition, now), row.revision
                schedule.paused = former.paused if paused is None else paused
            if await self._store(schedule, revision, now):
                return self._view(schedule)
        raise _too_busy(definition.name)

    async def _check(self, definition: Definition, now: float) -> None:
        """Whether a run could be started now: what is wrong is to be heard by whoever adds the schedule."""
        _, spec = await workflow_of(self._client._node, definition.workflow)
        sample = core.times_of(definition)(now) or now
        params_of(spec, definition, sample)
        tags_of(spec, definition, sample)

    # ---- looking -----------------------------------------------------------------------------------------------------

    async def list(self) -> list[ScheduleView]:
        """All of them, by name. One that cannot be read is left out, and the log says so."""
        found: list[ScheduleView] = []
        for row in await self._rows():
            try:
                found.append(self._view(schedule_of(row)))
            except StoreCorrupt as error:
                logger.error("a schedule cannot be read", extra={"schedule": row.name, "error": str(error)})
        return found

    async def _rows(self) -> list[ScheduleRow]:
        store, rows = self._client._node.store, list[ScheduleRow]()
        while True:
            page = await store.schedules(rows[-1].name if rows else "", PAGE)
            rows += page
            if len(page) < PAGE:
                return rows

    async def get(self, name: str) -> ScheduleView:
        """One of them; of its runs, those that go on. Raises :class:`NotFound`."""
        view = self._view(schedule_of(await self._row(name)))
        rows = [await self._client.stored_row(RunId(run.run_id)) for run in view.running]
        going_on = {row.run_id for row in rows if row is not None and row.state not in FINAL_RUN_STATES}
        return msgspec.structs.replace(view, running=[run for run in view.running if run.run_id in going_on])

    async def _row(self, name: str) -> ScheduleRow:
        row = await self._client._node.store.schedule(name)
        if row is None:
            known = [row.name for row in await self._rows()]
            hint = did_you_mean(name, known, what="schedules") or "headrace schedules add"
            raise NotFound(f"there is no schedule {name!r}", hint=hint)
        return row

    def _view(self, schedule: Schedule) -> ScheduleView:
        return ScheduleView(
            name=schedule.definition.name,
            definition=schedule.definition,
            created_at=schedule.created_at,
            paused=schedule.paused,
            remaining=schedule.remaining,
            next=[] if schedule.paused is not None else core.preview(schedule, NEXT_SHOWN),
            running=schedule.running,
            waiting=schedule.buffer,
            backfills=len(schedule.backfills),
            outcomes=schedule.outcomes,
            counts=schedule.counts,
            error=schedule.error,
        )

    # ---- changing ----------------------------------------------------------------------------------------------------

    async def remove(self, name: str) -> None:
        """It fires no more; its runs go on. Raises :class:`NotFound`."""
        node = self._client._node
        if not await node.store.remove_schedule(name):
            await self._row(name)  # says what was probably meant
        node.scheduler.changed()

    async def pause(self, name: str, reason: str = "") -> ScheduleView:
        """Nothing fires until it is resumed; its runs go on. Fire times of the pause are skipped, and counted."""
        return await self._change(name, lambda schedule, _: core.paused(schedule, reason))

    async def resume(self, name: str) -> ScheduleView:
        """Fire again, from the next fire time on. Of one that is not paused: changes nothing."""
        return await self._change(
            name, lambda schedule, now: core.resumed(schedule, now, core.times_of(schedule.definition))
        )

    async def trigger(self, name: str) -> ScheduleView:
        """Start a run now, beside those that go on, paused or not. Its fire time is now. Every call starts one."""

        def change(schedule: Schedule, now: float) -> Schedule:
            if len(schedule.triggers) >= core.TRIGGERS_MAX:
                raise InvalidCommand(f"{core.TRIGGERS_MAX:,} runs of schedule {name!r} wait to be started already")
            return core.triggered(schedule, now)

        return await self._change(name, change)

    async def backfill(
        self, name: str, begin: Instant, to: Instant, *, parallel: bool = False
    ) -> tuple[ScheduleView, int]:
        """Start a run for every fire time from ``begin`` to ``to`` (both included), whether or not one was started
        before: one after the other beside the schedule's own runs, or all at once. Paused or not. Returns how many
        there will be.

        Raises :class:`InvalidSchedule` if there is none, or more than 10,000, and for times to come."""
        count = 0

        def change(schedule: Schedule, now: float) -> Schedule:
            nonlocal count
            first, last = _range(schedule, begin, to, now)
            count = _times_between(schedule, first, last)
            if len(schedule.backfills) >= core.BACKFILLS_MAX:
                raise InvalidCommand(f"{core.BACKFILLS_MAX} backfills of schedule {name!r} wait already")
            return core.backfilled(schedule, first, last, now, parallel=parallel)

        return await self._change(name, change), count

    async def _change(self, name: str, change: Callable[[Schedule, float], Schedule]) -> ScheduleView:
        node = self._client._node
        for _ in range(CHANGES_MAX):
            row = await self._row(name)
            now = await node.store.now()
            schedule = change(schedule_of(row), now)
            if await self._store(schedule, row.revision, now):
                return self._view(schedule)
        raise _too_busy(name)

    async def _store(self, schedule: Schedule, revision: int, now: float) -> bool:
        node, definition = self._client._node, schedule.definition
        waits = bool(schedule.buffer or schedule.backfills)  # what they wait for may have come meanwhile
        wake_at = core.wake_at(schedule, now, core.times_of(definition), again=waits and schedule.paused is None)
        data = msgspec.json.encode(schedule)
        stored = await node.store.put_schedule(ScheduleRow(definition.name, revision + 1, wake_at, data))
        if stored:
            node.scheduler.changed()
        return stored


def schedule_of(row: ScheduleRow) -> Schedule:
    """What is stored. Raises :class:`StoreCorrupt`."""
    try:
        return msgspec.json.decode(row.data, type=Schedule)
    except msgspec.MsgspecError as error:
        raise StoreCorrupt(
            f"the schedule {row.name!r} cannot be read ({error})",
            hint="remove it and add it again; is a codec's key missing?",
        ) from None


def _range(schedule: Schedule, begin: Instant, to: Instant, now: float) -> tuple[float, float]:
    zone, problems, found = schedule.definition.zone, list[Problem](), list[float]()
    for field, value in (("from", begin), ("to", to)):
        try:
            found.append(parse_instant(value, zone))
        except ValueError as error:
            problems.append(Problem(str(error), path=(field,)))
    if not problems and found[1] < found[0]:
        problems.append(Problem("it is before the beginning", path=("to",)))
    if not problems and found[1] > now:
        problems.append(Problem("it is yet to come; what is to come fires by itself", path=("to",)))
    if problems:
        raise InvalidSchedule(problems, name=schedule.definition.name)
    return found[0], found[1]


def _times_between(schedule: Schedule, first: float, last: float) -> int:
    times, count = core.times_of(schedule.definition), 0
    time = times(first - 1e-6)
    while time is not None and time <= last and count <= BACKFILL_TIMES_MAX:
        count, time = count + 1, times(time)
    if 0 < count <= BACKFILL_TIMES_MAX:
        return count
    what = (
        "there is no fire time between them" if not count else f"there are more than {BACKFILL_TIMES_MAX:,} fire times"
    )
    raise InvalidSchedule([Problem(what, path=("to",))], name=schedule.definition.name)


def _too_busy(name: str) -> StoreUnavailable:
    return StoreUnavailable(f"the schedule {name!r} changes too quickly to be changed", hint="try again")
