"""Wishes in PostgreSQL, see contracts/wishes.py: statements, and rows made of their answers.

They do not wait for the disk: a wish is a hint."""

from __future__ import annotations

from typing import Any

from headrace.contracts.wishes import Wish, Wished
from headrace.core.ids import NodeId, RunId

# In the order of ids, so that two nodes that wish for the same runs do not wait for each other in a circle.
ADD = """
INSERT INTO {schema}.wishes AS wish (run_id, node, changes)
SELECT run_id, $1, run_id = ANY ($3) FROM {schema}.runs WHERE run_id = ANY ($2) AND ended_at IS NULL ORDER BY run_id
ON CONFLICT (run_id, node) DO UPDATE SET changes = true WHERE excluded.changes AND NOT wish.changes"""
SEEN = "SELECT run_id, ended_at IS NOT NULL, owner FROM {schema}.runs WHERE run_id = ANY ($1)"

_SELECT = """
SELECT wishes.run_id, wishes.node, nodes.bell, changes, runs.run_id IS NULL OR runs.ended_at IS NOT NULL
FROM {schema}.wishes LEFT JOIN {schema}.runs ON runs.run_id = wishes.run_id
LEFT JOIN {schema}.nodes ON nodes.node = wishes.node AND nodes.lost_at IS NULL
    AND nodes.expires_at > {schema}.clock_seconds()"""
OF_RUNS = f"{_SELECT} WHERE wishes.run_id = ANY ($1)"
OF_OWNER = f"""{_SELECT}
WHERE runs.owner = $1 OR runs.run_id IS NULL OR runs.ended_at IS NOT NULL OR nodes.node IS NULL"""

FORGET = """
DELETE FROM {schema}.wishes USING unnest($1::text[], $2::text[]) AS given (run_id, node)
WHERE wishes.run_id = given.run_id AND wishes.node = given.node"""


def wished_of(row: Any) -> Wished:
    """A row of :data:`SEEN`."""
    return Wished(RunId(row[0]), row[1], row[2])


def wish_of(row: Any) -> Wish:
    """A row of :data:`OF_RUNS` or :data:`OF_OWNER`."""
    return Wish(RunId(row[0]), NodeId(row[1]), row[2], row[3], row[4])
