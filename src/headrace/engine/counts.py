"""What a node counts of itself, and how it reads the rest from its parts when somebody asks.

Counters are plain numbers on the event loop: counting costs an addition, and the hot path counts nothing that a part does
not keep anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from headrace.telemetry.metrics import Metric, counter, gauge

if TYPE_CHECKING:
    from headrace.engine.node import Node


class Counts(msgspec.Struct):
    """Since the process began. ``late_outcomes``: outcomes refused because their attempt was over. ``messages_idle``:
    messages that changed nothing, because they were repeated or came too late. ``commands_refused``: commands of
    others that did not fit their run. ``fenced``: times the node had lost its lease and joined anew. ``nodes_lost``:
    nodes whose lease this one took. ``runs_adopted``: runs taken over. ``remote_refused``: outcomes of workers without
    the store that were refused, because their claim was lost or the run has ended. ``schedule_fires``: runs that
    schedules started while this node led, ``schedule_skips``, ``schedule_misses`` and ``schedule_failures``: fire times
    that started none."""

    late_outcomes: int = 0
    messages_idle: int = 0
    commands_refused: int = 0
    fenced: int = 0
    nodes_lost: int = 0
    runs_adopted: int = 0
    remote_refused: int = 0
    schedule_fires: int = 0
    schedule_skips: int = 0
    schedule_misses: int = 0
    schedule_failures: int = 0


def metrics_of(node: Node) -> list[Metric]:
    """Everything that can be measured of a node now. Call it on the event loop."""
    counts, puller = node.counts, node.puller
    gates = node.planner.gates_by_executor()
    home = {name: gate for name, gate in gates.items() if not gate.away}
    return [
        counter("commits", "Transactions of the journal since this node joined.", node.journal.commits),
        counter("late_outcomes_refused", "Outcomes of attempts that were over already.", counts.late_outcomes),
        counter(
            "claims_refused",
            "Outcomes this node brought for attempts of others whose claim it had lost.",
            puller.refused if puller is not None else 0,
        ),
        counter(
            "remote_claims_refused",
            "Outcomes that remote workers brought to this node for claims they had lost.",
            counts.remote_refused,
        ),
        counter("messages_idle", "Messages that changed nothing: repeated, or too late.", counts.messages_idle),
        counter("commands_refused", "Commands that did not fit their run.", counts.commands_refused),
        counter("fenced", "Times this node lost its lease and joined anew.", counts.fenced),
        counter("nodes_lost", "Nodes found lost by this one.", counts.nodes_lost),
        counter("runs_adopted", "Runs taken over from nodes that were lost or gave them up.", counts.runs_adopted),
        counter("schedule_fires", "Runs that schedules started while this node led.", counts.schedule_fires),
        counter("schedule_skips", "Fire times skipped by overlap policies or pauses.", counts.schedule_skips),
        counter("schedule_misses", "Fire times that were too late to catch up with.", counts.schedule_misses),
        counter("schedule_failures", "Fire times whose run could not be started.", counts.schedule_failures),
        counter("locks_lost", "Locks of tasks and programs that were lost while they were held.", node.locker.lost),
        gauge("leader", "1 while this node leads.", float(node.leader.term() is not None)),
        gauge("runs_live", "Runs in memory.", len(node.live)),
        gauge("backlog_events", "Events that are not durable yet.", node.journal.backlog),
        gauge("guests_live", "Attempts of other nodes' runs under way.", puller.busy if puller is not None else 0),
        gauge("broker_up", "1 while the broker is reached.", float(node.waker.broker.health().state == "up")),
        Metric(
            "attempts_live",
            "gauge",
            "Attempts that hold a slot.",
            tuple(({"executor": name}, gate.inside) for name, gate in home.items()),
        ),
        Metric(
            "attempts_waiting",
            "gauge",
            "Attempts that wait for a slot.",
            tuple(({"executor": name}, gate.waiting) for name, gate in home.items()),
        ),
        Metric(
            "slots",
            "gauge",
            "Attempts that may be under way at once.",
            tuple(({"executor": name}, gate.slots) for name, gate in home.items() if gate.slots is not None),
        ),
    ]
