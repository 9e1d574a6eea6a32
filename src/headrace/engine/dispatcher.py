"""Gives attempts to other nodes and workers: those whose queue or labels this node does not serve, and those it has no
room for while others have.

The owner decides everything: an attempt is offered after it has passed its run's limits, which it goes on holding, so
limits hold across nodes. Offers are bounded by what the others can carry and refilled as outcomes come; a huge fan-out
never floods the table. What is on offer follows from the run's state and nothing else: if the process dies anywhere
here, the next owner offers again under the same keys, and finds claims and outcomes that were made meanwhile.

- Which attempts go, and how many at once, is the business of :mod:`headrace.engine.routes`.
- The outcome comes through the inbox and is folded in like any other (:mod:`headrace.engine.arrivals`).
- Bells and outcomes keep it going; a slow check, only while something is away, heals what was lost: rows, rings,
  claimers (:mod:`headrace.engine.lookout`).
- ``at_most_once``: that it is on offer is recorded first. If its row is gone then without an outcome, it counts as
  lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from headrace.contracts.outcome import failure_of
from headrace.contracts.ready import Offer, Standing, outcome_kind, run_of
from headrace.core import inputs as inp
from headrace.core.errors import Fenced, HeadraceError, StoreError, TemplateError
from headrace.core.events import Failure
from headrace.engine.arrivals import Arrivals
from headrace.engine.away import key_of
from headrace.engine.gates import Ticket
from headrace.engine.lookout import Lookout
from headrace.engine.offers import offer_of
from headrace.engine.preferences import Preferences
from headrace.engine.routes import Routes

if TYPE_CHECKING:
    from headrace.engine.node import Node

logger = logging.getLogger("headrace.dispatcher")

OFFER_BATCH = 200


class Dispatcher:
    """One node's attempts on offer."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.routes = Routes(node)
        self.preferences = Preferences(node, self)
        self.arrivals = Arrivals(node, self)
        self.away: dict[str, Ticket] = {}
        """Tickets that passed the gate of their queue, by key, until their outcome."""
        self.waiting: list[Ticket] = []
        """Those of them that are not in the store yet."""
        self.told: dict[str, int] = {}
        """The delivery of each that its run has been told of."""
        self.found: dict[str, Standing] = {}
        """What a former owner had on offer, of runs that are being taken over."""
        self.settled = asyncio.Event()
        """Set while nothing is just being offered."""
        self.settled.set()
        self.lookout = Lookout(node, self)

    # ---- offering ------------------------------------------------------------------------------------------------------

    def stands(self, key: str) -> bool:
        """Whether a former owner had put this attempt on offer, and it still is."""
        return key in self.found

    def launch(self, ticket: Ticket) -> None:
        """Put an attempt on offer that passed its gates."""
        ticket.away = True
        ticket.unit.launched = True
        key = key_of(ticket)
        self.away[key] = ticket
        self.lookout.wake()
        if self.found.pop(key, None) is not None:
            return  # it is on offer, or claimed
        self.waiting.append(ticket)
        if self.settled.is_set():
            self.settled.clear()
            self._node.spawn(self.offer_waiting(), "headrace-offer")

    async def offer_waiting(self) -> None:
        """Put everything on offer that waits for it; only while nobody else does: see ``settled``."""
        self.settled.clear()
        try:
            with contextlib.suppress(HeadraceError):  # then they are as they were
                await self.routes.peers.refresh_if_old()
            while self.waiting and not self._node.stopping:
                batch, self.waiting = self.waiting[:OFFER_BATCH], self.waiting[OFFER_BATCH:]
                await self.offer(batch)
        finally:
            self.settled.set()

    async def offer(self, tickets: list[Ticket]) -> None:
        """Put attempts on offer that are still wanted; one that cannot be offered fails. Where the store cannot be
        reached, the slow check offers them again."""
        offers: list[Offer] = []
        waiting: list[tuple[Ticket, dict[str, str]]] = []
        for ticket in tickets:
            if not self.is_wanted(ticket):
                continue
            prefer: dict[str, str] | None = None
            if ticket.unit.node.prefers:
                is_here, prefer = self.preferences.settle(ticket)
                if is_here:
                    self._bring_home(ticket)
                    continue
            try:
                offers.append(await offer_of(self._node, ticket, prefer))
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

    def is_wanted(self, ticket: Ticket) -> bool:
        """A ticket may have been cancelled while it waited to be offered; whoever did that looks for it in the
        store."""
        return self.away.get(key_of(ticket)) is ticket and not ticket.cancelled and not ticket.live.closed

    def _bring_home(self, ticket: Ticket) -> None:
        """Let an attempt that nobody else has wait for a slot here."""
        key = key_of(ticket)
        self.told.pop(key, None)
        self.away.pop(key, None)
        ticket.away = ticket.unit.launched = False
        planner = self._node.planner
        executor = ticket.live.binding.bound[ticket.unit.node.index].executor

        def enter() -> None:
            if not ticket.cancelled and not ticket.live.closed:
                planner.gatekeeper.reroute(ticket, planner.gate_of(executor))
                self.lookout.wake()

        self._was_nobodys(ticket, enter)

    async def open_to_all(self, tickets: list[Ticket]) -> None:
        """The time that attempts waited for processes that they prefer is over: those that this node could carry out,
        too, come home unless somebody has claimed them; whoever serves the others is woken."""
        mine = [ticket for ticket in tickets if self.is_wanted(ticket)]
        home = [ticket for ticket in mine if self.routes.is_served_here(ticket)]
        for queue in {ticket.unit.node.options.queue for ticket in mine if not self.routes.is_served_here(ticket)}:
            self._node.waker.queue_ready(queue)
        if home:
            await self.withdraw(home, stop=False, home=True)
            self.routes.spill(self._node.planner.executor_gates())

    def resume(self, ticket: Ticket) -> bool:
        """For ``at_most_once`` attempts that a former owner had put on offer: True if it still stands. If it does not,
        nobody knows whether it has begun."""
        if self.stands(key_of(ticket)):
            return True
        self._fail(
            ticket, Failure("lost", "the offer is gone, and an at-most-once task is never run again", retryable=False)
        )
        return False

    # ---- ends --------------------------------------------------------------------------------------------------------

    def forget(self, key: str) -> Ticket | None:
        """The attempt is over, or no longer ours to follow."""
        self.told.pop(key, None)
        ticket = self.away.pop(key, None)
        if ticket is not None:
            self._node.planner.finished(ticket)
            self.routes.spill(self._node.planner.executor_gates())
        return ticket

    def _fail(self, ticket: Ticket, failure: Failure) -> None:
        unit = ticket.unit
        self.forget(key_of(ticket))
        if not ticket.live.closed:
            unit.launched = False
            self._node.decider.feed(ticket.live, inp.Failed(unit.node.id, unit.item, ticket.attempt, None, failure))

    # ---- what is no longer wanted --------------------------------------------------------------------------------------

    def let_go(self, ticket: Ticket) -> None:
        """This node no longer owns the run: its next owner finds what is on offer."""
        self.told.pop(key_of(ticket), None)
        self.away.pop(key_of(ticket), None)
        self._node.planner.finished(ticket)

    def stop(self, ticket: Ticket) -> None:
        """The run no longer wants the attempt. It hears ``Cancelled`` once nobody carries it out any more."""
        if not ticket.cancelled:
            ticket.cancelled = True
            self._node.spawn(self.withdraw([ticket], stop=True), "headrace-withdraw")

    def hold(self, ticket: Ticket) -> None:
        """The run is paused: take the attempt back unless somebody has claimed it."""
        self._node.spawn(self.withdraw([ticket], stop=False), "headrace-withdraw")

    def waited_too_long(self, ticket: Ticket, failure: Failure) -> None:
        """The attempt waited too long, unless somebody has claimed it."""
        self._node.spawn(self.withdraw([ticket], stop=False, failure=failure), "headrace-withdraw")

    async def withdraw(
        self, tickets: list[Ticket], *, stop: bool, failure: Failure | None = None, home: bool = False
    ) -> None:
        """Take attempts back that nobody has claimed: they fail with ``failure``, come ``home`` or are offered again,
        hear ``Cancelled`` if they are, or are planned anew. With ``stop`` whoever has claimed one is told to stop."""
        by_key = {key_of(ticket): ticket for ticket in tickets}
        await self.settled.wait()  # one that is just being offered would come after its withdrawal
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
            if self.away.get(key) is ticket and (run_of(key), outcome_kind(key)) not in told
        )
        again: list[Ticket] = []
        for ticket in gone:
            if home and self.is_wanted(ticket) and ticket.live.run.launching:
                if self.routes.is_served_here(ticket):
                    self._bring_home(ticket)
                else:
                    again.append(ticket)
            else:
                self._took_back(ticket, failure)
        if again:
            await self.offer(again)

    def _took_back(self, ticket: Ticket, failure: Failure | None) -> None:
        """Nobody carries the attempt out, and nobody will."""
        unit = ticket.unit
        self.forget(key_of(ticket))
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
