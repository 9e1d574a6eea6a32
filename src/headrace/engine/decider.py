"""From an input to what it allows: decided by the pure core, handed to the journal, released once it is durable.

Every word on a run of this node comes through :meth:`Decider.feed`: outcomes of attempts, timers, commands, messages.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from headrace.contracts.database import DATABASE
from headrace.core import inputs as inp
from headrace.core.codec import encode_event
from headrace.core.errors import HeadraceError, InvalidCommand, InvalidTransition, UpdateRejected
from headrace.core.events import RunFinished
from headrace.core.ids import RunId
from headrace.core.run import LostValue, Unit
from headrace.core.states import RunState
from headrace.durable.run import CodeRun
from headrace.engine import payloads
from headrace.engine.gates import Ticket
from headrace.engine.journal import Release
from headrace.engine.live import LiveRun, take_effects
from headrace.engine.outcomes import INLINE_BYTES_MAX, MARK, goes_elsewhere, load_value

if TYPE_CHECKING:
    from headrace.engine.node import Node

logger = logging.getLogger("headrace.node")

PROGRESS_SECONDS = 1.0
"""How often a long run's row is refreshed with its progress; every change of state refreshes it at once."""

_RECONSIDERED = frozenset({inp.TaskTimedOut, inp.Resume})
"""Inputs after which a run is looked at anew, whether or not they changed its state."""


class Decider:
    """One node's decisions."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def feed(  # noqa: PLR0912 - flat for speed
        self,
        live: LiveRun,
        given: inp.Input,
        *,
        then: Callable[[], None] | None = None,
        inbox_id: int | None = None,
        outcome_done: str | None = None,
    ) -> None:
        """Decide one input and hand the events to the journal; ``then`` is called once they are durable, or when they
        never will be: the run is closed by then, with the error.

        Raises :class:`InvalidCommand` for a command that does not fit; nothing has happened then.
        """
        node = self._node
        run = live.run
        before = run.state
        now = node.now.read()
        blobs: list[bytes] = []
        encoded = None if live.closed or live.parked else self._decide(live, given, now, blobs)
        if encoded is None:
            if then is not None:
                then()
            return
        if not encoded and inbox_id is None:
            if run.fresh:
                self._plan_fresh(live)
            if then is not None:
                then()
            self.load_wanted(live)
            return
        node.counts.messages_idle += not encoded
        fresh = None
        if run.fresh:
            fresh, run.fresh = run.fresh, []
        owed = take_effects(run) if run.effects else None
        changed = run.state is not before
        finished = changed and run.done
        update = None
        if changed or run.stale or now - live.progress_at > PROGRESS_SECONDS:
            run.stale = False
            live.progress_at = now
            update = live.update(release=finished)
        release: Release | None = None
        if changed or owed is not None or then is not None or type(given) in _RECONSIDERED:
            release = self._releaser(live, given, before, fresh, owed, then)
        elif fresh is not None or live.watchers:  # most inputs: the hop of a chain
            live.unsettled += 1
            release = partial(self._release_fresh, live, fresh)
        try:
            node.journal.append(
                encoded, release, update=update, inbox_id=inbox_id, blobs=blobs, outcome_done=outcome_done
            )
        except HeadraceError as error:
            node.drop(live, error)
            if then is not None:
                then()
            return
        if run.wanted:
            self.load_wanted(live)
        if finished:
            node.starter.begin_next(live)

    def _decide(
        self, live: LiveRun, given: inp.Input, now: float, blobs: list[bytes]
    ) -> list[tuple[RunId, int, bytes]] | None:
        """The events that follow from an input, numbered and encoded; None if that is impossible: the run is dropped
        then. What they refer to is added to ``blobs``. Raises :class:`InvalidCommand`."""
        run, run_id = live.run, live.run_id
        first, before = run.seq + 1, run.state
        try:
            events = run.plan.brain.decide(run, given, now)
            if events and type(events[-1]) is RunFinished:
                events = payloads.with_quoted_output(run, events, blobs)
            if len(events) == 1:  # the hop of a chain
                data = encode_event(events[0])
                encoded = [(run_id, first, data)]
                is_short = len(data) <= INLINE_BYTES_MAX and MARK not in data
            else:
                encoded = [(run_id, number, encode_event(event)) for number, event in enumerate(events, first)]
                is_short = False
            if not is_short and isinstance(run, CodeRun) and any(goes_elsewhere(data) for _, _, data in encoded):
                encoded, _, more = payloads.encode(run, first, events)
                blobs += more
        except (InvalidCommand, UpdateRejected):
            raise
        except Exception as error:
            self._poisoned(live, error)
            return None
        if (run.state is not before or type(given) is inp.Recovered) and run.launching:
            # What is owed follows from events up to here; whoever looks later would also see what is not durable yet.
            run.fresh.clear()
            run.fresh.extend(run.plan.brain.launchable(run))
        return encoded

    def _plan_fresh(self, live: LiveRun) -> None:
        fresh, live.run.fresh = live.run.fresh, []
        self._node.planner.plan(live, fresh)

    def _releaser(
        self,
        live: LiveRun,
        given: inp.Input,
        before: RunState,
        fresh: list[Unit] | None,
        owed: list[Any] | None,
        then: Callable[[], None] | None,
    ) -> Release:
        """What an input's events allow, once they are durable. If they never will be, the journal is broken, and
        :meth:`.Node.journal_broke` drops every run."""
        node = self._node
        changed = live.run.state is not before
        live.unsettled += 1
        finished = changed and live.run.done
        sweep = changed or type(given) is inp.TaskTimedOut
        consider = changed or type(given) is inp.Resume

        def release(error: HeadraceError | None) -> None:
            live.unsettled -= 1
            if error is None and not live.closed:
                if finished:
                    self.close_finished(live)
                else:
                    if sweep:
                        self._changed(live, before)
                    if fresh is not None:
                        node.planner.plan(live, fresh)
                    live.notify()
                if owed is not None:
                    node.performer.perform(live, owed)
                elif consider:
                    node.parker.consider(live)
            if then is not None:
                then()

        return release

    def _release_fresh(self, live: LiveRun, fresh: list[Unit] | None, error: HeadraceError | None) -> None:
        """:meth:`_releaser`, where all there is to do is to plan what became ready."""
        live.unsettled -= 1
        if error is None and not live.closed:
            if fresh is not None:
                self._node.planner.plan(live, fresh)
            if live.watchers:
                live.notify()

    def _changed(self, live: LiveRun, before: RunState) -> None:
        """The run's state changed durably: withdraw or take up what that means."""
        node = self._node
        state = live.run.state
        if state is RunState.RUNNING and before is not RunState.RUNNING:
            node.planner.watch_deadlines(live)
        else:
            node.planner.retract(live)
        if before in (RunState.PAUSED, RunState.SUSPENDED):  # timers that came due meanwhile were not listened to
            node.performer.perform(live, live.run.plan.brain.pending(live.run))

    def close_finished(self, live: LiveRun) -> None:
        node = self._node
        live.done = True
        node.live.pop(live.run_id, None)
        if live.tickets:
            node.planner.retract(live)
        live.close()
        if node.teller.known:
            node.teller.ended(live.run_id)
        if live.run.parent is not None:
            node.performer.tell_parent(live)

    def _poisoned(self, live: LiveRun, cause: Exception) -> None:
        """A defect or a damaged history: this run stops here, all others go on."""
        node = self._node
        logger.error("a run cannot go on", extra={"run_id": live.run_id}, exc_info=cause)
        error = cause if isinstance(cause, HeadraceError) else InvalidTransition(f"run {live.run_id}: {cause!r}")
        node.adopter.refuse(live.run_id, error)
        node.drop(live, error)
        node.spawn(node.let_go(live, error), "headrace-release")

    def outcome(self, ticket: Ticket, outcome: inp.Input | None) -> None:
        """An attempt is over (called by the launcher)."""
        node = self._node
        node.planner.finished(ticket)
        live = ticket.live
        if outcome is None or live.closed:
            node.counts.late_outcomes += outcome is not None
            return
        kept = ticket.gates[-1].name == DATABASE and type(outcome) is inp.Succeeded
        self.feed(live, outcome, outcome_done=ticket.unit.name if kept else None)
        if live.timers and ticket.unit.done:
            node.planner.unwatch(live, ticket.unit)
        if not node.journal.has_room and node.planner.gatekeeper.open:
            node.planner.gatekeeper.open = False
            node.spawn(self._reopen(), "headrace-back-pressure")

    async def _reopen(self) -> None:
        node = self._node
        await node.journal.room()
        if not node.stopping:
            node.planner.gatekeeper.reopen()

    def started(self, ticket: Ticket) -> None:
        """An attempt runs for long enough to be recorded (called by the launcher)."""
        ticket.recorded = True
        unit = ticket.unit
        self.feed(ticket.live, inp.Started(unit.node.id, unit.item, ticket.attempt, ticket.started_at, self._node.id))

    def heartbeat(self, ticket: Ticket, details: Any) -> None:
        """A long attempt said how far it is (called by the launcher)."""
        unit = ticket.unit
        if not ticket.live.closed:
            self.feed(ticket.live, inp.Heartbeat(unit.node.id, unit.item, ticket.attempt, details))

    def handed_over(self, ticket: Ticket) -> None:
        """An attempt will be completed from outside (called by the launcher): its slot is free from here on."""
        node = self._node
        live, unit = ticket.live, ticket.unit
        if not live.closed:
            started = inp.Started(unit.node.id, unit.item, ticket.attempt, ticket.started_at, node.id, external=True)
            self.feed(live, started, then=lambda: node.planner.watch_external(live, unit))
        node.planner.finished(ticket)
        if not live.closed:
            node.parker.consider(live)

    # ---- large values ------------------------------------------------------------------------------------------------

    def load_wanted(self, live: LiveRun) -> None:
        if live.run.wanted:
            self._node.spawn(self._load(live, set(live.run.wanted)), "headrace-load-values")

    async def _load(self, live: LiveRun, digests: set[str]) -> None:
        for digest in digests:
            try:
                value = await asyncio.to_thread(load_value, self._node.artifacts, digest)
            except HeadraceError as error:
                value = LostValue(error.message)
            live.run.values[digest] = value
        self.feed(live, inp.ValuesLoaded())
