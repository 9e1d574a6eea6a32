"""Attempts on offer in SQLite: see :mod:`headrace.contracts.ready`.

Functions take the connection first; those that write run inside a write transaction of their caller, and the write lock
makes each offer go to one claimer.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from headrace.backends.stores.sqlite_history import check_fence
from headrace.contracts.ready import (
    DELIVERIES_MAX,
    Beat,
    Claim,
    Offer,
    QueueRow,
    Result,
    Standing,
    lost_outcome,
    outcome_kind,
    run_of,
)
from headrace.core.ids import Epoch, NodeId

_INSERT = """
INSERT INTO ready (key, run_id, queue, executor, labels, priority, at_most_once, offered_at, prefer, prefer_until)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?11, ?12
WHERE EXISTS (SELECT 1 FROM runs WHERE run_id = ?2 AND owner = ?9)
  AND NOT EXISTS (SELECT 1 FROM inbox WHERE run_id = ?2 AND kind = ?10)
ON CONFLICT (key) DO NOTHING"""

# A label that is asked for and not had is a row of the inner queries. + keeps the planner on the index of waiting offers.
_WAITING = """
FROM ready WHERE worker IS NULL AND queue IN (SELECT value FROM json_each(?1)) AND executor = ?2
  AND NOT EXISTS (
    SELECT 1 FROM json_each(ready.labels) AS need
    WHERE need.value IS NOT (SELECT have.value FROM json_each(?3) AS have WHERE have.key = need.key))
  AND (prefer_until IS NULL OR prefer_until <= ?5 OR NOT EXISTS (
    SELECT 1 FROM json_each(ready.prefer) AS wish
    WHERE wish.value IS NOT (SELECT have.value FROM json_each(?3) AS have WHERE have.key = wish.key)))
  AND EXISTS (SELECT 1 FROM runs WHERE runs.run_id = +ready.run_id AND runs.ended_at IS NULL)
"""
_SELECT_WAITING = f"SELECT number, key, delivery + 1, queue, details {_WAITING} ORDER BY priority DESC, number LIMIT ?4"
_ANY_WAITING = f"SELECT 1 {_WAITING} LIMIT ?4"

_BELL = """
SELECT coalesce((SELECT bell FROM nodes WHERE node = runs.owner AND lost_at IS NULL AND expires_at > ?), '')
FROM runs WHERE run_id = ?"""


def offer(db: sqlite3.Connection, node: NodeId, epoch: Epoch, offers: Sequence[Offer], now: float) -> None:
    """Put attempts on offer."""
    check_fence(db, node, epoch)
    for one in offers:
        labels = msgspec.json.encode(one.labels).decode()
        kind = outcome_kind(one.key)
        prefer = (None, None) if one.prefer is None else (_json(one.prefer), now + one.prefer_seconds)
        told = one.key, one.run_id, one.queue, one.executor, labels, one.priority, one.at_most_once
        cursor = db.execute(_INSERT, (*told, now, node, kind, *prefer))
        if cursor.rowcount == 1:
            db.execute("INSERT INTO ready_calls (key, call) VALUES (?, ?)", (one.key, one.call.decode()))


def any_waiting(
    db: sqlite3.Connection, queues: Sequence[str], labels: Mapping[str, str], room: Mapping[str, int], now: float
) -> bool:
    """Whether a claim would find something: a read, so that asking often costs no write."""
    asked, had = _json(list(queues)), _json(dict(labels))
    return any(
        limit > 0 and db.execute(_ANY_WAITING, (asked, name, had, 1, now)).fetchone() for name, limit in room.items()
    )


def claim(
    db: sqlite3.Connection,
    *,
    node: NodeId,
    epoch: Epoch,
    queues: Sequence[str],
    labels: Mapping[str, str],
    room: Mapping[str, int],
    now: float,
) -> list[Claim]:
    """Take waiting offers."""
    check_fence(db, node, epoch)
    asked, had = _json(list(queues)), _json(dict(labels))
    claims: list[Claim] = []
    for executor, limit in room.items():
        for number, key, delivery, queue, details in db.execute(
            _SELECT_WAITING, (asked, executor, had, max(limit, 0), now)
        ).fetchall():
            db.execute(
                "UPDATE ready SET worker = ?, worker_epoch = ?, delivery = ?, claimed_at = ?, prefer_until = NULL"
                " WHERE number = ?",
                (node, epoch, delivery, now, number),
            )
            call = db.execute("SELECT call FROM ready_calls WHERE key = ?", (key,)).fetchone()[0]
            claims.append(Claim(key, delivery, queue, executor, call.encode(), _bytes(details)))
    return claims


def held(db: sqlite3.Connection, node: NodeId, epoch: Epoch) -> list[Claim]:
    """Everything a claimer has."""
    rows = db.execute(
        "SELECT ready.key, delivery, queue, executor, call, details FROM ready JOIN ready_calls USING (key)"
        " WHERE worker = ? AND worker_epoch = ?"
        " AND EXISTS (SELECT 1 FROM nodes WHERE node = worker AND epoch = worker_epoch) ORDER BY number",
        (node, epoch),
    )
    return [
        Claim(key, delivery, queue, executor, call.encode(), _bytes(details))
        for key, delivery, queue, executor, call, details in rows
    ]


def look(db: sqlite3.Connection, node: NodeId, epoch: Epoch, beats: Sequence[Beat]) -> dict[str, Any]:
    """What a claimer has to know of its claims."""
    verdicts: dict[str, Literal["stop", "lost"]] = {}
    held = {
        (key, delivery): stop
        for key, delivery, stop in db.execute(
            "SELECT key, delivery, stop FROM ready WHERE worker = ? AND worker_epoch = ?", (node, epoch)
        )
    }
    for beat in beats:
        stop = held.get((beat.key, beat.delivery))
        if stop is None:
            verdicts[beat.key] = "lost"
        elif stop:
            verdicts[beat.key] = "stop"
    return verdicts


def keep_details(db: sqlite3.Connection, node: NodeId, epoch: Epoch, beats: Sequence[Beat]) -> None:
    """Note what heartbeats said."""
    check_fence(db, node, epoch)
    db.executemany(
        "UPDATE ready SET details = ? WHERE key = ? AND delivery = ? AND worker = ? AND worker_epoch = ?",
        [(beat.details.decode(), beat.key, beat.delivery, node, epoch) for beat in beats if beat.details is not None],
    )


def complete(
    db: sqlite3.Connection, node: NodeId, epoch: Epoch, results: Sequence[Result], now: float
) -> list[str | None]:
    """Bring outcomes to their runs."""
    check_fence(db, node, epoch)
    answers: list[str | None] = []
    for result in results:
        cursor = db.execute(
            "DELETE FROM ready WHERE key = ? AND delivery = ? AND worker = ? AND worker_epoch = ?",
            (result.key, result.delivery, node, epoch),
        )
        answers.append(_deliver(db, result.key, result.outcome, now) if cursor.rowcount == 1 else None)
    return answers


def _deliver(db: sqlite3.Connection, key: str, outcome: dict[str, Any], now: float) -> str | None:
    """Put an outcome into its run's inbox; the owner's bell, None if the run has ended."""
    run_id = run_of(key)
    if not db.execute("SELECT 1 FROM runs WHERE run_id = ? AND ended_at IS NULL", (run_id,)).fetchone():
        return None
    db.execute(
        "INSERT INTO inbox (run_id, kind, payload) VALUES (?, ?, ?)",
        (run_id, outcome_kind(key), _json(outcome)),
    )
    db.execute("UPDATE runs SET wake_at = NULL WHERE run_id = ? AND wake_at IS NOT NULL", (run_id,))
    return db.execute(_BELL, (now, run_id)).fetchone()[0]


def give_back(db: sqlite3.Connection, node: NodeId, epoch: Epoch, claims: Sequence[Beat]) -> None:
    """Put claims on offer again; those that are no longer wanted are gone."""
    check_fence(db, node, epoch)
    mine = [(one.key, one.delivery, node, epoch) for one in claims]
    db.executemany(
        "DELETE FROM ready WHERE key = ? AND delivery = ? AND worker = ? AND worker_epoch = ? AND stop", mine
    )
    db.executemany(
        "UPDATE ready SET worker = NULL, worker_epoch = NULL, claimed_at = NULL, delivery = delivery - 1"
        " WHERE key = ? AND delivery = ? AND worker = ? AND worker_epoch = ?",
        mine,
    )


_LOST = """
FROM ready WHERE worker IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM nodes WHERE node = ready.worker AND epoch = ready.worker_epoch)"""
_ENDED = """
FROM ready WHERE worker IS NULL AND EXISTS (SELECT 1 FROM runs WHERE runs.run_id = ready.run_id AND ended_at IS NOT NULL)
"""


def anything_lost(db: sqlite3.Connection) -> bool:
    """Whether :func:`requeue_lost` would find something: a read."""
    return any(db.execute(f"SELECT 1 {where} LIMIT 1").fetchone() for where in (_LOST, _ENDED))


def requeue_lost(db: sqlite3.Connection, limit: int, now: float) -> tuple[int, list[str]]:
    """Offer again what lost claimers had."""
    again, bells = 0, set[str]()
    for key, delivery, at_most_once, stop, worker in db.execute(
        f"SELECT key, delivery, at_most_once, stop, worker {_LOST} ORDER BY number LIMIT ?",
        (max(limit, 0),),
    ).fetchall():
        if at_most_once or stop or delivery >= DELIVERIES_MAX:
            db.execute("DELETE FROM ready WHERE key = ?", (key,))
            bell = _deliver(db, key, lost_outcome(key, worker, delivery), now)
            if bell:
                bells.add(bell)
        else:
            again += 1
            db.execute("UPDATE ready SET worker = NULL, worker_epoch = NULL, claimed_at = NULL WHERE key = ?", (key,))
    db.execute(f"DELETE FROM ready WHERE number IN (SELECT number {_ENDED} LIMIT ?)", (max(limit, 0),))  # noqa: S608
    return again, sorted(bells)


def withdraw(
    db: sqlite3.Connection, node: NodeId, epoch: Epoch, keys: Sequence[str], now: float, *, stop: bool
) -> list[tuple[str, str]]:
    """Take offers back."""
    check_fence(db, node, epoch)
    claimed: list[tuple[str, str]] = []
    for key in keys:
        if db.execute("DELETE FROM ready WHERE key = ? AND worker IS NULL", (key,)).rowcount:
            continue
        row = db.execute("SELECT worker FROM ready WHERE key = ?", (key,)).fetchone()
        if row is not None:
            if stop:
                db.execute("UPDATE ready SET stop = 1 WHERE key = ?", (key,))
            bell = db.execute(
                "SELECT bell FROM nodes WHERE node = ? AND lost_at IS NULL AND expires_at > ?", (row[0], now)
            ).fetchone()
            claimed.append((key, bell[0] if bell else ""))
    return claimed


def offered(db: sqlite3.Connection, node: NodeId, limit: int) -> list[Standing]:
    """The offers of a node's runs."""
    rows = db.execute(
        "SELECT ready.key, delivery, worker, claimed_at, details FROM ready CROSS JOIN runs ON runs.run_id = ready.run_id"
        " WHERE runs.owner = ? ORDER BY number LIMIT ?",
        (node, max(limit, 0)),
    )
    return [
        Standing(key, delivery, None if worker is None else NodeId(worker), claimed_at, _bytes(details))
        for key, delivery, worker, claimed_at, details in rows
    ]


def queues(db: sqlite3.Connection, now: float) -> list[QueueRow]:
    """What waits and what is claimed."""
    rows = db.execute(
        "SELECT queue, sum(worker IS NULL), sum(worker IS NOT NULL), min(iif(worker IS NULL, offered_at, NULL))"
        " FROM ready GROUP BY queue ORDER BY queue"
    )
    return [
        QueueRow(queue, waiting, claimed, 0.0 if oldest is None else max(0.0, now - oldest))
        for queue, waiting, claimed, oldest in rows
    ]


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()
