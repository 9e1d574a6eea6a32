"""Which attempts go to other nodes and workers, and how many at once. For the dispatcher.

Those whose queue or labels this node does not serve pass a gate of that queue; those that wait for a slot here are let
through it when others have some.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from headrace.contracts.database import DATABASE
from headrace.engine.away import AwayTask
from headrace.engine.gates import Gate, QueueGate, Ticket, away_name, queue_of
from headrace.engine.peers import Peers

if TYPE_CHECKING:
    from headrace.engine.node import Node

OFFERS_MIN, OFFERS_MAX = 100, 2_000
"""Bounds of what one node has on offer at once in one queue, per executor. Between them: twice what the others have
slots for, so that each finds its next attempt waiting when one ends."""


class Routes:
    """One node's ways to the others."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.peers = Peers(node)
        self._gates: dict[str, QueueGate] = {}
        self.unfit: set[tuple[str, str]] = set()
        """Tasks (version, name) that others cannot carry out: they stay here."""

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
            and not self._node.dispatcher.preferences.is_waiting(ticket)
            and self.peers.serve(queue, spec.needs_labels)
            and self.is_portable(ticket)
        )

    def is_portable(self, ticket: Ticket) -> bool:
        """Whether the attempt may be carried out by others at all."""
        live, node = ticket.live, ticket.unit.node
        bound = live.binding.bound[node.index]
        return (
            (live.run.plan.version, node.spec.id) not in self.unfit
            and bound.executor != DATABASE
            and getattr(bound, "portable", True)
        )

    def is_served_here(self, ticket: Ticket) -> bool:
        """Whether this node could carry the attempt out, too."""
        return not isinstance(ticket.live.binding.bound[ticket.unit.node.index], AwayTask)

    def widen(self) -> None:
        """Let through as many as the others can carry by now."""
        for name, gate in self._gates.items():
            self._widen(gate, self._bound(name))

    def _widen(self, gate: QueueGate, slots: int) -> None:
        more = slots - (gate.slots or 0)
        gate.slots = slots
        if more > 0:
            self._node.planner.gatekeeper.admit(gate)
