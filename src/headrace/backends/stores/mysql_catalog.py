"""Lists and searches in MySQL: statements, and rows made of their answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from headrace.backends.stores import run_rows
from headrace.backends.stores.mysql_text import literal, placed
from headrace.backends.stores.mysql_where import OWNER_LIVES, Translator
from headrace.contracts.locks import LockRow
from headrace.contracts.store import InboxRow, NodeRow, RunFilter, RunRow
from headrace.core.ids import Epoch, NodeId, RunId

EVENTS_PER_DELETE = 5000
"""Events that retention deletes in one transaction."""

_LAST = b"\xff"  # sorts after every character of an id

_COLUMNS = """runs.run_id, workflow, version, state, created_at, ended_at, `trigger`, parent, error, tasks_total,
tasks_done, tasks_failed, last_seq, owner, wake_at, `key`, tags, params, attributes"""

SELECT_INBOX_OWNED = """
SELECT inbox.id, inbox.run_id, inbox.kind, inbox.payload FROM inbox JOIN runs ON runs.run_id = inbox.run_id
WHERE runs.owner = ? ORDER BY inbox.id LIMIT ?"""
SELECT_WAITING_RUNS = """
SELECT inbox.run_id FROM inbox JOIN runs ON runs.run_id = inbox.run_id WHERE runs.owner IS NULL
GROUP BY inbox.run_id ORDER BY MIN(inbox.id) LIMIT ?"""
SELECT_NODES = """
SELECT nodes.node, nodes.epoch, COALESCE(leases.expires_at, nodes.expires_at),
       COALESCE(leases.expires_at > (SELECT seconds FROM clock), 0), nodes.bell, nodes.info, nodes.asked
FROM nodes LEFT JOIN leases ON leases.node = nodes.node ORDER BY nodes.node"""
SELECT_LOCKS = """
SELECT locks.name, locks.token, locks.holder, locks.node, locks.taken_at, lock_ends.expires_at,
    (SELECT COUNT(*) FROM lock_waiters JOIN leases AS theirs
        ON theirs.node = lock_waiters.node AND theirs.epoch = lock_waiters.epoch
        WHERE lock_waiters.name = locks.name
          AND LEAST(lock_waiters.expires_at, theirs.expires_at) > (SELECT seconds FROM clock))
FROM locks JOIN lock_ends ON lock_ends.name = locks.name
JOIN leases ON leases.node = locks.node AND leases.epoch = locks.epoch
WHERE LEAST(lock_ends.expires_at, leases.expires_at) > (SELECT seconds FROM clock) ORDER BY locks.name"""
SELECT_KEY_HOLDER = """
SELECT runs.run_id, runs.state FROM run_keys JOIN runs ON runs.run_id = run_keys.run_id
WHERE run_keys.workflow = ? AND run_keys.`key` = ?"""
SELECT_RUN = f"SELECT {_COLUMNS}, {OWNER_LIVES} FROM runs WHERE run_id = ?"


def inbox_statement(run_ids: Sequence[str], limit: int) -> bytes:
    """Messages of some runs."""
    ids = b",".join(map(literal, run_ids))
    return b"SELECT id, run_id, kind, payload FROM inbox WHERE run_id IN (%s) ORDER BY id LIMIT %d" % (ids, limit)


def runs_statement(where: RunFilter) -> bytes:
    """Runs that match, newest first.

    Every state is asked for on its own and the answers are merged: each part then walks one index in the order wanted
    and stops at the limit, where ``state IN (...)`` would sort everything that matches.
    """
    limit = max(where.limit, 0)
    parts = [_part(where, state, limit) for state in ([*dict.fromkeys(where.states)] or [None])]
    if len(parts) == 1:
        return parts[0]
    return b"SELECT * FROM (%s) AS found ORDER BY run_id DESC LIMIT %d" % (b" UNION ALL ".join(parts), limit)


def _part(where: RunFilter, state: str | None, limit: int) -> bytes:
    more = Translator()
    conditions: list[str] = []
    for key, value in where.tags.items():
        name, wanted = more.parameter(key), more.parameter(value)
        conditions.append(
            "runs.run_id IN (SELECT item.run_id FROM run_tags AS item"
            f" WHERE item.`key` = {name} AND item.value = {wanted})"
        )
    if where.workflow is not None:
        conditions.append(f"workflow = {more.parameter(where.workflow)}")
    if where.before is not None:
        conditions.append(f"runs.run_id < {more.parameter(where.before)}")
    if where.where is not None:
        conditions.append(more.condition(where.where))
    if state is not None:
        conditions.append(f"state = {more.parameter(state)}")
    condition = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    text = f"(SELECT {_COLUMNS}, {OWNER_LIVES} AS live FROM runs {condition} ORDER BY runs.run_id DESC LIMIT {limit})"
    return placed(text, more.values)


def run_row(values: Sequence[Any]) -> RunRow:
    """One answer of the statements above, which give texts as bytes."""
    return run_rows.run_row([value.decode() if isinstance(value, bytes) else value for value in values])


def find_statement(prefix: str, limit: int) -> bytes:
    """Ids with that prefix, newest first. Ids are upper case; lower case and mixed input is tried as written, too."""
    parts = [
        b"(SELECT run_id FROM runs WHERE run_id >= %s AND run_id < %s ORDER BY run_id DESC LIMIT %d)"
        % (literal(start), literal(start.encode() + _LAST), max(limit, 0))
        for start in sorted({prefix, prefix.upper(), prefix.lower()})
    ]
    return b"SELECT run_id FROM (%s) AS found ORDER BY run_id DESC LIMIT %d" % (b" UNION ".join(parts), max(limit, 0))


def inbox_row(values: Sequence[Any]) -> InboxRow:
    """One message."""
    number, run_id, kind, payload = values
    return InboxRow(number, RunId(run_id.decode()), kind.decode(), msgspec.json.decode(payload))


def node_row(values: Sequence[Any]) -> NodeRow:
    """One node."""
    node, epoch, expires_at, live, bell, info, asked = values
    told = msgspec.json.decode(info)
    return NodeRow(NodeId(node.decode()), Epoch(epoch), expires_at, bool(live), bell.decode(), told, asked.decode())


def lock_row(values: Sequence[Any]) -> LockRow:
    """One lock."""
    name, token, holder, node, taken_at, expires_at, waiting = values
    return LockRow(name.decode(), token, holder.decode(), NodeId(node.decode()), taken_at, expires_at, waiting)


def ids_of(hexed: str) -> list[str]:
    """The names in a list as the procedures give it: in hex, with commas."""
    return [bytes.fromhex(one).decode() for one in hexed.split(",") if one]
