"""Business keys in SQLite: one unfinished run per workflow and key. Functions take the connection first; those that write
run inside a write transaction of their caller, whose lock puts all reservations in one order."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from headrace.contracts.store import KeyHolder, RunRow
from headrace.core.ids import Epoch, NodeId, RunId

_SELECT_HOLDER = """
SELECT run_keys.run_id, state, ended_at, run_keys.node, run_keys.epoch
FROM run_keys LEFT JOIN runs ON runs.run_id = run_keys.run_id WHERE run_keys.workflow = ? AND run_keys.key = ?"""
_PUT = """
INSERT INTO run_keys (workflow, key, run_id, node, epoch) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (workflow, key) DO UPDATE SET run_id = excluded.run_id, node = excluded.node, epoch = excluded.epoch"""


def reserve(
    db: sqlite3.Connection,
    *,
    node: NodeId,
    epoch: Epoch,
    workflow: str,
    key: str,
    run_id: RunId,
    kept_by: Sequence[str],
) -> KeyHolder | None:
    """Give a key to a run to come; None, or who has it. The caller has checked the fence."""
    row = db.execute(_SELECT_HOLDER, (workflow, key)).fetchone()
    if row is not None and row[0] != run_id:
        former, state, ended_at, creator, created_under = row
        # Without a state it is being created; or it never came into being.
        if _holds_epoch(db, creator, created_under) if state is None else ended_at is None or state in kept_by:
            return KeyHolder(RunId(former), state)
    db.execute(_PUT, (workflow, key, run_id, node, epoch))
    return None


def _holds_epoch(db: sqlite3.Connection, node: str, epoch: int) -> bool:
    return db.execute("SELECT 1 FROM nodes WHERE node = ? AND epoch = ?", (node, epoch)).fetchone() is not None


def take(db: sqlite3.Connection, node: NodeId, epoch: Epoch, run: RunRow) -> None:
    """A new run takes its key, from the run that it follows or from its own reservation."""
    db.execute(_PUT, (run.workflow, run.key, run.run_id, node, epoch))


def holder(db: sqlite3.Connection, workflow: str, key: str) -> KeyHolder | None:
    """The latest run of a key, if it exists."""
    row = db.execute(_SELECT_HOLDER, (workflow, key)).fetchone()
    return KeyHolder(RunId(row[0]), row[1]) if row is not None and row[1] is not None else None
