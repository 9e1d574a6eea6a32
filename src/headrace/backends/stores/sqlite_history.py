"""History in SQLite: the hot path (:func:`commit`), reading back, workflow versions.

Functions take the connection first and run on the writer's or reader's thread; those that write run inside a
transaction that their caller opens and commits.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import msgspec

from headrace.backends.stores import sqlite_keys
from headrace.contracts.store import Flush, RunRow, RunUpdate, WorkflowRow
from headrace.core.errors import Fenced, HistoryConflict, NotFound, StoreError
from headrace.core.ids import Epoch, NodeId, RunId, WorkflowVersion
from headrace.core.where import items_of, kind_of

CHUNK_ROWS = 50
"""Rows of one INSERT. More gain nothing; 19 columns times this stay below the 999 values of old SQLite versions."""

# Events are stored as text, not blobs, so that the sqlite3 shell shows them. bytes.decode here is cheaper than
# CAST in SQL; reading casts back, which spares decoding and encoding again.
_INSERT_EVENT = "INSERT INTO events (run_id, seq, data) VALUES (?, ?, ?)"
INSERT_FENCED = """
INSERT INTO events (run_id, seq, data) SELECT ?, ?, ? FROM nodes WHERE node = ? AND epoch = ?"""
_SELECT_EVENT = "SELECT CAST(data AS BLOB) FROM events WHERE run_id = ? AND seq = ?"
_SELECT_EVENTS = "SELECT seq, CAST(data AS BLOB) FROM events WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?"

# A run that exists already comes from a repeated flush; whether it is the same run, its event 1 has told.
_INSERT_RUN = """
INSERT INTO runs (run_id, workflow, version, state, created_at, ended_at, trigger, parent, error, tasks_total,
                  tasks_done, tasks_failed, last_seq, owner, wake_at, tags, params, key, attributes)"""
_UNLESS_KNOWN = "ON CONFLICT (run_id) DO NOTHING"
_INSERT_TAG = "INSERT INTO run_tags (key, value, run_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"

# SQLite rewrites the entry of every index whose column is named in SET, changed or not. So the statement that serves
# nearly every flush names no indexed column and finds only rows in which nothing rare changes; when it misses one, the
# two below do the whole work. last_seq <= ? keeps a repeated flush from undoing a newer one.
_UPDATE_COUNTS = """
UPDATE runs SET last_seq = ?, tasks_total = ?, tasks_done = ?, tasks_failed = ?
WHERE run_id = ? AND owner = ? AND last_seq <= ?"""
_UPDATE_COUNTS_ONLY = f"{_UPDATE_COUNTS} AND state = ? AND ended_at IS ? AND error IS ? AND wake_at IS ?"
_UPDATE_STATE = """
UPDATE runs SET state = ?, ended_at = ?, error = ?, wake_at = ?
WHERE run_id = ? AND owner = ? AND last_seq = ?
  AND (state IS NOT ? OR ended_at IS NOT ? OR error IS NOT ? OR wake_at IS NOT ?)"""
# Most releases are ends of runs, which change every index anyway.
_UPDATE_AND_RELEASE = """
UPDATE runs SET last_seq = ?, tasks_total = ?, tasks_done = ?, tasks_failed = ?, state = ?, ended_at = ?, error = ?,
                wake_at = ?, owner = NULL
WHERE run_id = ? AND owner = ? AND last_seq <= ?"""
# A message that arrived while the run was being parked must not wait for its timer.
_WAKE_FOR_MAIL = """
UPDATE runs SET wake_at = NULL
WHERE run_id = ? AND owner IS NULL AND wake_at IS NOT NULL
  AND EXISTS (SELECT 1 FROM inbox WHERE inbox.run_id = runs.run_id)"""


def check_fence(db: sqlite3.Connection, node: NodeId, epoch: Epoch) -> None:
    """Raise :class:`Fenced` unless ``node`` holds ``epoch``. A lease that ended but was not taken is still held."""
    row = db.execute("SELECT epoch FROM nodes WHERE node = ?", (node,)).fetchone()
    if row is None or row[0] != epoch:
        raise Fenced(
            f"node {node} no longer holds epoch {epoch}: {'it left' if row is None else 'its lease was taken'}",
            hint="drop its runs and join again",
        )


def insert_fenced(db: sqlite3.Connection, flush: Flush) -> bool:
    """Check the fence and insert the only event of a flush, in one statement. Outside of a transaction that is one of its
    own, durable on return. False if nothing was inserted, for whichever reason: :func:`commit` finds out."""
    run_id, seq, data = flush.events[0]
    try:
        return db.execute(INSERT_FENCED, (run_id, seq, data.decode(), flush.node, flush.epoch)).rowcount == 1
    except (sqlite3.IntegrityError, UnicodeDecodeError):
        return False


def commit(db: sqlite3.Connection, flush: Flush) -> None:
    """Write a flush; see :meth:`headrace.contracts.store.History.commit`."""
    if not (len(flush.events) == 1 and insert_fenced(db, flush)):
        check_fence(db, flush.node, flush.epoch)
        _insert_events(db, flush.events)
    if flush.new_runs:
        insert_runs(db, flush.new_runs)
        for run in flush.new_runs:
            if run.key is not None:
                sqlite_keys.take(db, flush.node, flush.epoch, run)
    if flush.updates:
        _update_runs(db, flush.node, flush.updates)
    if flush.inbox_done:
        db.executemany("DELETE FROM inbox WHERE id = ?", [(number,) for number in flush.inbox_done])
    if flush.outcomes_done:
        db.executemany("DELETE FROM task_outcomes WHERE run_id = ? AND task = ?", flush.outcomes_done)
    parked = [(update.run_id,) for update in flush.updates if update.release and update.wake_at is not None]
    if parked:
        db.executemany(_WAKE_FOR_MAIL, parked)


def _insert_events(db: sqlite3.Connection, events: list[tuple[RunId, int, bytes]]) -> None:
    if not events:
        return
    try:
        rows: list[tuple[object, ...]] = [(run_id, seq, data.decode()) for run_id, seq, data in events]
        insert_rows(db, "INSERT INTO events (run_id, seq, data)", rows)
    except sqlite3.IntegrityError:
        # Chunks inserted before the clash stay in the transaction and compare equal below.
        _insert_missing_events(db, events)
    except UnicodeDecodeError as error:
        raise StoreError(f"an event is not UTF-8 text ({error})") from error


def insert_rows(db: sqlite3.Connection, head: str, rows: list[tuple[object, ...]], tail: str = "") -> None:
    """Insert rows, :data:`CHUNK_ROWS` a statement.

    ``executemany`` gives the interpreter away and takes it back for every row; beside a busy event loop each taking is
    a wait. A statement for many rows does so once: half the CPU, half the time.
    """
    for first in range(0, len(rows), CHUNK_ROWS):
        chunk = rows[first : first + CHUNK_ROWS]
        db.execute(_insert(head, len(chunk[0]), len(chunk), tail), list(chain.from_iterable(chunk)))


@lru_cache(maxsize=4 * CHUNK_ROWS)
def _insert(head: str, columns: int, rows: int, tail: str) -> str:
    one = f"({', '.join('?' * columns)})"
    return f"{head} VALUES {', '.join([one] * rows)} {tail}"


def _insert_missing_events(db: sqlite3.Connection, events: Iterable[tuple[RunId, int, bytes]]) -> None:
    for run_id, seq, data in events:
        row = db.execute(_SELECT_EVENT, (run_id, seq)).fetchone()
        if row is None:
            db.execute(_INSERT_EVENT, (run_id, seq, data.decode()))
        elif row[0] != data:
            raise HistoryConflict(
                f"run {run_id} has another event {seq} already: two nodes wrote it, this one came second",
                hint="drop the run and read its history again",
            )


def _run_values(run: RunRow) -> tuple[object, ...]:
    encode = msgspec.json.encode
    identity = run.run_id, run.workflow, run.version, run.state, run.created_at, run.ended_at, run.trigger, run.parent
    counts = run.error, run.tasks_total, run.tasks_done, run.tasks_failed, run.last_seq, run.owner, run.wake_at
    tags = encode(run.tags).decode() if run.tags else "{}"
    params = encode(run.params).decode() if run.params else "{}"
    return *identity, *counts, tags, params, run.key, encode(run.attributes).decode() if run.attributes else "{}"


def insert_runs(db: sqlite3.Connection, runs: Sequence[RunRow]) -> None:
    """Write the rows of new runs; rows that exist are left alone."""
    tags = [(key, value, run.run_id) for run in runs for key, value in run.tags.items()]
    insert_rows(db, _INSERT_RUN, [_run_values(run) for run in runs], _UNLESS_KNOWN)
    if tags:
        db.executemany(_INSERT_TAG, tags)
    for run in runs:
        if run.attributes:
            _index_attributes(db, run.run_id, run.attributes)


def _update_runs(db: sqlite3.Connection, node: NodeId, updates: list[RunUpdate]) -> None:
    kept = [update for update in updates if not update.release]
    released = [update for update in updates if update.release]
    if kept:
        _update_kept(db, node, kept)
    if released:
        rows = [(*_counts(u), *_state(u), u.run_id, node, u.last_seq) for u in released]
        if db.executemany(_UPDATE_AND_RELEASE, rows).rowcount != len(released):
            for update in released:
                _check_update(db, node, update)
    for update in updates:
        if update.attributes is not None:
            _update_attributes(db, update, update.attributes)


_SET_ATTRIBUTES = "UPDATE runs SET attributes = ? WHERE run_id = ? AND last_seq = ? AND attributes <> ?"
_INSERT_ATTRIBUTE = "INSERT INTO run_attributes (name, kind, text, number, run_id) VALUES (?, ?, ?, ?, ?)"


def _update_attributes(db: sqlite3.Connection, update: RunUpdate, attributes: dict[str, Any]) -> None:
    """After the update itself: ``last_seq`` tells whether that was the newest. Most updates change no attribute."""
    text = msgspec.json.encode(attributes).decode()
    if db.execute(_SET_ATTRIBUTES, (text, update.run_id, update.last_seq, text)).rowcount:
        _index_attributes(db, update.run_id, attributes)


def _index_attributes(db: sqlite3.Connection, run_id: RunId, attributes: dict[str, Any]) -> None:
    db.execute("DELETE FROM run_attributes WHERE run_id = ?", (run_id,))
    rows = [
        (name, kind, item if kind == "text" else None, None if kind == "text" else float(item), run_id)
        for name, value in attributes.items()
        for item in items_of(value)
        for kind in (kind_of(item),)
    ]
    db.executemany(_INSERT_ATTRIBUTE, rows)


def _update_kept(db: sqlite3.Connection, node: NodeId, updates: list[RunUpdate]) -> None:
    counts = [(*_counts(u), u.run_id, node, u.last_seq) for u in updates]
    states = [_state(u) for u in updates]
    quiet = [(*count, *state) for count, state in zip(counts, states, strict=True)]
    # rowcount of executemany is the sum over all rows.
    if db.executemany(_UPDATE_COUNTS_ONLY, quiet).rowcount == len(updates):
        return
    if db.executemany(_UPDATE_COUNTS, counts).rowcount != len(updates):
        for update in updates:
            _check_update(db, node, update)
    db.executemany(_UPDATE_STATE, [(*state, *count[4:], *state) for count, state in zip(counts, states, strict=True)])


def _counts(update: RunUpdate) -> tuple[object, ...]:
    return update.last_seq, update.tasks_total, update.tasks_done, update.tasks_failed


def _state(update: RunUpdate) -> tuple[object, ...]:
    return update.state, update.ended_at, update.error, update.wake_at


def _check_update(db: sqlite3.Connection, node: NodeId, update: RunUpdate) -> None:
    """Why an update found no row: applied before (fine), or the run belongs to somebody else."""
    row = db.execute("SELECT owner, last_seq FROM runs WHERE run_id = ?", (update.run_id,)).fetchone()
    if row is None:
        raise NotFound(f"there is no run {update.run_id} to update")
    owner, last_seq = row
    if owner != node and last_seq < update.last_seq:
        raise Fenced(
            f"run {update.run_id} is owned by {owner or 'nobody'}, not by {node}",
            hint="claim a run before writing to it",
        )


def history(db: sqlite3.Connection, run_id: RunId, after: int, limit: int | None) -> list[tuple[int, bytes]]:
    """Events of a run in order."""
    return db.execute(_SELECT_EVENTS, (run_id, after, -1 if limit is None else limit)).fetchall()


# ---- workflow versions --------------------------------------------------------------------------------------------

_PUT_WORKFLOW = """
INSERT INTO workflows (version, name, put_number, created_at, source, data)
VALUES (?, ?, (SELECT coalesce(max(put_number), 0) + 1 FROM workflows WHERE name = ?), ?, ?, ?)
ON CONFLICT (version) DO UPDATE
SET put_number = excluded.put_number, created_at = excluded.created_at, source = excluded.source"""
_SELECT_WORKFLOW = "SELECT version, name, CAST(data AS BLOB), source, created_at FROM workflows"
_LATEST = "put_number = (SELECT max(put_number) FROM workflows AS other WHERE other.name = workflows.name)"


def put_workflow(db: sqlite3.Connection, row: WorkflowRow) -> None:
    """Store a version, or note that it was put again."""
    db.execute(_PUT_WORKFLOW, (row.version, row.name, row.name, row.created_at, row.source, row.data.decode()))


def workflow(db: sqlite3.Connection, version: WorkflowVersion) -> WorkflowRow | None:
    """A version by its hash."""
    row = db.execute(f"{_SELECT_WORKFLOW} WHERE version = ?", (version,)).fetchone()
    return WorkflowRow(*row) if row else None


def workflow_named(db: sqlite3.Connection, name: str) -> WorkflowRow | None:
    """The version put last under a name."""
    row = db.execute(f"{_SELECT_WORKFLOW} WHERE name = ? ORDER BY put_number DESC LIMIT 1", (name,)).fetchone()
    return WorkflowRow(*row) if row else None


def workflows(db: sqlite3.Connection) -> list[WorkflowRow]:
    """The version put last of every name."""
    return [WorkflowRow(*row) for row in db.execute(f"{_SELECT_WORKFLOW} WHERE {_LATEST} ORDER BY name")]
