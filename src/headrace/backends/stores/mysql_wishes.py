"""Wishes in MySQL, see contracts/wishes.py: statements, and rows made of their answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from headrace.backends.stores.mysql_text import literal, placed
from headrace.contracts.wishes import Wish, Wished
from headrace.core.ids import NodeId, RunId

_LIVE = "leases.node = wishes.node AND leases.expires_at > (SELECT seconds FROM clock)"
_SELECT = f"""
SELECT wishes.run_id, wishes.node, IF(leases.node IS NULL, NULL, nodes.bell), wishes.changes,
    runs.run_id IS NULL OR runs.ended_at IS NOT NULL
FROM wishes LEFT JOIN runs ON runs.run_id = wishes.run_id
LEFT JOIN nodes ON nodes.node = wishes.node LEFT JOIN leases ON {_LIVE}"""
OF_OWNER = f"""{_SELECT}
WHERE runs.owner = ? OR runs.run_id IS NULL OR runs.ended_at IS NOT NULL OR leases.node IS NULL"""


def _among(values: Iterable[str]) -> bytes:
    return b"(%s)" % (b",".join(map(literal, values)) or b"NULL")


def add_statement(node: NodeId, run_ids: Sequence[RunId], changes: Sequence[RunId]) -> bytes:
    """Wish; in the order of ids, so that two nodes that wish for the same runs do not wait for each other in a circle."""
    return (
        b"INSERT INTO wishes (run_id, node, changes) SELECT run_id, %s, COALESCE(run_id IN %s, 0) FROM runs"
        b" WHERE run_id IN %s AND ended_at IS NULL ORDER BY run_id"
        b" ON DUPLICATE KEY UPDATE changes = GREATEST(wishes.changes, VALUES(changes))"
    ) % (literal(node), _among(changes), _among(run_ids))


def seen_statement(run_ids: Sequence[RunId]) -> bytes:
    """What became of the runs."""
    return b"SELECT run_id, ended_at IS NOT NULL, owner FROM runs WHERE run_id IN %s" % _among(run_ids)


def select_statement(node: NodeId, run_ids: Sequence[RunId] | None) -> bytes:
    """See :meth:`headrace.contracts.wishes.Wishes.wishes`."""
    if run_ids is None:
        return placed(OF_OWNER, (node,))
    return b"%s WHERE wishes.run_id IN %s" % (_SELECT.encode(), _among(run_ids))


def forget_statement(wishes: Sequence[tuple[RunId, NodeId]]) -> bytes:
    """Remove wishes. Not ``(run_id, node) IN (...)``, which MySQL takes as a reason to read the whole table."""
    each = (b"(run_id = %s AND node = %s)" % (literal(run_id), literal(node)) for run_id, node in wishes)
    return b"DELETE FROM wishes WHERE %s" % b" OR ".join(each)


def wished_of(row: Any) -> Wished:
    """A row of :func:`seen_statement`."""
    run_id, ended, owner = row
    return Wished(RunId(run_id.decode()), bool(ended), None if owner is None else NodeId(owner.decode()))


def wish_of(row: Any) -> Wish:
    """A row of :func:`select_statement`."""
    run_id, node, bell, changes, ended = row
    return Wish(
        RunId(run_id.decode()),
        NodeId(node.decode()),
        None if bell is None else bell.decode(),
        bool(changes),
        bool(ended),
    )
