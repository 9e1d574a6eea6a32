"""Which of those who may carry an attempt out should: the soft half of routing.

A task is *sticky* (it prefers the process that carried out what came before, and has its files and caches), or prefers
*labels*. A preferred process that is not up is not waited for at all; one that is full, slow or just lost is waited for
``prefer_for`` seconds, or until it is known to be gone. Then anybody who may has it. So a preference costs a bounded
delay at worst. Where tasks ran is remembered by the run's owner alone (:attr:`LiveRun.places`), and is lost with it.

Ideas: Temporal's sticky queues (a short bound, then everybody), Ray's label for each node's own name, Kubernetes'
``preferredDuringScheduling``. Two choices are enough here; there are no weights.

- This node is preferred: the attempt waits for a slot here, and is not spilled before its time is over.
- Others are, and this node may carry it out too: it is offered to them, and taken back when its time is over.
- Others are, and this node may not: it is offered to them, and to all others when its time is over. The store does that,
  by its own clock; the owner wakes those who wait.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from headrace.contracts.ready import labels_of
from headrace.core.errors import HeadraceError
from headrace.core.run import Unit
from headrace.core.spec import NODE_LABEL, PREFER_SECONDS_DEFAULT, TaskSpec

if TYPE_CHECKING:
    from headrace.engine.dispatcher import Dispatcher
    from headrace.engine.gates import Ticket
    from headrace.engine.live import LiveRun
    from headrace.engine.node import Node

PLACES_MAX = 1_000
"""Tasks of one run of which it is remembered where they were carried out; the oldest are forgotten first."""

CALLS_LOOKED_AT = 100
"""How far back a call of workflow code looks for the one that ended last."""

RETRY_SECONDS = 1.0
"""Between two tries to take attempts back."""

Labels = dict[str, str]

logger = logging.getLogger("headrace.preferences")


class Choice(NamedTuple):
    """``is_here``: this node is to carry it out. ``prefer``: labels of those who may have it at once, None for
    everybody."""

    is_here: bool
    prefer: Labels | None


EVERYBODY = Choice(False, None)


def prefer_seconds(spec: TaskSpec) -> float:
    """How long a task waits for a process that it prefers."""
    return PREFER_SECONDS_DEFAULT if spec.prefer_for is None else spec.prefer_for


class Preferences:
    """One node's."""

    def __init__(self, node: Node, dispatcher: Dispatcher) -> None:
        self._node = node
        self._dispatcher = dispatcher
        self._routes = dispatcher.routes
        self._waiting: dict[Ticket, Labels] = {}
        """Those on offer to whom they prefer, which has these labels."""
        self._over: list[Ticket] = []
        """Their time is over, and nobody has said yet that somebody has claimed them."""

    # ---- where an attempt goes ---------------------------------------------------------------------------------------

    def choose(self, ticket: Ticket) -> None:
        """Send a new ticket to the slots of this node or to others, by what is remembered. What is known of the others
        may be old: :meth:`settle` asks again."""
        gate = ticket.gates[-1]
        if gate.away or not self._routes.is_portable(ticket):
            return
        for wish in _wishes(ticket.live, ticket.unit, self._node.id):
            if self._has(wish):
                self._begin(ticket)
            else:
                ticket.gates = (*ticket.gates[:-1], self._routes.gate(ticket.unit.node.options.queue, gate.name))
            return

    def settle(self, ticket: Ticket) -> Choice:
        """Where an attempt that is about to be offered goes, as the others are now. It is asked once per attempt: one
        that has waited for a process that it preferred does not wait again."""
        if ticket.prefer_until:
            return EVERYBODY
        spec = ticket.unit.node.spec
        is_served = self._routes.is_served_here(ticket)
        self._begin(ticket)
        for wish in _wishes(ticket.live, ticket.unit, self._node.id):
            if self._has(wish):
                if is_served:
                    return Choice(True, None)
            elif self._routes.peers.serve(spec.queue, {**spec.needs_labels, **wish}):
                return Choice(False, wish)
        ticket.prefer_until = time.monotonic()  # nobody to wait for
        return Choice(is_served, None)

    def is_waiting(self, ticket: Ticket) -> bool:
        """Whether the ticket still waits for a process that it prefers."""
        return ticket.prefer_until > time.monotonic()

    def _begin(self, ticket: Ticket) -> None:
        ticket.prefer_until = time.monotonic() + prefer_seconds(ticket.unit.node.spec)

    def _has(self, wish: Labels) -> bool:
        return wish.items() <= labels_of(self._node.id, self._node.options.labels).items()

    # ---- when its time is over ---------------------------------------------------------------------------------------

    def offered(self, ticket: Ticket, prefer: Labels) -> None:
        """The attempt is on offer to those it prefers: look after it when its time is over."""
        self._waiting[ticket] = prefer
        seconds = max(0.0, ticket.prefer_until - time.monotonic())
        asyncio.get_running_loop().call_later(seconds, self._time_is_over, ticket)

    def in_vain(self) -> list[Ticket]:
        """Attempts on offer to processes that are not up any more. Those of ``at_most_once`` tasks wait until their time
        is over: between taking them back and offering them again, a crash would lose them."""
        found: list[Ticket] = []
        for ticket, prefer in list(self._waiting.items()):
            spec = ticket.unit.node.spec
            if not self._routes.peers.serve(spec.queue, {**spec.needs_labels, **prefer}) and not spec.at_most_once:
                del self._waiting[ticket]
                ticket.prefer_until = time.monotonic()
                found.append(ticket)
        return found

    def _time_is_over(self, ticket: Ticket) -> None:
        self._waiting.pop(ticket, None)
        self._over.append(ticket)
        if len(self._over) == 1 and not self._node.stopping:
            self._node.spawn(self._open(), "headrace-preferences")

    async def _open(self) -> None:
        tickets, self._over = self._over, []
        try:
            await self._dispatcher.open_to_all(tickets)
        except HeadraceError as error:  # the store is open to all of them by now; home they come a little later
            logger.warning("attempts could not be taken back; it is tried again", extra={"error": str(error)})
            for ticket in tickets:
                asyncio.get_running_loop().call_later(RETRY_SECONDS, self._time_is_over, ticket)

    # ---- what is remembered ------------------------------------------------------------------------------------------

    def remember(self, live: LiveRun, unit: Unit, worker: str) -> None:
        """A task has succeeded elsewhere."""
        places = live.places
        places.pop(unit.node.id, None)
        places[unit.node.id] = worker
        if len(places) > PLACES_MAX:
            del places[next(iter(places))]


def _wishes(live: LiveRun, unit: Unit, here: str) -> Iterator[Labels]:
    """What a task prefers, best first."""
    spec = unit.node.spec
    if spec.sticky:
        place = _place_before(live, unit, here)
        if place is not None:
            yield {NODE_LABEL: place}
    if spec.prefer_labels:
        yield spec.prefer_labels


def _place_before(live: LiveRun, unit: Unit, here: str) -> str | None:
    """The process that carried out what ended last of what the task needs, or of all that the code has called; None if
    nothing came before."""
    run = live.run
    before = (
        run.tasks[-CALLS_LOOKED_AT:]
        if live.binding.code is not None
        else [run.tasks[run.plan.by_id[need].index] for need in unit.node.spec.needs]
    )
    ended = [(other.ended_at, other.node.id) for other in before if other.ended_at is not None]
    return live.places.get(max(ended)[1], here) if ended else None
