"""From owed effects to launches: limits, retry delays, deadlines.

The planner is given units whose readiness is durable. It turns each into a ticket, sends it through its gates, and hands
those that pass to the launcher. It forgets nothing that :func:`headrace.core.effects.pending` would list: after a
take-over, :meth:`Planner.take_up` computes the same from folded state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from headrace.core import inputs as inp
from headrace.core.effects import external_deadline, is_launchable, task_deadline
from headrace.core.events import Failure
from headrace.core.ids import attempt_key
from headrace.core.run import Unit
from headrace.core.spec import NO_TIMEOUTS
from headrace.core.states import RunState
from headrace.engine.gates import AWAY, Gate, Gatekeeper, Ticket, queue_of
from headrace.engine.launcher import Launcher
from headrace.engine.live import LiveRun
from headrace.engine.timers import Timer

if TYPE_CHECKING:
    from headrace.engine.dispatcher import Dispatcher

SLOTS_DEFAULT = 100
"""Attempts under way at once for an executor that the configuration does not name."""


class Feeder(Protocol):
    """Who turns inputs into events: the node."""

    def feed(self, live: LiveRun, given: inp.Input, *, then: Callable[[], None] | None = None) -> None:
        """Decide and record; ``then`` is called once the events are durable (or at once if there are none)."""
        ...


class Planner:
    """One node's tickets."""

    def __init__(
        self, feeder: Feeder, launcher: Launcher, slots: Mapping[str, int], now: Callable[[], float], node: str
    ) -> None:
        self._feeder = feeder
        self._launcher = launcher
        self._now = now
        self._node = node
        self.guest_launcher = launcher
        """Carries out attempts of runs that others own; set by the node."""
        self._slots = dict(slots)
        self._executor_gates: dict[str, Gate] = {}
        self.gatekeeper = Gatekeeper(self._admitted)
        self.dispatcher: Dispatcher
        """Set by the node: who offers attempts to others."""

    def executor_gates(self) -> list[Gate]:
        """The gates of all executors and queues that were met so far."""
        return list(self._executor_gates.values())

    def gates_by_executor(self) -> dict[str, Gate]:
        """The gates of all executors of this node."""
        for name in self._slots:
            if name not in self._executor_gates:
                self._gate(name)
        return self._executor_gates

    def gate_of(self, name: str) -> Gate:
        """The gate of an executor."""
        return self._executor_gates.get(name) or self._gate(name)

    def _gate(self, name: str) -> Gate:
        gate: Gate
        if name.startswith(AWAY):
            gate = self.dispatcher.routes.gate(*queue_of(name))
        else:
            gate = Gate(name, self._slots.get(name, SLOTS_DEFAULT))
        self._executor_gates[name] = gate
        return gate

    def resize(self, slots: Mapping[str, int]) -> None:
        """Change the slots of executors, by name; the others keep theirs. More slots are used at once, fewer let the
        attempts under way end."""
        self._slots.update(slots)
        for name, number in slots.items():
            gate = self._executor_gates.get(name)
            if gate is not None:
                self.gatekeeper.resize(gate, number)

    # ---- what becomes ready ------------------------------------------------------------------------------------------

    def take_up(self, live: LiveRun) -> None:
        """Plan everything a run owes: a new run, one that was taken over, or one that goes on after a pause."""
        self.plan(live, live.run.plan.brain.launchable(live.run))
        self.watch_deadlines(live)

    def watch_deadlines(self, live: LiveRun) -> None:
        """Arm the bounds of the run and of its tasks, as far as they are not."""
        deadline = live.run.plan.brain.deadline(live.run)
        if deadline is not None and "run" not in live.timers:
            self.arm(live, "run", deadline, lambda: self._feeder.feed(live, inp.RunTimedOut()))
        for unit in live.run.tasks:
            if unit.node.timeouts is not NO_TIMEOUTS:
                self._watch_task(live, unit)
                self.watch_external(live, unit)
                for item in unit.items or ():
                    self.watch_external(live, item)

    def plan(self, live: LiveRun, units: Iterable[Unit]) -> None:
        """Plan units that became ready (or are to be retried)."""
        run = live.run
        if live.closed or live.inert or not run.launching:
            return
        for unit in units:
            if unit.planned or not is_launchable(unit):
                continue
            timeouts = unit.node.timeouts
            if timeouts is not NO_TIMEOUTS and timeouts.task is not None:
                # An item's bound is its whole task's. Calls of code share a node's index, but not their bound.
                self._watch_task(live, unit if unit.item is None else run.tasks[unit.node.index])
            if unit.retry_at is None or unit.retry_at <= self._now():
                self._enter(live, unit)
            elif unit not in live.timers:
                self.arm(live, unit, unit.retry_at, self._replan(live, unit))

    def _replan(self, live: LiveRun, unit: Unit) -> Callable[[], None]:
        return lambda: self.plan(live, (unit,))

    def _enter(self, live: LiveRun, unit: Unit) -> None:
        unit.planned = True
        ticket = Ticket(live, unit, self._gates(live, unit), unit.attempt + 1)
        if unit.node.prefers:
            self.dispatcher.preferences.choose(ticket)
        live.tickets[ticket] = None
        self.gatekeeper.enter(ticket)
        if ticket.entered < len(ticket.gates):
            self.dispatcher.lookout.wake()
        bound = unit.node.timeouts.queue
        if bound is not None and ticket.task is None and not ticket.cancelled:
            loop = asyncio.get_running_loop()
            ticket.queue_timer = loop.call_later(bound, self._waited_too_long, ticket, bound)

    def _gates(self, live: LiveRun, unit: Unit) -> tuple[Gate, ...]:
        name = live.binding.bound[unit.node.index].executor
        executor = self._executor_gates.get(name)
        if executor is None:
            executor = self._gate(name)
        if self.dispatcher.found and self.dispatcher.stands(
            attempt_key(live.run_id, unit.node.id, unit.item, unit.attempt + 1)
        ):
            executor = self.dispatcher.routes.gate(unit.node.options.queue, name)  # another node may be carrying it out
        bound = unit.node.options.max_parallel
        if bound is None or unit.item is None:
            return (executor,) if live.run_gate is None else (live.run_gate, executor)
        map_gate = live.map_gates.get(unit.node.index)
        if map_gate is None:
            map_gate = live.map_gates[unit.node.index] = Gate(unit.node.id, bound)
        return (map_gate, executor) if live.run_gate is None else (map_gate, live.run_gate, executor)

    def _admitted(self, ticket: Ticket) -> None:
        live, unit = ticket.live, ticket.unit
        if ticket.guest:
            self._launch_guest(ticket)
        elif ticket.gates[-1].away:
            self._admitted_away(ticket)
        elif (live.careful or unit.node.options.at_most_once) and not ticket.recorded:
            ticket.recorded = True
            unit.launched = True
            started = inp.Started(unit.node.id, unit.item, ticket.attempt, self._now(), self._node)
            self._feeder.feed(live, started, then=lambda: self._launch(ticket))
        elif ticket.cancelled or live.closed or ticket.queue_timer is not None:
            self._launch(ticket)
        else:
            self._launcher.launch(ticket)

    def _admitted_away(self, ticket: Ticket) -> None:
        live, unit = ticket.live, ticket.unit
        if not unit.node.options.at_most_once:
            self._launch_away(ticket)
        elif unit.away:  # a former owner had recorded that
            if self.dispatcher.resume(ticket):
                self._launch_away(ticket)
        else:
            unit.launched = True
            started = inp.Started(
                unit.node.id, unit.item, ticket.attempt, self._now(), "", queue=unit.node.options.queue
            )
            self._feeder.feed(live, started, then=lambda: self._launch_away(ticket))

    def _launch_away(self, ticket: Ticket) -> None:
        if ticket.cancelled or ticket.live.closed:
            self._launch(ticket)
        else:
            self.dispatcher.launch(ticket)

    def _launch_guest(self, ticket: Ticket) -> None:
        self.guest_launcher.launch(ticket)

    def _launch(self, ticket: Ticket) -> None:
        if ticket.queue_timer is not None:
            ticket.queue_timer.cancel()
        if ticket.cancelled or ticket.live.closed:
            ticket.unit.launched = False
            self.finished(ticket)
            if not ticket.live.closed and not ticket.unit.done:
                unit = ticket.unit
                self._feeder.feed(ticket.live, inp.Cancelled(unit.node.id, unit.item, ticket.attempt, None))
            return
        self._launcher.launch(ticket)

    # ---- what ends ---------------------------------------------------------------------------------------------------

    def unwatch(self, live: LiveRun, unit: Unit) -> None:
        """The unit has ended: its bound is over, too. Code may make very many calls."""
        if unit.item is None and (timer := live.timers.pop(("task", unit.node.id), None)) is not None:
            timer.cancel()

    def finished(self, ticket: Ticket) -> None:
        """The attempt is over: free what it held."""
        ticket.unit.planned = False
        ticket.live.tickets.pop(ticket, None)
        self.gatekeeper.leave(ticket)

    def retract(self, live: LiveRun) -> None:
        """Withdraw what the run no longer wants: everything when it is being cancelled, what only waits when it is
        paused, and whatever belongs to units that have ended."""
        state = live.run.state
        everything = live.closed or (not live.run.launching and state is not RunState.PAUSED)
        for ticket in list(live.tickets):
            if ticket.unit.abandoned and live.run.done and not ticket.stopping:
                continue
            if ticket.away:
                self._retract_away(ticket, everything=everything)
                continue
            if ticket.task is not None:
                if everything or ticket.unit.done:
                    ticket.cancelled = True
                    self._launcher.stop(ticket)
            elif ticket.unit.launched:
                ticket.cancelled = everything or ticket.unit.done
            elif everything or state is RunState.PAUSED or ticket.unit.done:
                self._withdraw(ticket)
        if everything or state is RunState.PAUSED:
            for key in [key for key in live.timers if isinstance(key, Unit)]:
                live.timers.pop(key).cancel()

    def _retract_away(self, ticket: Ticket, *, everything: bool) -> None:
        live = ticket.live
        if live.closed:
            self.dispatcher.let_go(ticket)
        elif everything or ticket.unit.done:
            self.dispatcher.stop(ticket)
        elif live.run.state is RunState.PAUSED:
            self.dispatcher.hold(ticket)

    def stop_unit(self, live: LiveRun, unit: Unit) -> None:
        """Stop what a unit has under way; the run hears ``Cancelled`` when it has ended, at once if there is nothing."""
        timer = live.timers.pop(unit, None)
        if timer is not None:
            timer.cancel()
        for ticket in list(live.tickets):
            if ticket.unit is not unit:
                continue
            if ticket.away:
                self.dispatcher.stop(ticket)
                return
            if ticket.task is not None or unit.launched:
                ticket.cancelled = True
                self._launcher.stop(ticket)
                return
            self._withdraw(ticket)
        self._feeder.feed(live, inp.Cancelled(unit.node.id, unit.item, unit.attempt + 1, None))

    def _withdraw(self, ticket: Ticket) -> None:
        ticket.cancelled = True
        if ticket.queue_timer is not None:
            ticket.queue_timer.cancel()
        self.finished(ticket)

    def _waited_too_long(self, ticket: Ticket, bound: float) -> None:
        if ticket.task is not None or ticket.cancelled or ticket.live.closed:
            return
        failure = Failure("queue_timeout", f"the attempt waited for a slot for longer than its bound of {bound:g} s")
        if ticket.away:
            self.dispatcher.waited_too_long(ticket, failure)
            return
        if ticket.unit.launched:
            return
        self._withdraw(ticket)
        unit = ticket.unit
        self._feeder.feed(ticket.live, inp.Failed(unit.node.id, unit.item, ticket.attempt, None, failure))

    # ---- deadlines ---------------------------------------------------------------------------------------------------

    def _watch_task(self, live: LiveRun, unit: Unit) -> None:
        deadline = task_deadline(unit)
        key = ("task", unit.node.id)
        if deadline is not None and key not in live.timers:
            task = unit.node.id
            self.arm(live, key, deadline, lambda: self._feeder.feed(live, inp.TaskTimedOut(task)))

    def watch_external(self, live: LiveRun, unit: Unit) -> None:
        """Arm the bounds of an attempt that is completed from outside. A heartbeat moves them: it is looked at again
        when the time has come."""
        bound = external_deadline(unit)
        attempt = unit.attempt + 1
        key = ("external", unit.name, attempt)
        if bound is None or key in live.timers or live.closed:
            return

        def due() -> None:
            bound = external_deadline(unit)
            if bound is None or unit.attempt + 1 != attempt:
                return
            if bound[0] > self._now():
                self.watch_external(live, unit)
                return
            what = "was not completed" if bound[1] == "timeout" else "gave no heartbeat"
            failure = Failure(bound[1], f"the attempt {what} from outside within its bound")
            self._feeder.feed(live, inp.Failed(unit.node.id, unit.item, attempt, unit.started_at, failure))

        self.arm(live, key, bound[0], due)

    def arm(self, live: LiveRun, key: object, due: float, callback: Callable[[], None]) -> None:
        """Call back at a time, unless this node is done with the run by then."""

        def fire() -> None:
            live.timers.pop(key, None)
            if not live.closed:
                callback()

        live.timers[key] = Timer(asyncio.get_running_loop(), self._now, due, fire)
