"""Attempts on offer in MySQL: arguments and answers of the procedures in ``mysql_migrations/0003_ready.sql`` and
``0005_ready_sets.sql``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from headrace.contracts.ready import Beat, Claim, Offer, QueueRow, Result, Standing, lost_outcome, outcome_kind, run_of
from headrace.core.ids import NodeId

SELECT_OFFERED = """
SELECT ready.`key`, ready.delivery, ready.worker, ready.claimed_at, ready.details
FROM ready JOIN runs ON runs.run_id = ready.run_id WHERE runs.owner = ? ORDER BY ready.number LIMIT ?"""

SELECT_HELD = """
SELECT ready.`key`, ready.delivery, ready.queue, ready.executor, ready_calls.`call`, ready.details
FROM ready JOIN ready_calls ON ready_calls.`key` = ready.`key`
    JOIN nodes ON nodes.node = ready.worker AND nodes.epoch = ready.worker_epoch
WHERE ready.worker = ? AND ready.worker_epoch = ? ORDER BY ready.number"""

SELECT_QUEUES = """
SELECT queue, COUNT(CASE WHEN worker IS NULL THEN 1 END), COUNT(worker),
    GREATEST(0e0, COALESCE((SELECT seconds FROM clock) - MIN(CASE WHEN worker IS NULL THEN offered_at END), 0e0))
FROM ready GROUP BY queue ORDER BY queue"""

SELECT_LOST = """
SELECT `key`, delivery, worker FROM ready WHERE worker IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM nodes WHERE nodes.node = ready.worker AND nodes.epoch = ready.worker_epoch)
ORDER BY number LIMIT ?"""

ANY_ENDED = """
SELECT 1 FROM ready JOIN runs ON runs.run_id = ready.run_id
WHERE ready.worker IS NULL AND runs.ended_at IS NOT NULL LIMIT 1"""


def offer_rows(offers: Sequence[Offer]) -> list[dict[str, Any]]:
    """What ``offer_1`` takes."""
    return [
        {
            "k": one.key,
            "r": one.run_id,
            "q": one.queue,
            "e": one.executor,
            "l": _text(dict(one.labels)),
            "p": one.priority,
            "a": int(one.at_most_once),
            "i": outcome_kind(one.key),
            "c": one.call.decode(),
        }
        for one in offers
    ]


def room_rows(room: Mapping[str, int]) -> list[dict[str, Any]]:
    """What ``claim_attempts_2`` takes."""
    return [{"e": executor, "n": count} for executor, count in room.items() if count > 0]


def beat_rows(beats: Sequence[Beat]) -> list[dict[str, Any]]:
    """What ``report_1`` and ``give_back_1`` take."""
    return [
        {"k": one.key, "d": one.delivery, **({} if one.details is None else {"t": one.details.decode()})}
        for one in beats
    ]


def result_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """What ``complete_2`` takes: runs in order, as everybody locks them; the place of each among ``results``."""
    first: dict[tuple[str, int], int] = {}
    for place, one in enumerate(results):
        first.setdefault((one.key, one.delivery), place)
    rows = [
        {"n": place, **_outcome_row(key, delivery, results[place].outcome)} for (key, delivery), place in first.items()
    ]
    return sorted(rows, key=lambda row: (row["r"], row["k"]))


def lost_rows(lost: Sequence[tuple[bytes, int, bytes]]) -> list[dict[str, Any]]:
    """What ``requeue_lost_1`` takes of the lost claims (key, delivery, worker)."""
    found = [(key.decode(), delivery, worker.decode()) for key, delivery, worker in lost]
    return [_outcome_row(key, delivery, lost_outcome(key, worker, delivery)) for key, delivery, worker in found]


def _outcome_row(key: str, delivery: int, outcome: dict[str, Any]) -> dict[str, Any]:
    return {"k": key, "d": delivery, "r": run_of(key), "i": outcome_kind(key), "o": _text(outcome)}


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def claim_of(row: Sequence[Any]) -> Claim:
    """One answer of ``claim_attempts_2``."""
    key, delivery, queue, executor, call, details = row
    return Claim(key.decode(), delivery, queue.decode(), executor.decode(), call, details)


def standing_of(row: Sequence[Any]) -> Standing:
    """One answer of :data:`SELECT_OFFERED`."""
    key, delivery, worker, claimed_at, details = row
    return Standing(key.decode(), delivery, None if worker is None else NodeId(worker.decode()), claimed_at, details)


def queue_of(row: Sequence[Any]) -> QueueRow:
    """One answer of :data:`SELECT_QUEUES`."""
    queue, waiting, claimed, waited_seconds = row
    return QueueRow(queue.decode(), waiting, claimed, waited_seconds)


def bells_of(hexed: str) -> list[str | None]:
    """Bells as the procedures give them: in hex, with a comma after each; a dash for none."""
    return [None if one == "-" else bytes.fromhex(one).decode() for one in hexed.split(",")[:-1]]
