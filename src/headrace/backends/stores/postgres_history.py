"""Flushes as arguments of the functions that write them, and workflow versions.

A flush is one call of ``flush_1``, or of ``flush_more_1`` if it creates runs or changes attributes: one round trip, one
transaction. Rows travel as one array per column; the function text never changes, so it is prepared once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from headrace.contracts.store import Flush, RunRow, RunUpdate, WorkflowRow
from headrace.core.errors import StoreError
from headrace.core.where import items_of, kind_of

Columns = list[list[Any] | None]

FLUSH_ARGUMENTS = 16
FLUSH_MORE_ARGUMENTS = 46

_NEW_RUN_COLUMNS = 19
_UPDATE_COLUMNS = 10


def call_text(schema: str, function: str, arguments: int) -> str:
    """The statement that calls a function."""
    return f"SELECT {schema}.{function}({', '.join(f'${number}' for number in range(1, arguments + 1))})"


def is_plain(flush: Flush) -> bool:
    """Whether ``flush_1`` can write it."""
    return not (flush.new_runs or flush.outcomes_done) and all(update.attributes is None for update in flush.updates)


def flush_arguments(flush: Flush) -> list[Any]:
    """What ``flush_1`` takes."""
    return [flush.node, flush.epoch, *_events(flush), *_updates(flush.updates), sorted(flush.inbox_done) or None]


def more_arguments(flush: Flush) -> list[Any]:
    """What ``flush_more_1`` takes beyond that."""
    changed = {update.run_id: update for update in flush.updates if update.attributes is not None}
    # A run that is created and changed in one flush is created without attributes, so that the change is one.
    rows = [
        msgspec.structs.replace(row, attributes={}) if row.attributes and row.run_id in changed else row
        for row in flush.new_runs
    ]
    tags = [(row.run_id, clean(key), clean(value)) for row in rows for key, value in row.tags.items()]
    attributes = [(run_id, update.last_seq, _json(update.attributes)) for run_id, update in sorted(changed.items())]
    items = [item for row in rows for item in _items(row.run_id, row.attributes)]
    for run_id, update in changed.items():
        items += _items(run_id, update.attributes or {})
    return [
        *_transposed([_run_values(row) for row in sorted(rows, key=_run_id)], _NEW_RUN_COLUMNS),
        *_transposed(tags, 3),
        *_transposed(attributes, 3),
        *_transposed(items, 5),
    ]


def outcome_arguments(flush: Flush) -> list[Any]:
    """What ``flush_outcomes_1`` takes before all that."""
    return [[run_id for run_id, _ in flush.outcomes_done], [task for _, task in flush.outcomes_done]]


def clean(text: str) -> str:
    """PostgreSQL's texts cannot hold the character NUL: it is shown as its picture. What comes back to programs (tags,
    params, attributes, events) is JSON, where it is written as an escape; this is what lists show and searches find."""
    return text.replace("\0", "\u2400") if "\0" in text else text


def _events(flush: Flush) -> Columns:
    if not flush.events:
        return [None, None, None]
    try:
        return [
            [run_id for run_id, _, _ in flush.events],
            [seq for _, seq, _ in flush.events],
            [data.decode() for _, _, data in flush.events],
        ]
    except UnicodeDecodeError as error:
        raise StoreError(f"an event is not UTF-8 text ({error})") from error


def _updates(updates: Iterable[RunUpdate]) -> Columns:
    # In the order of run ids, as everybody locks rows: no deadlocks.
    rows = [
        (
            update.run_id,
            update.state,
            update.last_seq,
            update.tasks_total,
            update.tasks_done,
            update.tasks_failed,
            update.ended_at,
            None if update.error is None else clean(update.error),
            update.wake_at,
            update.release,
        )
        for update in sorted(updates, key=_run_id)
    ]
    return _transposed(rows, _UPDATE_COLUMNS)


def _run_id(row: RunRow | RunUpdate) -> str:
    return row.run_id


def _run_values(run: RunRow) -> tuple[Any, ...]:
    identity = run.run_id, run.workflow, run.version, run.state, run.created_at, run.ended_at, run.trigger, run.parent
    counts = run.tasks_total, run.tasks_done, run.tasks_failed, run.last_seq, run.owner, run.wake_at, run.key
    error = None if run.error is None else clean(run.error)
    return *identity, error, *counts, _json(run.tags), _json(run.params), _json(run.attributes)


def _json(value: dict[str, Any] | None) -> str:
    return msgspec.json.encode(value).decode() if value else "{}"


def _items(run_id: str, attributes: dict[str, Any]) -> list[tuple[Any, ...]]:
    """One row of ``run_attributes`` per searchable value."""
    return [
        (
            run_id,
            clean(name),
            kind,
            clean(str(item)) if kind == "text" else None,
            None if kind == "text" else float(item),
        )
        for name, value in attributes.items()
        for item in items_of(value)
        for kind in (kind_of(item),)
    ]


def _transposed(rows: Sequence[tuple[Any, ...]], columns: int) -> Columns:
    """Rows as columns; no rows as NULLs, which cost nothing."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [None] * columns


# ---- workflow versions ----------------------------------------------------------------------------------------------

SELECT_WORKFLOW = "SELECT version, name, convert_to(data, 'UTF8'), source, created_at FROM {schema}.workflows"
"""To be completed with a condition."""


def workflow_row(values: Sequence[Any]) -> WorkflowRow:
    """One answer of :data:`SELECT_WORKFLOW`."""
    return WorkflowRow(*values)
