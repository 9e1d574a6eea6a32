"""Wishes in SQLite, see contracts/wishes.py. Functions take the connection first; :func:`add` and :func:`forget` run
inside a transaction of their caller."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from headrace.contracts.wishes import Wish, Wished
from headrace.core.ids import NodeId, RunId

_ADD = """
INSERT INTO wishes (run_id, node, changes)
SELECT run_id, ?, run_id IN (SELECT value FROM json_each(?)) FROM runs
WHERE run_id IN (SELECT value FROM json_each(?)) AND ended_at IS NULL
ON CONFLICT (run_id, node) DO UPDATE SET changes = 1 WHERE excluded.changes > changes"""
_SEEN = """
SELECT runs.run_id, ended_at IS NOT NULL, owner, changes FROM runs
LEFT JOIN wishes ON wishes.run_id = runs.run_id AND wishes.node = ?
WHERE runs.run_id IN (SELECT value FROM json_each(?))"""

# LEFT JOIN fixes the order of the loops: the wishes are few, the runs are many.
_SELECT = """
SELECT wishes.run_id, wishes.node, nodes.bell, changes, runs.run_id IS NULL OR runs.ended_at IS NOT NULL
FROM wishes LEFT JOIN runs ON runs.run_id = wishes.run_id
LEFT JOIN nodes ON nodes.node = wishes.node AND nodes.lost_at IS NULL AND nodes.expires_at > ?"""
_OF_RUNS = f"{_SELECT} JOIN json_each(?) AS asked ON asked.value = wishes.run_id"
_OF_OWNER = f"""{_SELECT}
WHERE runs.owner = ? OR runs.run_id IS NULL OR runs.ended_at IS NOT NULL OR nodes.node IS NULL"""


def _list(run_ids: Sequence[RunId]) -> str:
    return msgspec.json.encode(list(run_ids)).decode()


def seen(
    db: sqlite3.Connection, node: NodeId, run_ids: Sequence[RunId], changes: Sequence[RunId]
) -> tuple[list[Wished], bool]:
    """What became of the runs, and whether a wish is missing."""
    rows = db.execute(_SEEN, (node, _list(run_ids))).fetchall()
    all_changes = frozenset(changes)
    missing = any(
        not ended and (wished is None or (not wished and run_id in all_changes)) for run_id, ended, _, wished in rows
    )
    return [Wished(RunId(run_id), bool(ended), owner) for run_id, ended, owner, _ in rows], missing


def add(db: sqlite3.Connection, node: NodeId, run_ids: Sequence[RunId], changes: Sequence[RunId]) -> None:
    """Wish."""
    db.execute(_ADD, (node, _list(changes), _list(run_ids)))


def wishes(db: sqlite3.Connection, node: NodeId, run_ids: Sequence[RunId] | None, now: float) -> list[Wish]:
    """See :meth:`headrace.contracts.wishes.Wishes.wishes`."""
    found = db.execute(_OF_OWNER, (now, node)) if run_ids is None else db.execute(_OF_RUNS, (now, _list(run_ids)))
    return [
        Wish(RunId(run_id), NodeId(who), bell, bool(changes), bool(ended))
        for run_id, who, bell, changes, ended in found
    ]


def forget(db: sqlite3.Connection, wishes: Sequence[tuple[RunId, NodeId]]) -> None:
    """Remove wishes."""
    db.executemany("DELETE FROM wishes WHERE run_id = ? AND node = ?", wishes)
