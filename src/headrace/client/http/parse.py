"""Documents as the types that the client in process returns."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from headrace.client.documents import NEVER, PARKED
from headrace.client.why import Reason
from headrace.contracts.api import answers
from headrace.contracts.store import RunRow
from headrace.core.events import Failure
from headrace.core.ids import NodeId, RunId, WorkflowVersion
from headrace.core.states import FINAL_RUN_STATES
from headrace.core.times import seconds_of
from headrace.core.view import ItemView, RunView, TaskView
from headrace.core.where import SHOWN_STATES

SOMEBODY = NodeId("somebody")
"""The owner of a run that goes on: a list does not say who."""


def row_of(run: answers.ListedRun) -> RunRow:
    """One run of a list."""
    is_owned = run.state not in FINAL_RUN_STATES and run.status not in SHOWN_STATES
    wake_at = seconds_of(run.wake_at)
    if run.status == PARKED and wake_at is None:
        wake_at = NEVER
    return RunRow(
        run_id=RunId(run.id),
        workflow=run.workflow,
        version=WorkflowVersion(run.version),
        state=run.state,
        created_at=_seconds(run.created_at),
        ended_at=seconds_of(run.ended_at),
        tags=run.tags,
        params=run.params,
        trigger=run.trigger,
        error=run.error,
        tasks_total=run.tasks_total,
        tasks_done=run.tasks_done,
        tasks_failed=run.tasks_failed,
        owner=SOMEBODY if is_owned else None,
        live=not run.interrupted,
        wake_at=wake_at,
        key=run.key,
        attributes=run.attributes,
    )


def view_of(run: answers.Run) -> RunView:
    """One run with its tasks."""
    return RunView(
        id=run.id,
        workflow=run.workflow,
        version=run.version,
        state=run.state,
        created_at=_seconds(run.created_at),
        ended_at=seconds_of(run.ended_at),
        params=run.params,
        tags=run.tags,
        trigger=run.trigger,
        key=run.key,
        output=run.output,
        error=_failure(run.error),
        failed_task=run.failed_task,
        reason=run.reason,
        next_run=run.next_run,
        attributes=run.attributes,
        memo=run.memo,
        details=run.details,
        kind=run.kind,
        tasks={name: _task(task) for name, task in run.tasks.items()},
    )


def reason_of(reason: answers.Reason) -> Reason:
    """One thing that a run waits for."""
    return Reason(
        subject=reason.subject,
        why=reason.why,
        stuck=reason.stuck,
        until=seconds_of(reason.until),
        hint=reason.hint,
    )


def _task(task: answers.Task) -> TaskView:
    return TaskView(
        **_outcome(task),
        retry_at=None if task.retry_at is UNSET else seconds_of(task.retry_at),
        items=None if task.items is UNSET else task.items,
        item_list=None
        if task.item_list is UNSET
        else [ItemView(index=item.index, **_outcome(item)) for item in task.item_list],
    )


def _outcome(part: answers.Task | answers.Item) -> dict[str, Any]:
    return {
        "state": part.state,
        "attempts": part.attempts,
        "output": part.output,
        "error": _failure(part.error),
        "reason": part.reason,
        "started_at": seconds_of(part.started_at),
        "ended_at": seconds_of(part.ended_at),
    }


def _failure(failure: answers.Failure | None) -> Failure | None:
    if failure is None:
        return None
    found = Failure(failure.type, failure.message)
    if failure.code is not UNSET:
        found = msgspec.structs.replace(found, code=failure.code)
    if failure.traceback is not UNSET:
        found = msgspec.structs.replace(found, traceback=failure.traceback)
    return found


def _seconds(text: str) -> float:
    found = seconds_of(text)
    assert found is not None
    return found
