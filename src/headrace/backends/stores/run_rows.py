"""Runs as the databases' statements give them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from headrace.contracts.store import RunRow
from headrace.core.ids import NodeId, RunId, WorkflowVersion


def run_row(values: Sequence[Any]) -> RunRow:
    """A run from its columns in this order; texts as ``str``, JSON as text."""
    run_id, workflow, version, state, created_at, ended_at, trigger, parent, error, *more, live = values
    total, done, failed, last_seq, owner, wake_at, key, tags, params, attributes = more
    return RunRow(
        run_id=RunId(run_id),
        workflow=workflow,
        version=WorkflowVersion(version),
        state=state,
        created_at=created_at,
        ended_at=ended_at,
        tags={} if tags == "{}" else msgspec.json.decode(tags),
        params={} if params == "{}" else msgspec.json.decode(params),
        trigger=trigger,
        parent=parent,
        error=error,
        tasks_total=total,
        tasks_done=done,
        tasks_failed=failed,
        last_seq=last_seq,
        owner=NodeId(owner) if owner is not None else None,
        live=bool(live),
        wake_at=wake_at,
        key=key,
        attributes={} if attributes == "{}" else msgspec.json.decode(attributes),
    )
