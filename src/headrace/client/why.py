"""Why a run is where it is: what each part of it waits for, and whether that can come by itself.

Computed from what is stored (the history, the nodes' entries, the attempts on offer), so that anybody can ask, also about
runs of nodes that are dead. *Stuck* means that nothing will happen until somebody does something.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, cast

import msgspec

from headrace.contracts.ready import Standing
from headrace.contracts.store import NodeRow, RunRow
from headrace.core.durations import format_duration
from headrace.core.ids import attempt_key
from headrace.core.run import TaskUnit, Unit
from headrace.core.spec import TaskSpec
from headrace.core.states import FINAL_RUN_STATES, RunState, TaskState
from headrace.durable.run import CodeRun
from headrace.engine.parker import NEVER
from headrace.engine.peers import refused_by
from headrace.engine.preferences import prefer_seconds

REASONS_MAX = 100
"""Reasons given for one run; the rest of a very wide one is the same again."""

_OPEN = (TaskState.READY, TaskState.RUNNING)


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """``subject`` is ``run``, or a task or ``task[item]``. ``until`` is when it goes on by itself, in seconds since the
    epoch, if that is known. ``hint``: what to do, if it is stuck."""

    subject: str
    why: str
    stuck: bool = False
    until: float | None = None
    hint: str | None = None


class AnyRun(Protocol):
    """What is read of a folded run, graph or code."""

    plan: Any
    run_id: str
    state: RunState
    reason: str | None
    done: bool
    tasks: list[Any]


def reasons(
    row: RunRow, run: AnyRun, nodes: Sequence[NodeRow], standings: Iterable[Standing], now: float
) -> list[Reason]:
    """What keeps a run from its end; empty if it has ended. ``now`` is the store's clock."""
    if row.state in FINAL_RUN_STATES or run.done:
        return []
    found = [*_of_state(run), *_of_owner(row, nodes, now)]
    offered = {standing.key: standing for standing in standings}
    for unit in run.tasks:
        if len(found) >= REASONS_MAX:
            break
        if not unit.done:
            found += _of_task(run, unit, offered, nodes)
    if isinstance(run, CodeRun):
        unheard = [_of_standing(key, standing) for key, standing in offered.items() if _is_unheard(run, key)]
        found += unheard
        found += _of_code(run, idle=not unheard)
    return found[:REASONS_MAX]


def _of_state(run: AnyRun) -> list[Reason]:
    resume = f"headrace runs resume {run.run_id}"
    if run.state is RunState.PAUSED:
        why = "it is paused" + (f": {run.reason}" if run.reason else "")
        return [Reason(subject="run", why=why, stuck=True, hint=resume)]
    if run.state is RunState.SUSPENDED:
        why = f"its code does not fit its history: {run.reason or 'no reason was recorded'}"
        return [Reason(subject="run", why=why, stuck=True, hint=f"mend the code, then {resume}")]
    if run.state is RunState.CANCELLING:
        return [Reason(subject="run", why="it is being cancelled: what is under way is ending")]
    return []


def _of_owner(row: RunRow, nodes: Sequence[NodeRow], now: float) -> list[Reason]:
    refused = refused_by(nodes, row.run_id)
    takers = [node.node for node in nodes if node.live and node.info.get("adopt") and node.node not in refused]
    if row.owner is not None and row.live:
        return []
    if row.owner is None and row.wake_at is not None and row.wake_at > now:
        if row.wake_at >= NEVER:
            return [Reason(subject="run", why="it is parked until a message comes")]
        return [
            Reason(
                subject="run",
                why="it is parked until its next timer, or a message that comes before",
                until=row.wake_at,
            )
        ]
    lost = f"its node {row.owner} is lost" if row.owner is not None else "no node has it"
    if takers:
        return [Reason(subject="run", why=f"{lost}; {', '.join(takers[:3])} will take it over")]
    if refused:
        return [_of_refusal(row, node, reason) for node, reason in refused.items()]
    why = f"{lost}, and no node is up that takes runs over"
    return [Reason(subject="run", why=why, stuck=True, hint=f"headrace up, or headrace runs resume {row.run_id}")]


def _of_refusal(row: RunRow, node: str, reason: str) -> Reason:
    return Reason(
        subject="run",
        why=f"node {node} cannot take it over: {reason}",
        stuck=True,
        hint=f"mend that and start the node again, or where the code is: headrace runs resume {row.run_id}; "
        f"to end the run without its code: headrace runs terminate {row.run_id}",
    )


def _of_task(run: AnyRun, unit: TaskUnit, offered: dict[str, Standing], nodes: Sequence[NodeRow]) -> list[Reason]:
    if unit.items is not None:
        open_items = [item for item in unit.items if not item.done]
        return [reason for item in open_items[:REASONS_MAX] for reason in _of_unit(run, item, offered, nodes)]
    if unit.state is TaskState.WAITING:
        ended = {other.node.id for other in run.tasks if other.done}
        waits = [name for name in unit.node.spec.needs if name not in ended]
        more = f" and {len(waits) - 5} more" if len(waits) > 5 else ""
        return [Reason(subject=unit.name, why=f"it waits for {', '.join(waits[:5])}{more}")] if waits else []
    return _of_unit(run, unit, offered, nodes)


def _of_unit(run: AnyRun, unit: Unit, offered: dict[str, Standing], nodes: Sequence[NodeRow]) -> list[Reason]:
    attempt = unit.attempt + 1
    if unit.state is TaskState.RETRYING:
        last = f": {unit.failure.message}" if unit.failure is not None else ""
        why = f"attempt {unit.attempt} failed{last}; attempt {attempt} is due"
        return [Reason(subject=unit.name, why=why, until=unit.retry_at)]
    if unit.state not in _OPEN:
        return []
    standing = offered.get(attempt_key(run.run_id, unit.node.id, unit.item, attempt))
    if standing is not None and standing.worker is not None:
        return [Reason(subject=unit.name, why=f"attempt {attempt} is carried out by {standing.worker}")]
    if standing is not None:
        return [_on_offer(unit, attempt, nodes)]
    if unit.external:
        return [Reason(subject=unit.name, why=f"attempt {attempt} has to be completed from outside")]
    if unit.state is TaskState.RUNNING:
        return [Reason(subject=unit.name, why=f"attempt {attempt} is under way")]
    return [Reason(subject=unit.name, why=f"attempt {attempt} is under way, or waits for a slot of its node")]


def _on_offer(unit: Unit, attempt: int, nodes: Sequence[NodeRow]) -> Reason:
    queue, labels = unit.node.spec.queue, unit.node.spec.needs_labels
    wanted = f"queue {queue}"
    if labels:
        wanted += f" with {', '.join(f'{name}={value}' for name, value in labels.items())}"
    served = [
        node.node
        for node in nodes
        if node.live
        and node.info.get("pulls")
        and queue in node.info.get("queues", ())
        and labels.items() <= node.info.get("labels", {}).items()
    ]
    if served:
        why = f"attempt {attempt} waits in {wanted} for a slot of {', '.join(served[:3])}{_preference(unit.node.spec)}"
        return Reason(subject=unit.name, why=why)
    options = "".join(f" --label {name}={value}" for name, value in labels.items())
    return Reason(
        subject=unit.name,
        why=f"attempt {attempt} waits in {wanted}, which nobody serves",
        stuck=True,
        hint=f"headrace worker --queue {queue}{options}",
    )


def _preference(spec: TaskSpec) -> str:
    """What a task prefers, in words."""
    wishes = ["the process of the task before it"] if spec.sticky else []
    if spec.prefer_labels:
        wishes.append(f"{', '.join(f'{name}={value}' for name, value in spec.prefer_labels.items())}")
    return f"; for {format_duration(prefer_seconds(spec))} it prefers {', then '.join(wishes)}" if wishes else ""


def _is_unheard(run: CodeRun, key: str) -> bool:
    """Whether an attempt on offer is of a call that the history does not tell of: until it has begun, only the code that
    made it knows it."""
    run_id, _, rest = key.partition("/")
    return run_id == run.run_id and rest.rpartition("/")[0] not in run.units


def _of_standing(key: str, standing: Standing) -> Reason:
    task, _, attempt = key.partition("/")[2].rpartition("/")
    if standing.worker is not None:
        return Reason(subject=task, why=f"attempt {attempt} is carried out by {standing.worker}")
    why = f"attempt {attempt} waits in its queue; `headrace queues` tells whether anybody serves that"
    return Reason(subject=task, why=why)


def _of_code(run: CodeRun, *, idle: bool) -> list[Reason]:
    dues = sorted(due for _, due in run.timers.values())
    found = (
        [Reason(subject="run", why="it waits for a timer, or for a message that comes before", until=dues[0])]
        if dues
        else []
    )
    for name, child in run.children.items():
        if child.state is None:
            found.append(Reason(subject="run", why=f"it waits for its child {name}, run {child.run_id}"))
    found += _of_sagas(run)
    if idle and not found and all(unit.done for unit in run.tasks) and run.state is RunState.RUNNING:
        found.append(Reason(subject="run", why="it waits for a signal, an update or its cancellation"))
    return found


def _of_sagas(run: CodeRun) -> list[Reason]:
    """Steps whose undo failed and that wait for a person, by the sagas' ledgers in the memo."""
    found: list[Reason] = []
    for name, book in run.memo.items():
        if name.partition(":")[0] != "saga" or not isinstance(book, dict):
            continue
        for entry in cast("dict[str, Any]", book).get("steps", ()):
            if entry.get("state") != "awaits_person":
                continue
            signal = f"{name}:{entry['step']}"
            why = f"undoing it failed: {entry.get('error', 'no reason was recorded')}; it waits for signal {signal}"
            send = f"headrace runs signal {run.run_id} {signal}"
            hint = f"{send} retry (or done, once it is settled)"
            found.append(Reason(subject=entry["step"], why=why, stuck=True, hint=hint))
    return found
