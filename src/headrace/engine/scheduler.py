"""Fires schedules. The leader alone does, under its term, which the store checks with every decision.

Nobody polls: the store knows when the next schedule is due, the leader sleeps until then, and whoever changes a
schedule says so. A slow look finds what word was lost of. Whether a fire time has come is judged by the database's
clock, so a node whose clock is wrong fires as late or early as any other.

What follows from a fire time is decided by :mod:`headrace.core.schedules`. The decision is stored together with the run
that it starts (:meth:`headrace.contracts.schedules.Schedules.fire`); the run belongs to nobody, and whichever node has
room takes it up. If the leader dies before that commit, the next one decides anew; if after it, there is nothing left
to do.

A schedule that cannot be carried out (its workflow is gone, its parameters do not fit, its code cannot be imported)
keeps no other from firing: the failure is recorded with it, and its next fire time is tried as if nothing had been.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from headrace.contracts.locks import Term
from headrace.contracts.schedules import Firing, ScheduleRow
from headrace.contracts.store import BACK_SECONDS, Flush
from headrace.core import schedules as core
from headrace.core.errors import Fenced, HeadraceError, HistoryConflict, InvalidCommand, NotLeader
from headrace.core.ids import RunId
from headrace.core.schedules import Fire, Schedule, Started
from headrace.core.states import FINAL_RUN_STATES, RunState
from headrace.durable.run import CodePlan
from headrace.engine.adopter import read_run
from headrace.engine.schedule_runs import FirstEvents, first_events

if TYPE_CHECKING:
    from headrace.core.timing import Next
    from headrace.engine.node import Node

logger = logging.getLogger("headrace.scheduler")

LOOK_SECONDS = 60.0
"""The longest between two looks of a leader, unless it is told to poll less often: how late a change of a schedule is
noticed whose word was lost."""

BATCH_SCHEDULES = 100
STEPS_MAX = 50
"""Decisions about one schedule before the others have their turn."""

PUT_OFF_SECONDS = 60.0
"""How soon a schedule is tried again that could not even be read."""

PUT_OFF_MAX = 10_000
FOLLOWING_MAX = 100
ALLOWED_LOOKS = 5
REASON_CHARS_MAX = 1_000


class Scheduler:
    """One node's part in it."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._rung = asyncio.Event()
        self._put_off: dict[str, tuple[int, float]] = {}
        """Schedules that could not be looked at: revision, and until when they are left alone."""
        self._nudged: set[str] = set()
        """Schedules for which a run has ended."""
        self._waits: dict[str, tuple[list[RunId], asyncio.Task[None]]] = {}
        """Who waits for the end of one of these runs, by schedule."""
        self._made = 0
        """Runs that were made in this round."""
        self._stopped: set[str] = set()
        """Runs that were told to end."""

    def wake(self) -> None:
        """A schedule was changed, or this node began or ceased to lead: look now."""
        self._rung.set()

    def changed(self) -> None:
        """This node has changed a schedule: tell whoever leads. Returns at once."""
        self.wake()
        self._node.waker.schedules_changed()

    async def serve(self) -> None:
        """Fire what is due, and sleep until something is, until cancelled."""
        try:
            while True:
                pause = await self._try_round()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._rung.wait()
                self._rung.clear()
        finally:
            self._forget_waits()

    async def _try_round(self) -> float | None:
        """Fire what is due. Returns the seconds until the next look; None: not before something happens."""
        node = self._node
        term = node.leader.term()
        if term is None or node.stopping or not node.is_joined:
            self._forget_waits()
            return None
        try:
            return await self._round(term)
        except NotLeader as error:
            node.leader.step_down(str(error))
            return None
        except HeadraceError as error:
            logger.warning("looking for due schedules failed", extra={"error": str(error)})
            return BACK_SECONDS

    async def _round(self, term: Term) -> float:
        store, loop = self._node.store, asyncio.get_running_loop()
        due = await store.due_schedules(BATCH_SCHEDULES + len(self._put_off))
        asked_at = loop.time()
        nudged, self._nudged = self._nudged, set()
        rows = {row.name: row for row in due.rows}
        for name in nudged - rows.keys():
            row = await store.schedule(name)
            if row is not None:
                rows[name] = row
        looked, self._made = False, 0
        try:
            for row in rows.values():
                until = self._put_off.get(row.name)
                if until is not None and until[0] == row.revision and loop.time() < until[1]:
                    continue
                looked = True
                await self._look(row, term, due.now)
        finally:
            if self._made:
                self._tell_of_runs()
        if looked or self._rung.is_set():
            return 0.0  # they may be due again by now
        pause = max(LOOK_SECONDS, self._node.options.poll_seconds)
        if due.next_at is not None:
            pause = min(pause, due.next_at - due.now)
        return max(pause - (loop.time() - asked_at), 0.001)

    def _tell_of_runs(self) -> None:
        """There are runs that belong to nobody yet."""
        self._node.adopter.wake()
        self._node.waker.runs_unowned()

    async def _look(self, row: ScheduleRow, term: Term, now: float) -> None:
        """Decide about one schedule. Raises retryable errors, :class:`Fenced` and :class:`NotLeader`; any other failure
        is this schedule's alone."""
        try:
            schedule = msgspec.json.decode(row.data, type=Schedule)
            times = core.times_of(schedule.definition)
            await self._advance(row, schedule, times, term, now)
        except (asyncio.CancelledError, NotLeader):
            raise
        except Exception as error:
            if isinstance(error, HeadraceError) and (error.retryable or isinstance(error, Fenced)):
                raise
            logger.exception("a schedule cannot be looked at; the others go on", extra={"schedule": row.name})
            if len(self._put_off) < PUT_OFF_MAX:
                self._put_off[row.name] = (row.revision, asyncio.get_running_loop().time() + PUT_OFF_SECONDS)
        else:
            self._put_off.pop(row.name, None)

    async def _advance(self, row: ScheduleRow, schedule: Schedule, times: Next, term: Term, now: float) -> None:
        node = self._node
        for _ in range(STEPS_MAX):
            ended = await self._ended(schedule)
            step = core.advance(schedule, now, ended, times)
            found, made = step.schedule, None
            if step.fire is not None:
                made = await self._make(found, step.fire, now)
            wake_at = core.wake_at(found, now, times, again=step.again)
            after = ScheduleRow(row.name, row.revision + 1, wake_at, msgspec.json.encode(found))
            if after.data != row.data or after.wake_at != row.wake_at:
                flush = Flush(node.id, node.epoch, [])
                if made is not None:
                    flush = msgspec.structs.replace(flush, events=made.events, new_runs=[made.row])
                if not await self._store(Firing(after, flush, term)):
                    return  # it was changed meanwhile: the next look sees how
                self._count(schedule, found)
                row = after
            schedule = found
            if made is not None:
                self._made += 1
                if self._made & (self._made - 1) == 0:  # many at once are taken up many at once
                    self._tell_of_runs()
            self._see_to_ends(schedule)
            if not step.again:
                return

    async def _store(self, firing: Firing) -> bool:
        store = self._node.store
        try:
            return await store.fire(firing)
        except HistoryConflict:  # the run of this fire time is there already: that is all that was wanted
            logger.warning("the run of a fire time was there already", extra={"schedule": firing.row.name})
            nothing = Flush(firing.flush.node, firing.flush.epoch, [])
            return await store.fire(msgspec.structs.replace(firing, flush=nothing))

    async def _make(self, schedule: Schedule, fire: Fire, now: float) -> FirstEvents | None:
        """The run of a fire time, and what is recorded of it; None if there can be none."""
        node = self._node
        try:
            made = await first_events(node, schedule.definition, fire, now)
            for blob in made.blobs:
                await asyncio.to_thread(node.artifacts.put, blob)
        except Exception as error:
            if isinstance(error, HeadraceError) and error.retryable:
                raise
            reason = str(error) if isinstance(error, HeadraceError) else repr(error)
            core.failed(schedule, fire, reason[:REASON_CHARS_MAX], now)
            logger.error(
                "a schedule could not start its run",
                extra={"schedule": schedule.definition.name, "time": fire.time, "error": reason},
            )
            return None
        core.started(schedule, fire, now)
        return made

    def _count(self, before: Schedule, after: Schedule) -> None:
        counts, old, new = self._node.counts, before.counts, after.counts
        fired = [count.started + count.triggered + count.backfilled for count in (old, new)]
        counts.schedule_fires += fired[1] - fired[0]
        counts.schedule_skips += new.skipped - old.skipped
        counts.schedule_failures += new.failed - old.failed
        missed = new.missed - old.missed
        counts.schedule_misses += missed
        if missed:
            logger.warning(
                "fire times of a schedule were missed: nobody was there to fire it within its catch-up window",
                extra={"schedule": after.definition.name, "count": missed},
            )

    # ---- ends of runs ------------------------------------------------------------------------------------------------

    async def _ended(self, schedule: Schedule) -> frozenset[str]:
        """Those of a schedule's runs that are over. A run that goes on as another is replaced by it."""
        looks = schedule.running
        if schedule.definition.overlap == "allow" and not schedule.backfills:
            looks = looks[:ALLOWED_LOOKS]  # nothing depends on them
        ended: set[str] = set()
        replaced = {run.run_id: await self._latest(RunId(run.run_id)) for run in looks}
        running: list[Started] = []
        for run in schedule.running:
            latest = replaced.get(run.run_id, run.run_id)
            if latest is None:
                ended.add(run.run_id)
            running.append(run if latest is None else Started(latest, run.time, run.kind))
        schedule.running = running
        self._stopped -= ended
        return frozenset(ended)

    async def _latest(self, run_id: RunId) -> str | None:
        """The run, or the one that goes on in its place; None if it is over, or gone."""
        node = self._node
        for _ in range(FOLLOWING_MAX):
            live = node.live.get(run_id)
            if live is not None and not live.run.done:
                return run_id
            row = await node.store.run(run_id)
            if row is None:
                return None
            if row.state not in FINAL_RUN_STATES:
                return run_id
            if row.state not in (RunState.CONTINUED, RunState.FAILED):
                return None
            if not isinstance(await node.library.fetch(row.version), CodePlan):
                return None
            following = getattr(await read_run(node, run_id), "next_run", None)
            if following is None:
                return None
            run_id = RunId(following)
        return run_id

    def _see_to_ends(self, schedule: Schedule) -> None:
        """Be told of the end of its runs if something waits for one, and have those ended that are to make room."""
        name = schedule.definition.name
        how, run_ids = core.to_stop(schedule)
        for run_id in run_ids:
            if run_id not in self._stopped:
                self._stopped.add(run_id)
                self._node.spawn(self._stop(RunId(run_id), how, name), "headrace-schedule-stop")
        ids = [RunId(run.run_id) for run in schedule.running] if core.needs_an_end(schedule) else []
        waits = self._waits.get(name)
        if waits is not None and (waits[0] != ids or waits[1].done()):
            waits[1].cancel()
            del self._waits[name]
        if ids and name not in self._waits:
            task = asyncio.create_task(self._wait_for_one(name, ids), name="headrace-schedule-wait")
            self._waits[name] = (ids, task)

    def _forget_waits(self) -> None:
        waits, self._waits = self._waits, {}
        for _, wait in waits.values():
            wait.cancel()
        self._stopped.clear()

    async def _wait_for_one(self, name: str, run_ids: Iterable[RunId]) -> None:
        """Until one of the runs has ended; then have the schedule looked at."""
        ends = [asyncio.ensure_future(self._until_ended(run_id)) for run_id in run_ids]
        try:
            if ends:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            self._nudged.add(name)
            self.wake()
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)

    async def _until_ended(self, run_id: RunId) -> None:
        node = self._node
        with node.wisher.waiting(run_id) as word:
            while True:
                live = node.live.get(run_id)
                if live is not None and not live.closed:
                    await live.until_closed()
                with contextlib.suppress(HeadraceError):
                    row = await node.store.run(run_id)
                    if row is None or row.state in FINAL_RUN_STATES:
                        return
                await word.next(core.WAIT_SECONDS)

    async def _stop(self, run_id: RunId, how: str, name: str) -> None:
        """Tell a run to end: code runs no further, or is cancelled; a graph is cancelled."""
        reason = f"the schedule {name!r} has come to its next fire time"
        try:
            try:
                await self._node.command(run_id, how, {"reason": reason})
            except InvalidCommand:
                if how == "terminate":
                    await self._node.command(run_id, "cancel", {"reason": reason})
        except HeadraceError as error:
            self._stopped.discard(run_id)  # it has ended, or is told again with the next look
            logger.info("a run of a schedule could not be told to end", extra={"run_id": run_id, "error": str(error)})
