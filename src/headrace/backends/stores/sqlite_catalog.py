"""Lists, searches and retention in SQLite. Functions take the connection first."""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterable, Sequence
from operator import attrgetter

import msgspec

from headrace.backends.stores.run_rows import run_row
from headrace.backends.stores.sqlite_where import Condition, Translator
from headrace.contracts.store import RunFilter, RunRow
from headrace.core.ids import NodeId, RunId

EVENTS_PER_DELETE = 5000
"""Events that retention deletes in one transaction: some 20 ms during which commits wait."""

_SELECT_RUN = """
SELECT runs.run_id, workflow, version, state, created_at, ended_at, trigger, parent, error, tasks_total, tasks_done,
       tasks_failed, last_seq, owner, wake_at, runs.key, tags, params, attributes,
       EXISTS (SELECT 1 FROM nodes WHERE nodes.node = runs.owner AND lost_at IS NULL AND expires_at > ?)"""

_LAST = "\U0010ffff"  # sorts after every character of an id


def run(db: sqlite3.Connection, run_id: RunId, now: float) -> RunRow | None:
    """One run."""
    values = db.execute(f"{_SELECT_RUN} FROM runs WHERE run_id = ?", (now, run_id)).fetchone()
    return run_row(values) if values else None


def runs(db: sqlite3.Connection, where: RunFilter, now: float, live_nodes: Sequence[NodeId] = ()) -> list[RunRow]:
    """Runs that match, newest first. ``live_nodes`` tell which runs are interrupted, where the filter asks for that.

    Every state is asked for on its own and the answers are merged: each query then walks one index in the order
    wanted and stops at the limit, where ``state IN (...)`` would sort everything that matches.
    """
    limit = max(where.limit, 0)
    more = None if where.where is None else Translator(now, live_nodes).condition(where.where)
    states: list[str | None] = [*dict.fromkeys(where.states)]
    answers = [_runs_in_state(db, where, state, limit, now, more) for state in states or [None]]
    merged = heapq.merge(*answers, key=attrgetter("run_id"), reverse=True)
    return [row for row, _ in zip(merged, range(limit), strict=False)]


def _runs_in_state(
    db: sqlite3.Connection, where: RunFilter, state: str | None, limit: int, now: float, more: Condition | None
) -> list[RunRow]:
    conditions: list[str] = []
    values: list[object] = [now]
    source = "runs"
    for number, (key, value) in enumerate(where.tags.items()):
        if number == 0:
            # Driven by the index of tags, which is in the order of run ids.
            source = "run_tags CROSS JOIN runs ON runs.run_id = run_tags.run_id"
            conditions.append("run_tags.key = ? AND run_tags.value = ?")
        else:
            conditions.append(
                "EXISTS (SELECT 1 FROM run_tags AS t WHERE t.key = ? AND t.value = ? AND t.run_id = runs.run_id)"
            )
        values += [key, value]
    driver = "run_tags.run_id" if where.tags else "runs.run_id"
    if where.workflow is not None:
        conditions.append("workflow = ?")
        values.append(where.workflow)
    if state is not None:
        conditions.append("state = ?")
        values.append(state)
    if where.before is not None:
        conditions.append(f"{driver} < ?")
        values.append(where.before)
    if more is not None:
        conditions.append(more[0])
        values += more[1]
    condition = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    # Nothing of the caller is in the text: only the constants above.
    statement = f"{_SELECT_RUN} FROM {source} {condition} ORDER BY {driver} DESC LIMIT ?"
    return [run_row(found) for found in db.execute(statement, (*values, limit))]


def find_runs(db: sqlite3.Connection, prefix: str, limit: int) -> list[RunId]:
    """Ids with that prefix, newest first. Ids are upper case; lower case and mixed input is tried as written, too."""
    found: set[str] = set()
    for start in {prefix, prefix.upper(), prefix.lower()}:
        rows = db.execute(
            "SELECT run_id FROM runs WHERE run_id >= ? AND run_id < ? ORDER BY run_id DESC LIMIT ?",
            (start, start + _LAST, max(limit, 0)),
        )
        found.update(run_id for (run_id,) in rows)
    return [RunId(run_id) for run_id in sorted(found, reverse=True)[: max(limit, 0)]]


# ---- retention ------------------------------------------------------------------------------------------------------
# First the rows go, in one transaction: from then on the runs do not exist. Their events follow in bounded batches;
# deleted_runs remembers whose, so that a crash in between leaves nothing behind for ever.

_SELECT_ENDED = """
SELECT run_id, tags, workflow, key FROM runs
WHERE ended_at IS NOT NULL AND ended_at < ? AND owner IS NULL ORDER BY ended_at LIMIT ?"""
_DELETE_EVENTS = """
DELETE FROM events WHERE run_id = ? AND seq IN (SELECT seq FROM events WHERE run_id = ? ORDER BY seq LIMIT ?)"""


def delete_rows(db: sqlite3.Connection, ended_before: float, limit: int) -> list[RunId]:
    """Delete finished runs with their tags, keys, attributes and messages; :func:`delete_events` deletes their events."""
    ended = db.execute(_SELECT_ENDED, (ended_before, max(limit, 0))).fetchall()
    ids = [(run_id,) for run_id, *_ in ended]
    keys = [(workflow, key, run_id) for run_id, _, workflow, key in ended if key is not None]
    db.executemany("DELETE FROM run_tags WHERE key = ? AND value = ? AND run_id = ?", _tags(ended))
    db.executemany("DELETE FROM run_keys WHERE workflow = ? AND key = ? AND run_id = ?", keys)
    db.executemany("DELETE FROM run_attributes WHERE run_id = ?", ids)
    db.executemany("DELETE FROM runs WHERE run_id = ?", ids)  # messages go with them: ON DELETE CASCADE
    db.executemany("INSERT OR IGNORE INTO deleted_runs (run_id) VALUES (?)", ids)
    return [RunId(run_id) for (run_id,) in ids]


def _tags(ended: Iterable[tuple[str, str, str, str | None]]) -> list[tuple[str, str, str]]:
    return [
        (key, value, run_id)
        for run_id, tags, *_ in ended
        if tags != "{}"
        for key, value in msgspec.json.decode(tags).items()
    ]


def delete_events(db: sqlite3.Connection) -> bool:
    """Delete one batch of the events of deleted runs; False when none are left."""
    room = EVENTS_PER_DELETE
    while room > 0:
        row = db.execute("SELECT run_id FROM deleted_runs LIMIT 1").fetchone()
        if row is None:
            return False
        deleted = db.execute(_DELETE_EVENTS, (row[0], row[0], room)).rowcount
        if deleted < room:
            db.execute("DELETE FROM deleted_runs WHERE run_id = ?", row)
        room -= max(deleted, 1)
    return True
