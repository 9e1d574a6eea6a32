"""Locks and terms in SQLite; see :mod:`headrace.contracts.locks`.

Functions take the connection first; those that write run inside a write transaction that their caller opens: SQLite's one
write lock puts all claims in one order. A process that is known to be dead (its lock file can be locked) holds nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from headrace.backends.stores.sqlite_history import check_fence
from headrace.backends.stores.sqlite_leases import next_epoch
from headrace.backends.stores.sqlite_locks import NodeLocks
from headrace.contracts.locks import LEADER, PLACE_SECONDS, STORE, LockClaim, LockRenewal, LockRow, LockTurn, Term
from headrace.core.errors import NotLeader
from headrace.core.ids import Epoch, NodeId

_PUT_TERM = """
INSERT INTO terms (authority, term) VALUES (?, ?) ON CONFLICT (authority) DO UPDATE SET term = excluded.term
WHERE terms.term <= excluded.term"""

_RENEW = """
UPDATE locks SET expires_at = ? WHERE name = ? AND holder = ? AND token = ?
AND EXISTS (SELECT 1 FROM nodes WHERE nodes.node = ? AND nodes.epoch = ? AND lost_at IS NULL)"""


def _lease_end(db: sqlite3.Connection, files: NodeLocks, node: str, epoch: int) -> float:
    """When the lease ends that a node holds under that epoch; 0 if it holds none, or its process is dead."""
    found = db.execute(
        "SELECT expires_at FROM nodes WHERE node = ? AND epoch = ? AND lost_at IS NULL", (node, epoch)
    ).fetchone()
    return 0.0 if found is None or files.is_dead(node, epoch) else found[0]


def elsewhere(db: sqlite3.Connection, files: NodeLocks, claim: LockClaim, now: float) -> LockTurn | None:
    """The answer to a claim that does not want to stand in line, if somebody else has the lock: a read, so that asking
    often costs no write."""
    if claim.queue:
        return None
    held = db.execute("SELECT holder, node, epoch, expires_at FROM locks WHERE name = ?", (claim.name,)).fetchone()
    if held is None or held[0] == claim.holder:
        return None
    end = min(held[3], _lease_end(db, files, held[1], held[2]))
    return LockTurn(0, held[1], 0, end - now) if end > now else None


def take(db: sqlite3.Connection, files: NodeLocks, claim: LockClaim, now: float) -> LockTurn:
    """See the contract."""
    name = claim.name
    check_fence(db, claim.node, claim.epoch)
    held = db.execute("SELECT token, holder, node, epoch, expires_at FROM locks WHERE name = ?", (name,)).fetchone()
    if held is not None and held[1] == claim.holder:
        db.execute("UPDATE locks SET expires_at = ? WHERE name = ?", (now + claim.ttl_seconds, name))
        return LockTurn(held[0])
    end = 0.0 if held is None else min(held[4], _lease_end(db, files, held[2], held[3]))
    if held is not None and end <= now:
        db.execute("DELETE FROM locks WHERE name = ?", (name,))
        held = None
    line = [holder for holder, _ in _line(db, files, name, now)]
    place = line.index(claim.holder) if claim.holder in line else None
    if held is None and (place == 0 or not line) and _lease_end(db, files, claim.node, claim.epoch) > now:
        db.execute("DELETE FROM lock_waiters WHERE name = ? AND holder = ?", (name, claim.holder))
        token = int(next_epoch(db))
        db.execute(
            "INSERT INTO locks (name, token, holder, node, epoch, taken_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (name, token, claim.holder, claim.node, claim.epoch, now, now + claim.ttl_seconds),
        )
        return LockTurn(token)
    if place is not None:
        db.execute(
            "UPDATE lock_waiters SET expires_at = ? WHERE name = ? AND holder = ?",
            (now + PLACE_SECONDS, name, claim.holder),
        )
    else:
        place = len(line)
        if claim.queue:
            db.execute(
                "INSERT INTO lock_waiters (name, number, holder, node, epoch, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
                (name, int(next_epoch(db)), claim.holder, claim.node, claim.epoch, now + PLACE_SECONDS),
            )
    if held is None:
        return LockTurn(0, "", place)
    return LockTurn(0, held[2], place, end - now)


def _line(db: sqlite3.Connection, files: NodeLocks, name: str, now: float) -> list[tuple[str, str]]:
    """Holder and node of those who stand in line and live; the others are removed."""
    rows = db.execute(
        "SELECT number, holder, node, epoch, expires_at FROM lock_waiters WHERE name = ? ORDER BY number", (name,)
    ).fetchall()
    line: list[tuple[str, str]] = []
    for number, holder, node, epoch, expires_at in rows:
        if min(expires_at, _lease_end(db, files, node, epoch)) > now:
            line.append((holder, node))
        else:
            db.execute("DELETE FROM lock_waiters WHERE name = ? AND number = ?", (name, number))
    return line


def renew(
    db: sqlite3.Connection, node: NodeId, epoch: Epoch, renewals: Sequence[LockRenewal], now: float
) -> list[bool]:
    """See the contract."""
    return [
        db.execute(
            _RENEW, (now + renewal.ttl_seconds, renewal.name, renewal.holder, renewal.token, node, epoch)
        ).rowcount
        == 1
        for renewal in renewals
    ]


def release(db: sqlite3.Connection, files: NodeLocks, name: str, holder: str, now: float) -> str:
    """See the contract."""
    db.execute("DELETE FROM lock_waiters WHERE name = ? AND holder = ?", (name, holder))
    db.execute("DELETE FROM locks WHERE name = ? AND holder = ?", (name, holder))
    if db.execute("SELECT 1 FROM locks WHERE name = ?", (name,)).fetchone() is not None:
        return ""
    line = _line(db, files, name, now)
    found = db.execute("SELECT bell FROM nodes WHERE node = ?", (line[0][1],)).fetchone() if line else None
    return "" if found is None else found[0]


def rows(db: sqlite3.Connection, files: NodeLocks, now: float) -> list[LockRow]:
    """See the contract."""
    held = db.execute(
        "SELECT name, token, holder, node, epoch, taken_at, expires_at FROM locks WHERE expires_at > ? ORDER BY name",
        (now,),
    ).fetchall()
    waiting = db.execute("SELECT name, node, epoch FROM lock_waiters WHERE expires_at > ?", (now,)).fetchall()
    alive = {
        (node, epoch): _lease_end(db, files, node, epoch) > now
        for node, epoch in {(row[3], row[4]) for row in held} | {(row[1], row[2]) for row in waiting}
    }
    return [
        LockRow(
            name,
            token,
            holder,
            NodeId(node),
            taken_at,
            expires_at,
            sum(row[0] == name and alive[row[1], row[2]] for row in waiting),
        )
        for name, token, holder, node, epoch, taken_at, expires_at in held
        if alive[node, epoch]
    ]


def check_term(db: sqlite3.Connection, term: Term | None) -> None:
    """Raise :class:`NotLeader` if a higher term was given."""
    if term is None:
        return
    if term.authority == STORE:
        found = db.execute("SELECT 1 FROM locks WHERE name = ? AND token = ?", (LEADER, term.number)).fetchone()
        is_over = found is None
    else:
        is_over = db.execute(_PUT_TERM, (term.authority, term.number)).rowcount == 0
    if is_over:
        raise NotLeader(f"term {term.number} of {term.authority} is over", hint="stand for election again")
