"""Leases in SQLite: nodes, their epochs, and which runs they own.

Functions take the connection first; those that write run inside a write transaction that their caller opens. ``now``
is read within that transaction from the clock of the one host that can hold an SQLite database.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from headrace.backends.stores.sqlite_history import check_fence
from headrace.backends.stores.sqlite_locks import NodeLock, NodeLocks
from headrace.contracts.store import NodeRow, RunRow
from headrace.core.errors import StoreError
from headrace.core.ids import Epoch, NodeId, RunId

LOST_KEPT_SECONDS = 24 * 3600.0
"""How long the row of a lost node stays to be seen."""

_PUT_NODE = """
INSERT INTO nodes (node, epoch, expires_at, lost_at, bell, info) VALUES (?, ?, ?, NULL, ?, ?)
ON CONFLICT (node) DO UPDATE SET epoch = excluded.epoch, expires_at = excluded.expires_at, lost_at = NULL,
                                 bell = excluded.bell, info = excluded.info, asked = ''"""

# Due timers first: there are only as many as have come due, so they cannot starve the others for long, while a
# steady stream of new runs could starve them.
_SELECT_DUE = """
SELECT run_id FROM runs WHERE owner IS NULL AND ended_at IS NULL AND wake_at <= ? ORDER BY wake_at, run_id LIMIT ?"""
_SELECT_READY = """
SELECT run_id FROM runs WHERE owner IS NULL AND ended_at IS NULL AND wake_at IS NULL ORDER BY run_id LIMIT ?"""


def next_epoch(db: sqlite3.Connection) -> Epoch:
    """A number that was never given before: for epochs, the tokens of locks, and places in lines."""
    db.execute("UPDATE epochs SET last = last + 1 WHERE id = 1")
    return Epoch(db.execute("SELECT last FROM epochs WHERE id = 1").fetchone()[0])


def _disown_all(db: sqlite3.Connection, node: str) -> None:
    """Make a node's runs unowned and its locks free."""
    db.execute("UPDATE runs SET owner = NULL WHERE owner = ?", (node,))
    db.execute("DELETE FROM locks WHERE node = ?", (node,))
    db.execute("DELETE FROM lock_waiters WHERE node = ?", (node,))


def join(
    db: sqlite3.Connection,
    locks: NodeLocks,
    *,
    node: NodeId,
    lease_seconds: float,
    bell: str,
    info: dict[str, Any],
    now: float,
) -> tuple[Epoch, NodeLock | None]:
    """Take a node's lease and lock under a new epoch; whoever held it before is fenced. A remote worker has no lock:
    this process is not the one that would die."""
    before = db.execute("SELECT epoch FROM nodes WHERE node = ?", (node,)).fetchone()
    epoch = next_epoch(db)
    db.execute(_PUT_NODE, (node, epoch, now + lease_seconds, bell, msgspec.json.encode(info).decode()))
    _disown_all(db, node)
    db.execute("DELETE FROM nodes WHERE lost_at < ?", (now - LOST_KEPT_SECONDS,))
    try:
        lock = None if info.get("remote") else locks.take(node, epoch)
    except OSError as error:
        raise StoreError(
            f"the lock file of node {node} in {locks.folder} cannot be made ({error.strerror})",
            hint="Headrace needs to write this folder; it may be deleted while no node runs",
        ) from error
    if before is not None:
        locks.remove(node, before[0])
    return epoch, lock


def renew(db: sqlite3.Connection, node: NodeId, epoch: Epoch, lease_seconds: float, now: float) -> bool:
    """Extend a lease that is still held."""
    cursor = db.execute(
        "UPDATE nodes SET expires_at = ? WHERE node = ? AND epoch = ? AND lost_at IS NULL",
        (now + lease_seconds, node, epoch),
    )
    return cursor.rowcount == 1


def leave(db: sqlite3.Connection, node: NodeId, epoch: Epoch) -> None:
    """Remove a node that still holds its epoch. Its row may go: epochs are never given twice."""
    if db.execute("DELETE FROM nodes WHERE node = ? AND epoch = ?", (node, epoch)).rowcount:
        _disown_all(db, node)


def nodes(db: sqlite3.Connection, now: float) -> list[NodeRow]:
    """All nodes, by name."""
    rows = db.execute(
        "SELECT node, epoch, expires_at, lost_at IS NULL AND expires_at > ?, bell, info, asked FROM nodes ORDER BY node",
        (now,),
    )
    return [
        NodeRow(NodeId(node), Epoch(epoch), expires_at, bool(live), bell, msgspec.json.decode(info), asked)
        for node, epoch, expires_at, live, bell, info, asked in rows
    ]


def describe(db: sqlite3.Connection, node: NodeId, epoch: Epoch, info: dict[str, Any]) -> None:
    """Replace what a node says about itself."""
    check_fence(db, node, epoch)
    db.execute("UPDATE nodes SET info = ? WHERE node = ?", (msgspec.json.encode(info).decode(), node))


def ask(db: sqlite3.Connection, node: NodeId, what: str, now: float) -> str | None:
    """Leave word for a living node; its bell."""
    changed = db.execute(
        "UPDATE nodes SET asked = ? WHERE node = ? AND lost_at IS NULL AND expires_at > ?", (what, node, now)
    )
    if changed.rowcount == 0:
        return None
    return db.execute("SELECT bell FROM nodes WHERE node = ?", (node,)).fetchone()[0]


def expire_lost(db: sqlite3.Connection, locks: NodeLocks, now: float) -> list[NodeId]:
    """Take the lease of every node that is late or dead."""
    held = db.execute("SELECT node, epoch, expires_at FROM nodes WHERE lost_at IS NULL ORDER BY node").fetchall()
    lost: list[NodeId] = []
    for node, epoch, expires_at in held:
        if expires_at > now and not locks.is_dead(node, epoch):
            continue
        db.execute("UPDATE nodes SET epoch = ?, lost_at = ? WHERE node = ?", (next_epoch(db), now, node))
        _disown_all(db, node)
        locks.remove(node, epoch)
        lost.append(node)
    db.execute("DELETE FROM nodes WHERE lost_at < ?", (now - LOST_KEPT_SECONDS,))
    return lost


def anyone_lost(db: sqlite3.Connection, locks: NodeLocks, now: float) -> bool:
    """Whether :func:`expire_lost` would find somebody: a read, so that asking often costs no write."""
    held = db.execute("SELECT node, epoch, expires_at FROM nodes WHERE lost_at IS NULL").fetchall()
    return any(expires_at <= now or locks.is_dead(node, epoch) for node, epoch, expires_at in held)


def live_nodes(db: sqlite3.Connection, locks: NodeLocks, now: float) -> list[NodeId]:
    """The nodes whose lease runs and whose process is not known to be dead."""
    held = db.execute("SELECT node, epoch FROM nodes WHERE lost_at IS NULL AND expires_at > ?", (now,)).fetchall()
    return [NodeId(node) for node, epoch in held if not locks.is_dead(node, epoch)]


def judge(db: sqlite3.Connection, locks: NodeLocks, rows: Iterable[RunRow]) -> None:
    """Correct ``live`` of runs whose owner is known to be dead although its lease has not ended."""
    dead: dict[NodeId, bool] = {}
    for row in rows:
        if not row.live or row.owner is None:
            continue
        if row.owner not in dead:
            found = db.execute("SELECT epoch FROM nodes WHERE node = ?", (row.owner,)).fetchone()
            dead[row.owner] = found is None or locks.is_dead(row.owner, found[0])
        row.live = not dead[row.owner]


def claim(
    db: sqlite3.Connection, node: NodeId, epoch: Epoch, *, limit: int, run_ids: Sequence[RunId] | None, now: float
) -> list[RunId]:
    """Take unowned runs. The write lock makes each run go to one claimer."""
    check_fence(db, node, epoch)
    limit = max(limit, 0)  # SQLite takes a negative LIMIT for none
    if run_ids is None:
        found = [run_id for (run_id,) in db.execute(_SELECT_DUE, (now, limit))]
        found += [run_id for (run_id,) in db.execute(_SELECT_READY, (limit - len(found),))]
    else:
        found = []
        for run_id in dict.fromkeys(run_ids):
            if len(found) >= limit:
                break
            if db.execute("SELECT 1 FROM runs WHERE run_id = ? AND owner IS NULL", (run_id,)).fetchone():
                found.append(run_id)
    db.executemany("UPDATE runs SET owner = ? WHERE run_id = ?", [(node, run_id) for run_id in found])
    return found


def release(db: sqlite3.Connection, node: NodeId, epoch: Epoch, run_ids: Sequence[RunId]) -> None:
    """Give runs up."""
    check_fence(db, node, epoch)
    db.executemany(
        "UPDATE runs SET owner = NULL WHERE run_id = ? AND owner = ?", [(run_id, node) for run_id in run_ids]
    )
