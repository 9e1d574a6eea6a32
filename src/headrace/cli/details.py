"""A run with its tasks, for ``runs show``."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence

import msgspec

from headrace.authoring.drawing import SYMBOLS
from headrace.cli.colors import BOLD, DIM, Paint
from headrace.cli.options import Session
from headrace.cli.progress import done_of, duration, failure_text
from headrace.cli.summary import Summary
from headrace.cli.times import local, span
from headrace.client.documents import NEVER, is_parked, shown_state
from headrace.contracts.store import RunRow
from headrace.core.run import reference_of
from headrace.core.states import TaskState
from headrace.core.view import RunView, TaskView

TASKS_SHOWN_MAX = 10_000
VALUE_CHARS_MAX = 200


def details(
    view: RunView,
    row: RunRow,
    session: Session,
    *,
    order: Sequence[str] = (),
    items_max: int = 0,
    refused_by: Mapping[str, str] | None = None,
) -> list[str]:
    """The lines. ``order``: tasks to show first, in this order. ``items_max``: items shown of each mapped task.
    ``refused_by``: nodes that cannot take the run over, with the reasons."""
    paint = Paint(enabled=session.colors(sys.stdout))
    state = shown_state(row)
    took = span((view.ended_at or time.time()) - view.created_at)
    lines = [
        f"{paint(view.workflow, BOLD)} {paint.state(state, state, BOLD)}",
        f"  run        {view.id}",
        f"  created    {local(view.created_at)} by {view.trigger}",
        f"  ended      {local(view.ended_at)} after {took}" if view.ended_at else f"  so far     {took}",
    ]
    if view.params:
        lines.append("  params     " + ", ".join(f"{name}={_short(value)}" for name, value in view.params.items()))
    if view.tags:
        lines.append(
            "  tags       " + ", ".join(f"{name}={value}" if value else name for name, value in view.tags.items())
        )
    if view.key is not None:
        lines.append(f"  key        {view.key}")
    for title, values in (("attributes", view.attributes), ("memo", view.memo)):
        if values:
            lines.append(f"  {title:<10} " + ", ".join(f"{name}={_short(value)}" for name, value in values.items()))
    if view.details:
        lines.append(f"  details    {_short(view.details)}")
    if is_parked(row) and row.wake_at is not None:
        lines.append(
            f"  waits      {f'until {local(row.wake_at)}, or for a message' if row.wake_at < NEVER else 'for a message'}"
        )
    if row.parent is not None:
        lines.append(f"  child of   {row.parent.partition('/')[0]}")
    if view.next_run:
        lines.append(f"  goes on    as {view.next_run}")
    if view.reason:
        lines.append(f"  reason     {view.reason}")
    lines += [f"  refused    by node {node}: {_short(reason)}" for node, reason in (refused_by or {}).items()]
    lines.append("")
    width = min(max((len(task_id) for task_id in view.tasks), default=0), 44)
    ordered = dict.fromkeys((*(task_id for task_id in order if task_id in view.tasks), *view.tasks))
    for position, task_id in enumerate(ordered):
        task = view.tasks[task_id]
        if position == TASKS_SHOWN_MAX:
            lines.append(f"  ... and {len(view.tasks) - position:,} more tasks: -o json shows them all")
            break
        lines.append(_task_line(task_id, task, width, paint))
        lines += _item_lines(task, items_max, paint)
    lines += Summary(session).endings(view, row)
    return lines


def _task_line(task_id: str, task: TaskView, width: int, paint: Paint) -> str:
    mark = paint.state(SYMBOLS.get(task.state, "?"), task.state)
    parts = [f"{task.state.replace('_', ' '):<15}", f"{span(duration(task)):>9}"]
    if task.items is not None:
        parts.append(f"{done_of(task.items):,}/{sum(task.items.values()):,} items")
        failed = task.items.get(TaskState.FAILED, 0)
        if failed:
            parts.append(paint.state(f"{failed:,} failed", TaskState.FAILED))
    elif task.attempts > 1:
        parts.append(f"{task.attempts} attempts")
    if task.error is not None and task.state != TaskState.SUCCEEDED:
        parts.append(paint.state(failure_text(task), task.state))
    elif task.reason:
        parts.append(paint(task.reason, DIM))
    elif task.state == TaskState.SUCCEEDED and task.items is None and task.output is not None:
        parts.append(paint(_short(task.output), DIM))
    return f"  {mark} {task_id:<{width}}  {'  '.join(parts)}".rstrip()


def _item_lines(task: TaskView, items_max: int, paint: Paint) -> list[str]:
    lines: list[str] = []
    items = task.item_list or []
    for item in items[:items_max]:
        mark = paint.state(SYMBOLS.get(item.state, "?"), item.state)
        note = (
            f"{item.error.type}: {item.error.message}"
            if item.error and item.state != TaskState.SUCCEEDED
            else _short(item.output)
        )
        tries = f"  {item.attempts} attempts" if item.attempts > 1 else ""
        lines.append(f"      {mark} [{item.index}]  {item.state}{tries}  {' '.join(note.split())[:VALUE_CHARS_MAX]}")
    if items_max and len(items) > items_max:
        lines.append(f"      ... and {len(items) - items_max:,} more items: -o json shows them all")
    return lines


def _short(value: object) -> str:
    if value is None:
        return ""
    if reference_of(value) is not None and isinstance(value, dict):
        return f"({value['bytes']:,} bytes; all of it: -o json)"
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    text = " ".join(text.split())
    return text if len(text) <= VALUE_CHARS_MAX else text[: VALUE_CHARS_MAX - 3] + "..."
