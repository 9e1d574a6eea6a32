"""What ``-o json`` and ``-o yaml`` print and the HTTP API answers with: plain objects whose shape is documented and only
grows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.contracts.locks import LEADER, LockRow
from headrace.contracts.store import NodeRow, RunRow, WorkflowRow
from headrace.core.events import Failure
from headrace.core.spec import WorkflowSpec
from headrace.core.states import FINAL_RUN_STATES, RunState, TaskState
from headrace.core.times import iso
from headrace.core.view import RunView, TaskView

if TYPE_CHECKING:
    from headrace.client.why import Reason

INTERRUPTED = "interrupted"
"""Shown as the state of a run that should be going on, but nobody carries it out. No stored state: whoever takes the
run up ends it."""

NEVER = 4e9
"""A ``wake_at`` this late is none: only a message wakes the run."""

PARKED = "waiting"
"""Shown as the state of a run of workflow code that only waits, out of every engine's memory, and whose time has not
come: there is nothing to be done for it. Once its time has come and nobody has taken it up, it is interrupted."""

WAITING = (RunState.PAUSED, RunState.SUSPENDED)
"""States of runs that stand still until somebody resumes them."""


def graph_document(spec: WorkflowSpec, states: Mapping[str, str] | None) -> dict[str, Any]:
    """A graph as data: its tasks with what they need; with ``states``, those of a run."""
    tasks: list[dict[str, Any]] = []
    for task_id, task in spec.tasks.items():
        shown: dict[str, Any] = {
            "id": task_id,
            "kind": task.kind,
            "needs": list(task.needs),
            "trigger": str(task.trigger),
            "when": task.when,
            "mapped": task.is_mapped,
        }
        tasks.append(shown if states is None else shown | {"state": states.get(task_id)})
    return {"workflow": spec.name, "tasks": tasks}


def is_interrupted(row: RunRow) -> bool:
    """Whether a run should be going on, but nobody carries it out: its process ended before it did."""
    return row.state not in FINAL_RUN_STATES and row.state not in WAITING and not row.live and not is_parked(row)


def is_parked(row: RunRow) -> bool:
    """Whether a run only waits, for a time or a signal, and needs nobody until then."""
    open_ = row.state in (RunState.RUNNING, RunState.CANCELLING)
    return open_ and row.owner is None and row.wake_at is not None and row.wake_at > time.time()


def shown_state(row: RunRow) -> str:
    """The state for people; the same as the ``status`` of filters."""
    if is_parked(row):
        return PARKED
    return INTERRUPTED if is_interrupted(row) else row.state


def run_document(
    view: RunView, *, interrupted: bool = False, refused_by: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """One run with its tasks, in the order of the definition. ``refused_by``: nodes that cannot take it over, with the
    reasons; left out if there are none."""
    return {
        "id": view.id,
        "workflow": view.workflow,
        "kind": view.kind,
        "version": view.version,
        "state": view.state,
        "interrupted": interrupted,
        "created_at": iso(view.created_at),
        "ended_at": iso(view.ended_at),
        "trigger": view.trigger,
        "params": view.params,
        "tags": view.tags,
        "key": view.key,
        "attributes": view.attributes,
        "memo": view.memo,
        "details": view.details,
        "next_run": view.next_run,
        "output": view.output,
        "error": _failure(view.error),
        "failed_task": view.failed_task,
        "reason": view.reason,
        **({"refused_by": dict(refused_by)} if refused_by else {}),
        "tasks": {task_id: _task(task) for task_id, task in view.tasks.items()},
    }


def _task(task: TaskView) -> dict[str, Any]:
    document: dict[str, Any] = {
        "state": task.state,
        "attempts": task.attempts,
        "output": task.output,
        # A task that succeeded in the end keeps the failure before it; as its error it would mislead.
        "error": None if task.state == TaskState.SUCCEEDED else _failure(task.error),
        "reason": task.reason,
        "started_at": iso(task.started_at),
        "ended_at": iso(task.ended_at),
    }
    if task.retry_at is not None:
        document["retry_at"] = iso(task.retry_at)
    if task.items is not None:
        document["items"] = task.items
    if task.item_list is not None:
        document["item_list"] = [
            {
                "index": item.index,
                "state": item.state,
                "attempts": item.attempts,
                "output": item.output,
                "error": None if item.state == TaskState.SUCCEEDED else _failure(item.error),
                "reason": item.reason,
                "started_at": iso(item.started_at),
                "ended_at": iso(item.ended_at),
            }
            for item in task.item_list
        ]
    return document


def _failure(failure: Failure | None) -> dict[str, Any] | None:
    if failure is None:
        return None
    document: dict[str, Any] = {"type": failure.type, "message": failure.message}
    if failure.code is not None:
        document["code"] = failure.code
    if failure.traceback:
        document["traceback"] = failure.traceback
    return document


def row_document(row: RunRow) -> dict[str, Any]:
    """One run of a list."""
    return {
        "id": row.run_id,
        "workflow": row.workflow,
        "version": row.version,
        "state": row.state,
        "status": shown_state(row),
        "interrupted": is_interrupted(row),
        "created_at": iso(row.created_at),
        "ended_at": iso(row.ended_at),
        "trigger": row.trigger,
        "params": row.params,
        "tags": row.tags,
        "error": row.error,
        "tasks_total": row.tasks_total,
        "tasks_done": row.tasks_done,
        "tasks_failed": row.tasks_failed,
        "key": row.key,
        "attributes": row.attributes,
        "wake_at": iso(row.wake_at) if row.wake_at is not None and row.wake_at < NEVER else None,
    }


def workflow_document(row: WorkflowRow) -> dict[str, Any]:
    """One stored workflow. ``tasks`` is None for one that is code."""
    tasks = msgspec.json.decode(row.data).get("tasks")
    return {
        "name": row.name,
        "version": row.version,
        "source": row.source,
        "created_at": iso(row.created_at),
        "tasks": None if tasks is None else len(tasks),
    }


def node_documents(rows: list[NodeRow], locks: list[LockRow]) -> list[dict[str, Any]]:
    """What ``headrace nodes -o json`` prints. ``term`` is None for all but the leader."""
    terms = {row.node: row.token for row in locks if row.name == LEADER}
    return [
        {
            "id": row.node,
            "live": row.live,
            "leader": row.node in terms,
            "term": terms.get(row.node),
            "role": _role(row.info),
            "lease_expires_at": iso(row.expires_at),
            "epoch": row.epoch,
            "queues": row.info.get("queues", []),
            "labels": row.info.get("labels", {}),
            "slots": row.info.get("slots", {}),
        }
        for row in rows
    ]


def _role(info: dict[str, Any]) -> str:
    """``node`` takes runs over and may lead, ``worker`` only carries attempts out, ``client`` does neither."""
    if info.get("adopt"):
        return "node"
    return "worker" if info.get("pulls") else "client"


def lock_document(row: LockRow) -> dict[str, Any]:
    """One lock of ``headrace locks -o json``."""
    return {
        "name": row.name,
        "node": row.node,
        "token": row.token,
        "taken_at": iso(row.taken_at),
        "expires_at": iso(row.expires_at),
        "waiting": row.waiting,
    }


def reason_document(reason: Reason) -> dict[str, Any]:
    """One thing that a run waits for."""
    return {
        "subject": reason.subject,
        "why": reason.why,
        "stuck": reason.stuck,
        "until": iso(reason.until),
        "hint": reason.hint,
    }
