"""Gives attempts to other nodes and workers: those whose queue or labels this node does not serve, and those it has no
room for while others have.

The owner decides everything: an attempt is offered after it has passed its run's limits, which it goes on holding, so
limits hold across nodes. Offers are bounded by what the others can carry and refilled as outcomes come; a huge fan-out
never floods the table. What is on offer follows from the run's state and nothing else: if the process dies anywhere
here, the next owner offers again under the same keys, and finds claims and outcomes that were made meanwhile.

- The outcome comes through the inbox and is folded in like any other; see :meth:`Dispatcher.receive`.
- Bells and outcomes keep it going; a slow check (:data:`CHECK_SECONDS`, only while something is away) heals what was
  lost: rows, rings, claimers.
- ``at_most_once``: that it is on offer is recorded first. If its row is gone then without an outcome, it counts as
lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.contracts.converters import to_plain
from headrace.contracts.database import DATABASE
from headrace.contracts.outcome import encode_output, failure_of
from headrace.contracts.ready import Call, Offer, Outcome, Standing, outcome_kind, run_of
from headrace.contracts.store import InboxRow
from headrace.core import inputs as inp
from headrace.core.effects import is_launchable
from headrace.core.errors import Fenced, HeadraceError, StoreError, TemplateError
from headrace.core.events import Failure
from headrace.core.expressions import NeedValue
from headrace.core.ids import RunId, attempt_key
from headrace.core.plan import render_call
from headrace.core.run import REFERENCE_KEY, Run
from headrace.core.spec import TaskSpec
from headrace.core.states import RunState
from headrace.engine.away import AwayTask, executor_of, input_of, key_of, unit_of
from headrace.engine.gates import Gate, QueueGate, Ticket, away_name, queue_of
from headrace.engine.live import LiveRun
from headrace.engine.outcomes import INLINE_BYTES_MAX, load_value, normalise
from headrace.engine.peers import Peers
from headrace.engine.preferences import Preferences, prefer_seconds

if TYPE_CHECKING:
    from headrace.engine.node import Node

logger = logging.getLogger("headrace.dispatcher")

CHECK_SECONDS = 2.0
"""How often a node that has attempts on offer looks after them."""

OFFERS_MIN, OFFERS_MAX = 100, 2_000
"""Bounds of what one node has on offer at once in one queue, per executor. Between them: twice what the others have
slots for, so that each finds its next attempt waiting when one ends."""

OFFER_BATCH = 200
CALL_BYTES_MAX = 16 * 1024 * 1024
"""The largest call that is offered: its arguments travel through the store."""


class Arrival(msgspec.Struct, frozen=True):
    """An outcome out of the inbox, with its output as the run keeps it."""

    id: int
    outcome: Outcome
    output: Any


class Dispatcher:
    """One node's attempts on offer."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.peers = Peers(node)
        self.preferences = Preferences(node, self)
        self._away: dict[str, Ticket] = {}
        """Tickets that passed the gate of their queue, by key, until their outcome."""
        self._waiting: list[Ticket] = []
        """Those of them that are not in the store yet."""
        self._told: dict[str, int] = {}
        """The delivery of each that its run has been told of."""
        self.found: dict[str, Standing] = {}
        """What a former owner had on offer, of runs that are being taken over."""
        self._gates: dict[str, QueueGate] = {}
        self._unfit: set[tuple[str, str]] = set()
        """Tasks (version, name) that others cannot carry out: they stay here."""
        self._settled = asyncio.Event()
        """Set while nothing is just being offered."""
        self._settled.set()
        self._wake = asyncio.Event()

    # ---- which go ------------------------------------------------------------------------------------------------------

    def gate(self, queue: str, executor: str) -> QueueGate:
        """The gate of a queue that is served elsewhere, for the attempts that take this executor's slots there."""
        name = away_name(queue, executor)
        gate = self._gates.get(name)
        if gate is None:
            gate = self._gates[name] = QueueGate(name, OFFERS_MIN)
            gate.slots = self._bound(name)
        return gate

    def _bound(self, name: str) -> int:
        queue, executor = queue_of(name)
        return min(OFFERS_MAX, max(OFFERS_MIN, 2 * self.peers.slots(queue, executor)))

    def stands(self, key: str) -> bool:
        """Whether a former owner had put this attempt on offer, and it still is."""
        return key in self.found

    def spill(self, gates: Iterable[Gate]) -> None:
        """Offer attempts that wait for a slot here to others that have some."""
        for gate in gates:
            if not gate.waiting or gate.away or gate.name == DATABASE:
                continue
            for queue, room in self.peers.spare(gate.name).items():
                target = self.gate(queue, gate.name)
                more = min(2 * room, OFFERS_MAX) - target.inside
                if more > 0:
                    for ticket in gate.take(more, lambda ticket, queue=queue: self._may_go(ticket, queue)):
                        ticket.gates = (*ticket.gates[:-1], target)
                        self._node.planner.gatekeeper.enter(ticket)

    def _may_go(self, ticket: Ticket, queue: str) -> bool:
        if ticket.guest:
            return False
        spec = ticket.unit.node.spec
        return (
            spec.queue == queue
            and not self.preferences.is_waiting(ticket)
            and self.peers.serve(queue, spec.needs_labels)
            and self.is_portable(ticket)
        )

    def is_portable(self, ticket: Ticket) -> bool:
        """Whether the attempt may be carried out by others at all."""
        live, node = ticket.live, ticket.unit.node
        bound = live.binding.bound[node.index]
        return (
            (live.run.plan.version, node.spec.id) not in self._unfit
            and bound.executor != DATABASE
            and getattr(bound, "portable", True)
        )

    # ---- offering ------------------------------------------------------------------------------------------------------

    def launch(self, ticket: Ticket) -> None:
        """Put an attempt on offer that passed its gates."""
        ticket.away = True
        ticket.unit.launched = True
        key = key_of(ticket)
        self._away[key] = ticket
        self._wake.set()
        if self.found.pop(key, None) is not None:
            return  # it is on offer, or claimed
        self._waiting.append(ticket)
        if self._settled.is_set():
            self._settled.clear()
            self._node.spawn(self._offer_waiting(), "headrace-offer")

    async def _offer_waiting(self) -> None:
        try:
            await self.peers.refresh_if_old()
            while self._waiting and not self._node.stopping:
                batch, self._waiting = self._waiting[:OFFER_BATCH], self._waiting[OFFER_BATCH:]
                await self._offer(batch)
        finally:
            self._settled.set()

    async def _offer(self, tickets: list[Ticket]) -> None:
        offers: list[Offer] = []
        waiting: list[tuple[Ticket, dict[str, str]]] = []
        for ticket in tickets:
            if not self._is_wanted(ticket):
                continue
            prefer: dict[str, str] | None = None
            if ticket.unit.node.prefers:
                is_here, prefer = self.preferences.settle(ticket)
                if is_here:
                    self._bring_home(ticket)
                    continue
            try:
                offers.append(await self._offer_of(ticket, prefer))
                if prefer is not None:
                    waiting.append((ticket, prefer))
            except (TemplateError, HeadraceError) as error:
                failure = (
                    Failure("template", error.message, retryable=False)
                    if isinstance(error, TemplateError)
                    else failure_of(error)
                )
                self._fail(ticket, failure)
            except Exception as error:
                self._fail(ticket, failure_of(error))
        if not offers:
            return
        try:
            await self._node.store.offer(self._node.id, self._node.epoch, offers)
        except Fenced:
            return  # the journal will hear of it, too
        except StoreError as error:
            logger.warning("attempts could not be offered; it is tried again", extra={"error": str(error)})
            return  # the slow check misses them and offers again
        for queue in {one.queue for one in offers}:
            self._node.waker.queue_ready(queue)
        for ticket, prefer in waiting:
            self.preferences.offered(ticket, prefer)

    def _is_wanted(self, ticket: Ticket) -> bool:
        """A ticket may have been cancelled while it waited to be offered; whoever did that looks for it in the
        store."""
        return self._away.get(key_of(ticket)) is ticket and not ticket.cancelled and not ticket.live.closed

    async def _offer_of(self, ticket: Ticket, prefer: dict[str, str] | None) -> Offer:
        live, unit = ticket.live, ticket.unit
        run, node = live.run, unit.node
        spec: TaskSpec = node.spec
        while True:
            try:
                config, args = (
                    (spec.config, spec.args) if node.has_constant_call else render_call(node, run.scope_for(unit))
                )
                break
            except NeedValue as need:
                run.values[need.digest] = await asyncio.to_thread(load_value, self._node.artifacts, need.digest)
        call = Call(
            run_id=run.run_id,
            workflow=run.plan.spec.name,
            version=run.plan.version,
            task=msgspec.structs.replace(spec, config=config, args=args, needs=(), when=None, map=msgspec.UNSET),
            attempt=ticket.attempt,
            item=unit.item,
            source_dir=run.source_dir,
            run_tags=dict(run.tags),
            headers=run.headers if node.headers is None else node.headers,
            place=self._node.place(),
            details=unit.details,
        )
        data = msgspec.json.encode(call, enc_hook=to_plain)
        if len(data) > CALL_BYTES_MAX:
            raise HeadraceError(
                f"the arguments are {len(data):,} bytes; {CALL_BYTES_MAX:,} at most travel to another node",
                hint="pass the path or address of a file instead",
            )
        return Offer(
            key=key_of(ticket),
            queue=spec.queue,
            call=data,
            executor=executor_of(live.binding.bound[node.index]),
            labels=spec.needs_labels,
            priority=spec.priority,
            at_most_once=spec.at_most_once,
            prefer=prefer,
            prefer_seconds=prefer_seconds(spec),
        )

    def is_served_here(self, ticket: Ticket) -> bool:
        """Whether this node could carry the attempt out, too."""
        return not isinstance(ticket.live.binding.bound[ticket.unit.node.index], AwayTask)

    def _bring_home(self, ticket: Ticket) -> None:
        """Let an attempt that nobody else has wait for a slot here."""
        key = key_of(ticket)
        self._told.pop(key, None)
        self._away.pop(key, None)
        ticket.away = ticket.unit.launched = False
        planner = self._node.planner
        executor = ticket.live.binding.bound[ticket.unit.node.index].executor

        def enter() -> None:
            if not ticket.cancelled and not ticket.live.closed:
                planner.gatekeeper.reroute(ticket, planner.gate_of(executor))
                self.wake()

        self._was_nobodys(ticket, enter)

    async def open_to_all(self, tickets: list[Ticket]) -> None:
        """The time that attempts waited for processes that they prefer is over: those that this node could carry out,
        too, come home unless somebody has claimed them; whoever serves the others is woken."""
        mine = [ticket for ticket in tickets if self._is_wanted(ticket)]
        home = [ticket for ticket in mine if self.is_served_here(ticket)]
        for queue in {ticket.unit.node.options.queue for ticket in mine if not self.is_served_here(ticket)}:
            self._node.waker.queue_ready(queue)
        if home:
            await self._withdraw(home, stop=False, home=True)
            self.spill(self._node.planner.executor_gates())

    def resume(self, ticket: Ticket) -> bool:
        """For ``at_most_once`` attempts that a former owner had put on offer: True if it still stands. If it does not,
        nobody knows whether it has begun."""
        if self.stands(key_of(ticket)):
            return True
        self._fail(
            ticket, Failure("lost", "the offer is gone, and an at-most-once task is never run again", retryable=False)
        )
        return False

    # ---- outcomes ------------------------------------------------------------------------------------------------------

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
        self.found.pop(key, None)
        if live.closed:
            return
        ticket = self._forget(key)
        unit = live.run.unit(outcome.task, outcome.item)
        if unit is None or unit.done or unit.attempt + 1 != outcome.attempt:
            self._node.counts.late_outcomes += 1
            self._node.journal.append([], lambda _error: then(), inbox_id=row.id)
            return
        unit.launched = unit.planned = False
        if outcome.kind == "succeeded":
            self.preferences.remember(live, unit, outcome.worker)
        if outcome.kind == "unfit" and not live.inert and not isinstance(live.binding.bound[unit.node.index], AwayTask):
            self._unfit.add((live.run.plan.version, unit.node.spec.id))
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
        if len(encode_output(output)) <= INLINE_BYTES_MAX:
            return output
        return await asyncio.to_thread(normalise, output, self._node.artifacts.put)

    def _forget(self, key: str) -> Ticket | None:
        """The attempt is over, or no longer ours to follow."""
        self._told.pop(key, None)
        ticket = self._away.pop(key, None)
        if ticket is not None:
            self._node.planner.finished(ticket)
            self.spill(self._node.planner.executor_gates())
        return ticket

    def _fail(self, ticket: Ticket, failure: Failure) -> None:
        unit = ticket.unit
        self._forget(key_of(ticket))
        if not ticket.live.closed:
            unit.launched = False
            self._node.decider.feed(ticket.live, inp.Failed(unit.node.id, unit.item, ticket.attempt, None, failure))

    # ---- what is no longer wanted --------------------------------------------------------------------------------------

    def let_go(self, ticket: Ticket) -> None:
        """This node no longer owns the run: its next owner finds what is on offer."""
        self._told.pop(key_of(ticket), None)
        self._away.pop(key_of(ticket), None)
        self._node.planner.finished(ticket)

    def stop(self, ticket: Ticket) -> None:
        """The run no longer wants the attempt. It hears ``Cancelled`` once nobody carries it out any more."""
        if not ticket.cancelled:
            ticket.cancelled = True
            self._node.spawn(self._withdraw([ticket], stop=True), "headrace-withdraw")

    def hold(self, ticket: Ticket) -> None:
        """The run is paused: take the attempt back unless somebody has claimed it."""
        self._node.spawn(self._withdraw([ticket], stop=False), "headrace-withdraw")

    def waited_too_long(self, ticket: Ticket, failure: Failure) -> None:
        """The attempt waited too long, unless somebody has claimed it."""
        self._node.spawn(self._withdraw([ticket], stop=False, failure=failure), "headrace-withdraw")

    async def _withdraw(
        self, tickets: list[Ticket], *, stop: bool, failure: Failure | None = None, home: bool = False
    ) -> None:
        by_key = {key_of(ticket): ticket for ticket in tickets}
        await self._settled.wait()  # one that is just being offered would come after its withdrawal
        claimed = await self._node.store.withdraw(self._node.id, self._node.epoch, list(by_key), stop=stop)
        for key, bell in claimed:
            by_key.pop(key, None)
            if stop:
                self._node.waker.ring(bell)
        if not by_key:
            return
        told = {
            (row.run_id, row.kind)
            for row in await self._node.store.inbox(list({run_of(key) for key in by_key}), self._node.id)
        }
        gone = (  # the outcomes of others are on their way
            ticket
            for key, ticket in by_key.items()
            if self._away.get(key) is ticket and (run_of(key), outcome_kind(key)) not in told
        )
        again: list[Ticket] = []
        for ticket in gone:
            if home and self._is_wanted(ticket) and ticket.live.run.launching:
                if self.is_served_here(ticket):
                    self._bring_home(ticket)
                else:
                    again.append(ticket)
            else:
                self._took_back(ticket, failure)
        if again:
            await self._offer(again)

    def _took_back(self, ticket: Ticket, failure: Failure | None) -> None:
        """Nobody carries the attempt out, and nobody will."""
        unit = ticket.unit
        self._forget(key_of(ticket))
        unit.launched = False
        if ticket.live.closed:
            return
        if failure is not None:
            self._node.decider.feed(ticket.live, inp.Failed(unit.node.id, unit.item, ticket.attempt, None, failure))
        elif ticket.cancelled:
            self._node.decider.feed(ticket.live, inp.Cancelled(unit.node.id, unit.item, ticket.attempt, None))
        else:
            self._was_nobodys(ticket, lambda: self._node.planner.plan(ticket.live, (unit,)))

    def _was_nobodys(self, ticket: Ticket, then: Callable[[], None]) -> None:
        """Nobody has begun an attempt that was on offer. If that it was is recorded, so is this, before it goes on: an
        ``at_most_once`` attempt whose offer is gone counts as lost."""
        unit = ticket.unit
        if unit.away:
            self._node.decider.feed(ticket.live, inp.Interrupted(unit.node.id, unit.item, ticket.attempt), then=then)
        else:
            then()

    # ---- looking after -------------------------------------------------------------------------------------------------

    async def recall(self, run_id: RunId) -> None:
        """Find what a former owner of a run had on offer, before anything of it is planned."""
        prefix = f"{run_id}/"
        for row in await self._node.store.offered(self._node.id):
            if row.key.startswith(prefix) and row.key not in self._away:
                self.found[row.key] = row

    async def serve(self) -> None:
        """Look after what is away, while there is something; and after the others, while something waits here."""
        while True:
            if not self._is_busy():
                self._wake.clear()
                await self._wake.wait()
            try:
                await self.peers.refresh_if_old()
                for name, gate in self._gates.items():
                    self._widen(gate, self._bound(name))
                self.spill(self._node.planner.executor_gates())
                await asyncio.sleep(CHECK_SECONDS)
                if self._away or self.found:
                    await self.check()
            except HeadraceError as error:
                logger.warning("looking after attempts on offer failed", extra={"error": str(error)})

    def wake(self) -> None:
        """Attempts wait for a slot: others may have some."""
        if not self._wake.is_set():
            self._wake.set()

    def _is_busy(self) -> bool:
        return bool(self._away or self.found) or any(gate.waiting for gate in self._node.planner.executor_gates())

    def _widen(self, gate: QueueGate, slots: int) -> None:
        more = slots - (gate.slots or 0)
        gate.slots = slots
        if more > 0:
            self._node.planner.gatekeeper.admit(gate)

    async def check(self) -> None:
        """Compare what should be on offer with what is; tell runs who carries their attempts out."""
        node = self._node
        await node.watchdog.mind_offers()
        in_vain = self.preferences.in_vain()
        if in_vain:
            await self._withdraw(in_vain, stop=False, home=True)
        expected = dict(self._away)
        waiting = {key_of(ticket) for ticket in self._waiting}
        rows = {row.key: row for row in await node.store.offered(node.id)}
        told = {(row.run_id, row.kind) for row in await node.store.inbox(None, node.id)}
        missing = [
            ticket
            for key, ticket in expected.items()
            if key not in rows
            and key not in waiting
            and self._is_wanted(ticket)
            and (run_of(key), outcome_kind(key)) not in told
        ]
        if missing and self._settled.is_set():
            again = [ticket for ticket in missing if not ticket.unit.node.options.at_most_once]
            for ticket in missing:
                if ticket.unit.node.options.at_most_once:
                    self.resume(ticket)
            await self._offer(again)
        for key, row in rows.items():
            ticket = self._away.get(key)
            if ticket is not None:
                self._tell(ticket, row)
        unwanted = [ticket for ticket in self._away.values() if ticket.cancelled]
        if unwanted:
            await self._withdraw(unwanted, stop=True)
        await self._clear_away(rows)
        waiting_in = {
            self._away[key].unit.node.options.queue
            for key, row in rows.items()
            if row.worker is None and key in self._away
        }
        for queue in waiting_in:
            self._node.waker.queue_ready(queue)  # a wake-up may have been lost

    def _tell(self, ticket: Ticket, row: Standing) -> None:
        """Record who has claimed an attempt that takes long, and what its heartbeats say."""
        unit, live = ticket.unit, ticket.live
        if row.worker is None or live.closed or ticket.cancelled or unit.done:
            return
        if self._told.get(row.key) != row.delivery:
            self._told[row.key] = row.delivery
            at = row.claimed_at if row.claimed_at is not None else self._node.now()
            started = inp.Started(
                unit.node.id, unit.item, ticket.attempt, at, row.worker, queue=unit.node.options.queue
            )
            self._node.decider.feed(live, started)
        if row.details is not None and row.details != ticket.details_told:
            ticket.details_told = row.details
            details = msgspec.json.decode(row.details)
            self._node.decider.feed(live, inp.Heartbeat(unit.node.id, unit.item, ticket.attempt, details))

    async def _clear_away(self, rows: dict[str, Standing]) -> None:
        """Withdraw what no run wants any more: left by a former owner, or by a commit that came in between."""
        stale: list[str] = []
        for key in rows:
            live = self._node.live.get(run_of(key))
            if live is None or key in self._away or live.run.state is RunState.PAUSED:
                continue
            unit = unit_of(live, key)
            if unit is None or unit.done or not is_launchable(unit) or not live.run.launching:
                stale.append(key)
        if stale:
            for _, bell in await self._node.store.withdraw(self._node.id, self._node.epoch, stale):
                self._node.waker.ring(bell)
        for key in list(self.found):
            if key not in rows or run_of(key) not in self._node.live:
                del self.found[key]
