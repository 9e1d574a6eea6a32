"""Limits as gates. A ready attempt (a *ticket*) passes a row of gates, outermost first: its mapped task's
``max_parallel``, its run's, its executor's slots. A gate lets ``slots`` tickets be inside at once; the others wait in
order of priority, then of arrival. Leaving frees the slots, so they cannot leak: a ticket leaves exactly the gates it
entered, whatever became of its attempt. A ticket that waits for a retry is in no gate.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import asyncio

    from headrace.core.errors import HeadraceError
    from headrace.core.run import Unit
    from headrace.engine.live import LiveRun


LOOKS_BEYOND = 50
"""Waiting tickets that :meth:`Gate.take` looks at in vain."""


class Ticket(msgspec.Struct, eq=False, gc=False):
    """One attempt on its way to be launched, or under way.

    ``entered``: how many of ``gates`` it is inside of. ``begun``: its coroutine has had its first turn. ``recorded``:
    its start is in the history. ``cancelled``: not to be started, or to be stopped, because the run no longer wants
    it. ``stopping``: stopped because the node stops; its outcome is not recorded, another node tries again.
    ``timed_out``: stopped because its time was over, ``silent``: because it gave no heartbeat. ``beat_at``: its last
    heartbeat (monotonic); ``details``: what that said, as JSON; ``details_told``: what of that is on its way to the
    history, since ``told_at``; ``heard``: told once, from any thread, that there is something new (``telling`` until it
    has looked). ``away``: on offer to others. ``guest``: of a run that another node owns.
    ``fault``: stopped because it lost a lock that it relied on. ``prefer_until``: until when (monotonic) it waits for a
    process that it prefers; 0 if that was not asked yet.
    """

    live: LiveRun
    unit: Unit
    gates: tuple[Gate, ...]
    attempt: int
    entered: int = 0
    begun: bool = False
    task: asyncio.Task[None] | None = None
    started_at: float = 0.0
    recorded: bool = False
    cancelled: bool = False
    stopping: bool = False
    timed_out: bool = False
    silent: bool = False
    queue_timer: asyncio.TimerHandle | None = None
    beat_at: float = 0.0
    details: bytes | None = None
    details_told: bytes | None = None
    told_at: float = 0.0
    heard: Callable[[Ticket], None] | None = None
    telling: bool = False
    away: bool = False
    guest: bool = False
    fault: HeadraceError | None = None
    prefer_until: float = 0.0

    def beat(self, details: bytes | None) -> None:
        """The attempt lives. Called from any thread; takes no lock."""
        self.beat_at = time.monotonic()
        if details is not None:
            self.details = details
            if not self.telling and self.heard is not None:
                self.telling = True
                self.heard(self)


class Gate:
    """At most ``slots`` tickets inside; None is no bound."""

    __slots__ = ("_heap", "_order", "_waiting", "inside", "name", "slots")

    away = False
    """Whether those who pass are offered to others."""

    def __init__(self, name: str, slots: int | None) -> None:
        self.name = name
        self.slots = slots
        self.inside = 0
        self._waiting: deque[Ticket] = deque()
        self._heap: list[tuple[int, int, Ticket]] = []
        self._order = 0

    @property
    def waiting(self) -> int:
        """Tickets that wait to get in (cancelled ones may still be counted)."""
        return len(self._waiting) + len(self._heap)

    def line_up(self, ticket: Ticket) -> None:
        """Wait for a slot."""
        priority = ticket.unit.node.options.priority
        if priority == 0 and not self._heap:
            self._waiting.append(ticket)
            return
        if self._waiting:
            for waiting in self._waiting:
                self._push(waiting)
            self._waiting.clear()
        self._push(ticket)

    def _push(self, ticket: Ticket) -> None:
        self._order += 1
        heapq.heappush(self._heap, (-ticket.unit.node.options.priority, self._order, ticket))

    def next(self) -> Ticket | None:
        """The next waiting ticket that may get in, already counted as inside; None if there is none or no slot."""
        while (self._waiting or self._heap) and (self.slots is None or self.inside < self.slots):
            ticket = self._waiting.popleft() if self._waiting else heapq.heappop(self._heap)[2]
            if not ticket.cancelled:
                self.inside += 1
                return ticket
        return None

    def take(self, count: int, may_go: Callable[[Ticket], bool]) -> list[Ticket]:
        """Remove up to ``count`` waiting tickets that may go another way, the next ones first. Looks at a bounded number:
        if none of the next may go, nor will those behind them, mostly."""
        taken: list[Ticket] = []
        kept: list[Ticket] = []
        looks = count + LOOKS_BEYOND
        while len(taken) < count and looks > 0 and (self._waiting or self._heap):
            looks -= 1
            ticket = self._waiting.popleft() if self._waiting else heapq.heappop(self._heap)[2]
            if not ticket.cancelled:
                (taken if may_go(ticket) else kept).append(ticket)
        if self._heap:
            for ticket in kept:
                self._push(ticket)
        else:
            self._waiting.extendleft(reversed(kept))
        return taken


class QueueGate(Gate):
    """Bounds what is on offer in one queue."""

    __slots__ = ()

    away = True


AWAY = "queue "
"""Begins the names of gates that stand for queues, in the place of an executor's."""


def away_name(queue: str, executor: str) -> str:
    """The name that stands in the place of an executor's for attempts that are offered."""
    return f"{AWAY}{queue} {executor}"


def queue_of(name: str) -> tuple[str, str]:
    """The queue and the executor of :func:`away_name`."""
    queue, _, executor = name.removeprefix(AWAY).partition(" ")
    return queue, executor


class Gatekeeper:
    """Moves tickets through their gates; ``admitted`` is called with each that has passed them all."""

    def __init__(self, admitted: Callable[[Ticket], None]) -> None:
        self._admitted = admitted
        self._held: deque[Ticket] = deque()
        self.open = True
        """False while nothing may be launched (draining, back-pressure)."""

    def enter(self, ticket: Ticket) -> None:
        """Send a ticket on its way, or on from where it waited. A newcomer never overtakes an equal that waits."""
        gates = ticket.gates
        while ticket.entered < len(gates):
            gate = gates[ticket.entered]
            if gate.slots is not None and (gate.inside >= gate.slots or gate._waiting or gate._heap):
                gate.line_up(ticket)
                return
            gate.inside += 1
            ticket.entered += 1
        if self.open:
            self._admitted(ticket)
        else:
            self._held.append(ticket)

    def leave(self, ticket: Ticket) -> None:
        """The ticket's attempt ended or will not be: free what it held and let others through."""
        entered = ticket.entered
        ticket.entered = 0
        for position in range(entered - 1, -1, -1):
            gate = ticket.gates[position]
            gate.inside -= 1
            following = gate.next() if gate._waiting or gate._heap else None
            if following is not None:
                following.entered += 1
                self.enter(following)

    def reroute(self, ticket: Ticket, gate: Gate) -> None:
        """Send a ticket that has passed its gates through another one instead of the last."""
        last = ticket.gates[-1]
        ticket.gates = (*ticket.gates[:-1], gate)
        ticket.entered -= 1
        self.free(last, 1)
        self.enter(ticket)

    def free(self, gate: Gate, slots: int) -> None:
        """Give slots back that were kept free, and let those in who wait for them."""
        gate.inside -= slots
        self.admit(gate)

    def resize(self, gate: Gate, slots: int | None) -> None:
        """Change how many tickets may be inside of a gate. With more slots those that wait get in at once; with fewer,
        those inside stay and nobody gets in until enough have left."""
        gate.slots = slots
        self.admit(gate)

    def admit(self, gate: Gate) -> None:
        """Let in whoever waits and has room now."""
        while (following := gate.next()) is not None:
            following.entered += 1
            self.enter(following)

    def reopen(self) -> None:
        """Admit again, beginning with those that were held."""
        self.open = True
        while self._held and self.open:
            ticket = self._held.popleft()
            if ticket.cancelled:
                self.leave(ticket)
            else:
                self._admitted(ticket)
