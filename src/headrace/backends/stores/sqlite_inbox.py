"""The inbox in SQLite. Functions take the connection first; :func:`post` runs inside a transaction of its caller."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from headrace.contracts.store import InboxRow
from headrace.core.errors import NotFound
from headrace.core.ids import NodeId, RunId

_SELECT_BELL = """
SELECT wake_at, coalesce(
    (SELECT bell FROM nodes WHERE nodes.node = runs.owner AND lost_at IS NULL AND expires_at > ?), '')
FROM runs WHERE run_id = ?"""

# CROSS JOIN fixes the order of the loops: the inbox is nearly always empty or short, the runs are many.
_SELECT_OWNED = """
SELECT inbox.id, inbox.run_id, inbox.kind, inbox.payload FROM inbox CROSS JOIN runs ON runs.run_id = inbox.run_id
WHERE runs.owner = ? ORDER BY inbox.id LIMIT ?"""
_SELECT_OF_RUNS = """
SELECT id, run_id, kind, payload FROM inbox WHERE run_id IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT ?"""
_SELECT_WAITING = """
SELECT inbox.run_id FROM inbox CROSS JOIN runs ON runs.run_id = inbox.run_id
WHERE runs.owner IS NULL GROUP BY inbox.run_id ORDER BY min(inbox.id) LIMIT ?"""


def post(db: sqlite3.Connection, run_id: RunId, kind: str, payload: bytes, now: float) -> tuple[int, str]:
    """Store a message; returns its id and the bell of the run's live owner."""
    row = db.execute(_SELECT_BELL, (now, run_id)).fetchone()
    if row is None:
        raise NotFound(f"there is no run {run_id}", hint="`headrace runs` lists the runs there are")
    wake_at, bell = row
    number = db.execute(
        "INSERT INTO inbox (run_id, kind, payload) VALUES (?, ?, ?)", (run_id, kind, payload.decode())
    ).lastrowid
    assert number is not None
    if wake_at is not None:
        db.execute("UPDATE runs SET wake_at = NULL WHERE run_id = ?", (run_id,))
    return number, bell


def inbox(db: sqlite3.Connection, run_ids: Sequence[RunId] | None, node: NodeId, limit: int) -> list[InboxRow]:
    """Waiting messages, oldest first."""
    if run_ids is None:
        rows = db.execute(_SELECT_OWNED, (node, max(limit, 0)))
    else:
        rows = db.execute(_SELECT_OF_RUNS, (msgspec.json.encode(list(run_ids)).decode(), max(limit, 0)))
    return [_row(*row) for row in rows]


def _row(number: int, run_id: str, kind: str, payload: str) -> InboxRow:
    content: dict[str, Any] = msgspec.json.decode(payload)
    return InboxRow(number, RunId(run_id), kind, content)


def waiting_runs(db: sqlite3.Connection, limit: int) -> list[RunId]:
    """Unowned runs with messages, the one that has waited longest first."""
    return [run_id for (run_id,) in db.execute(_SELECT_WAITING, (max(limit, 0),))]
