"""Outcomes of attempts that were carried out elsewhere, from the inbox to the run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.contracts.outcome import encode_output
from headrace.contracts.ready import Outcome
from headrace.contracts.store import InboxRow
from headrace.core import inputs as inp
from headrace.core.ids import RunId, attempt_key
from headrace.core.run import REFERENCE_KEY, Run
from headrace.engine.away import AwayTask, input_of
from headrace.engine.live import LiveRun
from headrace.engine.outcomes import goes_elsewhere, load_value, normalise

if TYPE_CHECKING:
    from headrace.engine.dispatcher import Dispatcher
    from headrace.engine.node import Node


class Arrival(msgspec.Struct, frozen=True):
    """An outcome out of the inbox, with its output as the run keeps it."""

    id: int
    outcome: Outcome
    output: Any


class Arrivals:
    """One node's."""

    def __init__(self, node: Node, dispatcher: Dispatcher) -> None:
        self._node = node
        self._dispatcher = dispatcher

    async def prepare(self, run: Run, row: InboxRow) -> Arrival:
        """Bring an outcome's log and output to where the run keeps them, before it is applied. Safe to repeat. Raises
        what artifacts raise; the message stays then."""
        outcome = msgspec.convert(row.payload, Outcome)
        if outcome.log:
            await asyncio.to_thread(self._node.keep_log, RunId(run.run_id), outcome)
        return Arrival(row.id, outcome, await self._output(run, outcome))

    def receive(self, live: LiveRun, arrival: Arrival, then: Callable[[], None]) -> None:
        """Fold in the outcome of an attempt that was carried out elsewhere."""
        row, outcome, output = arrival, arrival.outcome, arrival.output
        key = attempt_key(live.run_id, outcome.task, outcome.item, outcome.attempt)
        self._dispatcher.found.pop(key, None)
        if live.closed:
            return
        ticket = self._dispatcher.forget(key)
        unit = live.run.unit(outcome.task, outcome.item)
        if unit is None or unit.done or unit.attempt + 1 != outcome.attempt:
            self._node.counts.late_outcomes += 1
            self._node.journal.append([], lambda _error: then(), inbox_id=row.id)
            return
        unit.launched = unit.planned = False
        if outcome.kind == "succeeded":
            self._dispatcher.preferences.remember(live, unit, outcome.worker)
        if outcome.kind == "unfit" and not live.inert and not isinstance(live.binding.bound[unit.node.index], AwayTask):
            self._dispatcher.routes.unfit.add((live.run.plan.version, unit.node.spec.id))
            self._node.journal.append([], lambda _error: then(), inbox_id=row.id)
            self._node.planner.plan(live, (unit,))
            return
        given = input_of(outcome, output, unit, cancelled=ticket is not None and ticket.cancelled)
        if given is None:  # it was stopped, but is wanted
            self._node.journal.append([], lambda _error: then(), inbox_id=row.id)
            self._node.planner.plan(live, (unit,))
            return
        if not isinstance(given, inp.Started):
            self._node.decider.feed(live, given, inbox_id=row.id, then=then)
            return

        def recorded() -> None:
            then()
            self._node.planner.watch_external(live, unit)

        self._node.decider.feed(live, given, inbox_id=row.id, then=recorded)

    async def _output(self, run: Run, outcome: Outcome) -> Any:
        """The output as this run keeps it."""
        output = outcome.output
        if outcome.stored:
            if run.keeps_references:
                return output
            return await asyncio.to_thread(load_value, self._node.artifacts, output[REFERENCE_KEY])
        if not run.keeps_references or output is None or isinstance(output, (bool, int, float)):
            return output
        if not goes_elsewhere(encode_output(output)):
            return output
        return await asyncio.to_thread(normalise, output, self._node.artifacts.put)
