"""Attempts on offer in PostgreSQL: arguments and answers of the functions in ``postgres_migrations/0003_ready.sql``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from headrace.contracts.ready import Claim, Offer, QueueRow, Result, Standing, lost_outcome, outcome_kind, run_of
from headrace.core.ids import NodeId

SELECT_OFFERED = """
SELECT ready.key, delivery, ready.worker, claimed_at, details FROM {schema}.ready JOIN {schema}.runs USING (run_id)
WHERE runs.owner = $1 ORDER BY number LIMIT $2"""

SELECT_HELD = """
SELECT ready.key, delivery, queue, executor, call, details
FROM {schema}.ready JOIN {schema}.ready_calls USING (key) JOIN {schema}.nodes ON node = worker AND epoch = worker_epoch
WHERE worker = $1 AND worker_epoch = $2 ORDER BY number"""

SELECT_QUEUES = """
SELECT queue, count(*) FILTER (WHERE worker IS NULL), count(*) FILTER (WHERE worker IS NOT NULL),
    greatest(0, coalesce({schema}.clock_seconds() - min(offered_at) FILTER (WHERE worker IS NULL), 0))
FROM {schema}.ready GROUP BY queue ORDER BY queue"""

ANY_ENDED = """
SELECT 1 FROM {schema}.ready JOIN {schema}.runs USING (run_id) WHERE worker IS NULL AND ended_at IS NOT NULL LIMIT 1"""


def offer_arguments(offers: Sequence[Offer]) -> list[list[Any]]:
    """What ``offer_1`` takes after node and epoch."""
    return [
        [one.key for one in offers],
        [one.run_id for one in offers],
        [one.queue for one in offers],
        [one.executor for one in offers],
        [text(one.labels) for one in offers],
        [one.priority for one in offers],
        [one.at_most_once for one in offers],
        [outcome_kind(one.key) for one in offers],
        [one.call.decode() for one in offers],
    ]


def complete_arguments(results: Sequence[Result]) -> list[list[Any]]:
    """What ``complete_1`` takes after node and epoch."""
    return [
        [one.key for one in results],
        [one.delivery for one in results],
        [run_of(one.key) for one in results],
        [outcome_kind(one.key) for one in results],
        [text(one.outcome) for one in results],
    ]


def requeue_arguments(lost: Sequence[tuple[str, int, str]]) -> list[list[Any]]:
    """What ``requeue_lost_1`` takes of the lost claims (key, delivery, worker)."""
    return [
        [key for key, _, _ in lost],
        [delivery for _, delivery, _ in lost],
        [run_of(key) for key, _, _ in lost],
        [outcome_kind(key) for key, _, _ in lost],
        [text(lost_outcome(key, worker, delivery)) for key, delivery, worker in lost],
    ]


def text(value: Any) -> str:
    """JSON text."""
    return msgspec.json.encode(value).decode()


def claim_of(row: Sequence[Any]) -> Claim:
    """One answer of ``claim_attempts_2``."""
    key, delivery, queue, executor, call, details = row
    return Claim(key, delivery, queue, executor, call.encode(), _bytes(details))


def standing_of(row: Sequence[Any]) -> Standing:
    """One answer of :data:`SELECT_OFFERED`."""
    key, delivery, worker, claimed_at, details = row
    return Standing(key, delivery, None if worker is None else NodeId(worker), claimed_at, _bytes(details))


def queue_of(row: Sequence[Any]) -> QueueRow:
    """One answer of :data:`SELECT_QUEUES`."""
    return QueueRow(*row)


def _bytes(value: str | None) -> bytes | None:
    return None if value is None else value.encode()
