"""Flushes as packets of statements, and workflow versions.

A flush is one packet: it takes the fence, inserts what is new, updates what has changed and commits, in one round trip
and one transaction. Only one that is larger than the server takes at once is several. Nothing is looked up before: an
insert skips what is there already, and if it skipped anything, the whole is rolled back and looked at (a repeated flush).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import compress
from typing import Any

import msgspec

from headrace.backends.stores.mysql_connections import Connection
from headrace.backends.stores.mysql_errors import DRIVER_ERRORS, REPEATED, is_lost, state_of
from headrace.backends.stores.mysql_text import (
    Json,
    Room,
    Value,
    call,
    chunks_of,
    inserts,
    literal,
    packets,
    placed,
)
from headrace.contracts.store import Flush, RunRow, RunUpdate, WorkflowRow
from headrace.core.errors import HistoryConflict
from headrace.core.ids import RunId, WorkflowVersion
from headrace.core.where import items_of, kind_of

Event = tuple[RunId, int, bytes]

IDLE_SECONDS_MAX = 10
"""In the middle of a flush of several packets, a node that says nothing for so long has lost it: it may be suspended, and
its locks must not last."""

_RUN_COLUMNS = (
    "run_id, workflow, version, state, created_at, ended_at, `trigger`, parent, error, tasks_total, tasks_done,"
    " tasks_failed, last_seq, owner, wake_at, `key`, tags, params, attributes"
)
_COUNT = b"SET @headrace_written = @headrace_written + ROW_COUNT()"
_LOOKUP_ROWS = 500
_LITERALS_KEPT = 256


async def commit(db: Connection, flush: Flush, first: bytes | None = None) -> None:
    """Make a flush durable; ``first`` is a statement for the same transaction, behind the fence. Raises the driver's
    errors and :class:`HistoryConflict`."""
    try:
        await _send(db, flush, flush.events, flush.new_runs, first)
    except DRIVER_ERRORS as error:
        if state_of(error) != REPEATED:
            raise
        events = await _missing_events(db, flush.events)
        known = await _known_runs(db, flush.new_runs)
        # A run that exists already comes from a repeated flush; whether it is the same run, its event 1 tells.
        await _send(db, flush, events, [row for row in flush.new_runs if row.run_id not in known], first)


async def _send(
    db: Connection, flush: Flush, events: Sequence[Event], new_runs: Sequence[RunRow], first: bytes | None
) -> None:
    texts = packets(_statements(flush, events, new_runs, db.room, first), db.room.bytes_max)
    try:
        if len(texts) == 1:
            await db.run(texts[0])
            return
        await db.run(b"SET @headrace_idle = @@wait_timeout, SESSION wait_timeout = %d" % IDLE_SECONDS_MAX)
        for text in texts:
            await db.run(text)
        await db.run(b"SET SESSION wait_timeout = @headrace_idle")
    except DRIVER_ERRORS as error:
        if not is_lost(error):  # the procedures have rolled back when they fail, plain statements have not
            await db.run(b"ROLLBACK" if len(texts) == 1 else b"ROLLBACK;SET SESSION wait_timeout = @headrace_idle")
        raise


def _statements(
    flush: Flush, events: Sequence[Event], new_runs: Sequence[RunRow], room: Room, first: bytes | None = None
) -> Iterator[bytes]:
    yield call("begin_1", flush.node, flush.epoch)
    if first is not None:
        yield first
    changed = {update.run_id: update for update in flush.updates if update.attributes is not None}
    if new_runs:
        yield from _new_runs(flush, new_runs, changed, room)
    for text in inserts("INSERT INTO events (run_id, seq, data)", events, "ON DUPLICATE KEY UPDATE seq = seq", room):
        yield text
        yield _COUNT
    if flush.inbox_done:
        ids = b",".join(map(literal, sorted(flush.inbox_done)))
        yield b"DELETE FROM inbox WHERE id IN (%s)" % ids
    for outcome in flush.outcomes_done:
        yield placed("DELETE FROM task_outcomes WHERE run_id = ? AND task = ?", outcome)
    if flush.updates:
        yield from _updates(flush, room)
    if changed:
        yield from _attributes(changed, room)
    yield call("commit_1", len(events) + len(new_runs))


def _new_runs(flush: Flush, new_runs: Sequence[RunRow], changed: dict[RunId, RunUpdate], room: Room) -> Iterator[bytes]:
    # A run that is created and changed in one flush is created without attributes, so that the change is one.
    rows = [
        msgspec.structs.replace(row, attributes={}) if row.attributes and row.run_id in changed else row
        for row in sorted(new_runs, key=_run_id)
    ]
    for text in _run_inserts(rows, room):
        yield text
        yield _COUNT
    keys = sorted((row.workflow, row.key, row.run_id, flush.node, flush.epoch) for row in rows if row.key is not None)
    yield from inserts(
        "INSERT INTO run_keys (workflow, `key`, run_id, node, epoch)",
        keys,
        "ON DUPLICATE KEY UPDATE run_id = VALUES(run_id), node = VALUES(node), epoch = VALUES(epoch)",
        room,
    )
    tags = ((row.run_id, key, value) for row in rows for key, value in row.tags.items())
    yield from inserts("INSERT INTO run_tags (run_id, `key`, value)", tags, "", room)
    items = ((row.run_id, *item) for row in rows for item in _items(row.attributes))
    yield from inserts("INSERT INTO run_attributes (run_id, name, kind, text, number)", items, "", room)


def _run_inserts(rows: Sequence[RunRow], room: Room) -> Iterator[bytes]:
    """Most of what a run begins with is what the others begin with: equal values are written once, and a column that is
    NULL in all rows is left out, because the server needs longer to read a literal than to fill a column."""
    values = [_run_values(row) for row in rows]
    filled = [any(value is not None for value in column) for column in zip(*values, strict=True)]
    head = f"INSERT INTO runs ({', '.join(compress(_RUN_COLUMNS.split(', '), filled))})"
    tail = "ON DUPLICATE KEY UPDATE run_id = runs.run_id"
    write = lru_cache(_LITERALS_KEPT)(literal)  # 1, 1.0 and True are one to it, as they are to the columns
    return inserts(head, (tuple(compress(row, filled)) for row in values), tail, room, write)


def _run_values(run: RunRow) -> tuple[Value, ...]:
    identity = run.run_id, run.workflow, run.version, run.state, run.created_at, run.ended_at, run.trigger, run.parent
    counts = run.tasks_total, run.tasks_done, run.tasks_failed, run.last_seq, run.owner, run.wake_at, run.key
    return *identity, run.error, *counts, _json(run.tags), _json(run.params), _json(run.attributes)


def _updates(flush: Flush, room: Room) -> Iterator[bytes]:
    # In the order of run ids, as everybody locks rows: no deadlocks.
    updates = sorted(flush.updates, key=_run_id)
    for group in chunks_of([_update_fields(update) for update in updates], room.bytes_max // 2):
        yield call("update_runs_1", flush.node, Json(group))
    for update in updates:
        if update.error is not None:
            yield placed(
                "UPDATE runs SET error = ? WHERE run_id = ? AND last_seq = ?",
                (update.error, update.run_id, update.last_seq),
            )
    # A message that arrived while the run was being parked must not wait for its timer. Whoever posts locks the run
    # first, so either the message is seen here or the parked run is seen there.
    parked = [update.run_id for update in updates if update.release and update.wake_at is not None]
    if parked:
        yield (
            b"UPDATE runs SET wake_at = NULL WHERE run_id IN (%s) AND owner IS NULL AND wake_at IS NOT NULL"
            b" AND EXISTS (SELECT 1 FROM inbox WHERE inbox.run_id = runs.run_id)" % b",".join(map(literal, parked))
        )


def _update_fields(update: RunUpdate) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "r": update.run_id,
        "s": update.state,
        "q": update.last_seq,
        "t": update.tasks_total,
        "d": update.tasks_done,
        "f": update.tasks_failed,
    }
    if update.ended_at is not None:
        fields["e"] = update.ended_at
    if update.wake_at is not None:
        fields["w"] = update.wake_at
    if update.release:
        fields["l"] = 1
    return fields


def _attributes(changed: dict[RunId, RunUpdate], room: Room) -> Iterator[bytes]:
    rows = [(update, update.attributes or {}) for _, update in sorted(changed.items())]
    groups = chunks_of(
        [
            {
                "r": update.run_id,
                "q": update.last_seq,
                "j": _json(attributes).decode(),
                "i": [_item_fields(item) for item in _items(attributes)],
            }
            for update, attributes in rows
        ],
        room.bytes_max // 4,
    )
    for group in groups:
        heads = [{name: row[name] for name in ("r", "q", "j")} for row in group]
        items = [{"r": row["r"], "q": row["q"], **item} for row in group for item in row["i"]]
        yield call("attributes_1", Json(heads), Json(items))


def _item_fields(item: tuple[Value, ...]) -> dict[str, Any]:
    name, kind, text, number = item
    return {"n": name, "k": kind, "t": text} if kind == "text" else {"n": name, "k": kind, "v": number}


def _items(attributes: dict[str, Any]) -> list[tuple[Value, ...]]:
    """One row of ``run_attributes`` per searchable value: name, kind, text, number."""
    return [
        (name, kind, str(item) if kind == "text" else None, None if kind == "text" else float(item))
        for name, value in attributes.items()
        for item in items_of(value)
        for kind in (kind_of(item),)
    ]


def _run_id(row: RunRow | RunUpdate) -> str:
    return row.run_id


def _json(value: dict[str, Any] | None) -> bytes:
    return msgspec.json.encode(value) if value else b"{}"


# ---- repeated flushes -----------------------------------------------------------------------------------------------


async def _missing_events(db: Connection, events: Sequence[Event]) -> list[Event]:
    """Those that are not there. Events never change, so what is read outside the transaction still holds in it."""
    given = {(run_id, seq): data for run_id, seq, data in events}
    keys = list(given)
    for first in range(0, len(keys), _LOOKUP_ROWS):
        some = b",".join(b"(%s,%d)" % (literal(run_id), seq) for run_id, seq in keys[first : first + _LOOKUP_ROWS])
        for run, seq, data in await db.rows(b"SELECT run_id, seq, data FROM events WHERE (run_id, seq) IN (%s)" % some):
            if given.pop((RunId(run.decode()), seq)) != data:
                raise HistoryConflict(
                    f"run {run.decode()} has another event {seq} already: two nodes wrote it, this one came second",
                    hint="drop the run and read its history again",
                )
    return [(run_id, seq, data) for (run_id, seq), data in given.items()]


async def _known_runs(db: Connection, rows: Iterable[RunRow]) -> set[str]:
    ids = b",".join(literal(row.run_id) for row in rows)
    if not ids:
        return set()
    return {run_id.decode() for (run_id,) in await db.rows(b"SELECT run_id FROM runs WHERE run_id IN (%s)" % ids)}


# ---- workflow versions ----------------------------------------------------------------------------------------------

SELECT_WORKFLOW = "SELECT version, name, data, source, created_at FROM workflows"
"""To be completed with a condition."""


def workflow_row(values: Sequence[Any]) -> WorkflowRow:
    """One answer of :data:`SELECT_WORKFLOW`."""
    version, name, data, source, created_at = values
    return WorkflowRow(WorkflowVersion(version.decode()), name.decode(), data, source.decode(), created_at)
