"""A run as people and programs read it: plain values, the same from memory and from a stored history."""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.core.events import Failure
from headrace.core.run import GraphRun, TaskUnit, Unit
from headrace.core.states import TaskState


class ItemView(msgspec.Struct, kw_only=True):
    """One item of a mapped task. Times are seconds since the epoch."""

    index: int
    state: str
    attempts: int = 0
    output: Any = None
    error: Failure | None = None
    reason: str | None = None
    started_at: float | None = None
    ended_at: float | None = None


class TaskView(msgspec.Struct, kw_only=True):
    """One task. ``items`` counts the items of a mapped task by state; ``item_list`` holds them when asked for.
    ``attempts`` counts tries so far, the one under way included; for a mapped task, those of all items."""

    state: str
    attempts: int = 0
    output: Any = None
    error: Failure | None = None
    reason: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    retry_at: float | None = None
    items: dict[str, int] | None = None
    item_list: list[ItemView] | None = None


class RunView(msgspec.Struct, kw_only=True):
    """One run with its tasks, in the order of the definition; ``kind`` is graph or code."""

    id: str
    workflow: str
    version: str
    state: str
    created_at: float
    ended_at: float | None = None
    params: dict[str, Any] = {}
    tags: dict[str, str] = {}
    trigger: str = "manual"
    key: str | None = None
    output: Any = None
    error: Failure | None = None
    failed_task: str | None = None
    reason: str | None = None
    next_run: str | None = None
    attributes: dict[str, Any] = {}
    memo: dict[str, Any] = {}
    details: str | None = None
    kind: str = "graph"
    tasks: dict[str, TaskView] = {}


def _state(unit: Unit) -> str:
    return "running" if unit.launched and not unit.done else str(unit.state)


def _attempts(unit: Unit) -> int:
    under_way = not unit.done and (unit.launched or unit.state is TaskState.RUNNING)
    return unit.attempt + under_way


def view_task(run: GraphRun, unit: TaskUnit, *, items: bool = False) -> TaskView:
    """One task of a run. A large output that has not been loaded shows as its reference."""
    view = TaskView(
        state=_state(unit),
        attempts=_attempts(unit),
        output=unit.output,
        error=unit.failure,
        reason=unit.reason,
        started_at=unit.started_at,
        ended_at=unit.ended_at,
        retry_at=unit.retry_at,
    )
    if unit.items is None:
        return view
    counts: dict[str, int] = {}
    for item in unit.items:
        state = _state(item)
        counts[state] = counts.get(state, 0) + 1
    view.items = counts
    view.attempts = sum(_attempts(item) for item in unit.items)
    if not unit.done and any(state in counts for state in ("running", "retrying")):
        view.state = "running"
    if unit.state is TaskState.SUCCEEDED:
        view.output = [item.output for item in unit.items]
    if items:
        view.item_list = [
            ItemView(
                index=index,
                state=_state(item),
                attempts=_attempts(item),
                output=item.output,
                error=item.failure,
                reason=item.reason,
                started_at=item.started_at,
                ended_at=item.ended_at,
            )
            for index, item in enumerate(unit.items)
        ]
    return view


def view_run(run: GraphRun, *, items: bool = False) -> RunView:
    """The whole run."""
    return RunView(
        id=run.run_id,
        workflow=run.plan.spec.name,
        version=run.plan.version,
        state=str(run.state),
        created_at=run.created_at,
        ended_at=run.ended_at,
        params=run.params,
        tags=run.tags,
        trigger=run.trigger,
        key=run.key,
        attributes=run.attributes,
        memo=run.memo,
        output=run.output,
        error=run.failure,
        failed_task=run.failed_task,
        reason=run.reason,
        tasks={unit.node.id: view_task(run, unit, items=items) for unit in run.tasks},
    )
