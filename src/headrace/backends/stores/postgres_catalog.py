"""Lists and searches in PostgreSQL: statements, and rows made of their answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from headrace.backends.stores.postgres_where import BEGINNING_CHARS, Translator
from headrace.contracts.store import InboxRow, NodeRow, RunFilter
from headrace.core.ids import Epoch, NodeId, RunId

EVENTS_PER_DELETE = 5000
"""Events that retention deletes in one transaction."""

_LAST = "\U0010ffff"  # sorts after every character of an id

_COLUMNS = """runs.run_id, workflow, version, state, created_at, ended_at, trigger, parent, error, tasks_total,
tasks_done, tasks_failed, last_seq, owner, wake_at, key, tags, params, attributes"""

SELECT_INBOX_OWNED = """
SELECT inbox.id, inbox.run_id, inbox.kind, inbox.payload FROM {schema}.inbox JOIN {schema}.runs USING (run_id)
WHERE runs.owner = $1 ORDER BY inbox.id LIMIT $2"""
SELECT_INBOX_OF_RUNS = """
SELECT id, run_id, kind, payload FROM {schema}.inbox WHERE run_id = ANY ($1) ORDER BY id LIMIT $2"""
SELECT_WAITING_RUNS = """
SELECT inbox.run_id FROM {schema}.inbox JOIN {schema}.runs USING (run_id) WHERE runs.owner IS NULL
GROUP BY inbox.run_id ORDER BY min(inbox.id) LIMIT $1"""
SELECT_NODES = """
SELECT node, epoch, expires_at, lost_at IS NULL AND expires_at > {schema}.clock_seconds(), bell, info, asked
FROM {schema}.nodes ORDER BY node"""
SELECT_LOCKS = """
SELECT name, token, holder, node, taken_at, expires_at,
    (SELECT count(*) FROM {schema}.lock_waiters AS waiter WHERE waiter.name = locks.name
        AND least(waiter.expires_at, {schema}.lease_end_1(waiter.node, waiter.epoch)) > {schema}.clock_seconds())
FROM {schema}.locks WHERE least(expires_at, {schema}.lease_end_1(node, epoch)) > {schema}.clock_seconds()
ORDER BY name"""
SELECT_KEY_HOLDER = """
SELECT runs.run_id, runs.state FROM {schema}.run_keys JOIN {schema}.runs ON runs.run_id = run_keys.run_id
WHERE run_keys.workflow = $1 AND run_keys.key = $2"""


def run_statement(schema: str) -> str:
    """One run, by its id."""
    return f"SELECT {_COLUMNS}, {Translator(schema).owner_lives} FROM {schema}.runs WHERE run_id = $1"


def runs_statement(schema: str, where: RunFilter) -> tuple[str, list[Any]]:
    """Runs that match, newest first, and the parameters.

    Every state is asked for on its own and the answers are merged: each part then walks one index in the order wanted
    and stops at the limit, where ``state IN (...)`` would sort everything that matches.
    """
    limit = max(where.limit, 0)
    more = Translator(schema)
    conditions: list[str] = []
    for key, value in where.tags.items():
        name, wanted = more.parameter(key), more.parameter(value)
        conditions.append(
            f"runs.run_id IN (SELECT item.run_id FROM {schema}.run_tags AS item"
            f" WHERE left(item.key, {BEGINNING_CHARS}) = left({name}, {BEGINNING_CHARS}) AND item.key = {name}"
            f" AND left(item.value, {BEGINNING_CHARS}) = left({wanted}, {BEGINNING_CHARS}) AND item.value = {wanted})"
        )
    if where.workflow is not None:
        conditions.append(f"workflow = {more.parameter(where.workflow)}")
    if where.before is not None:
        conditions.append(f"runs.run_id < {more.parameter(where.before)}")
    if where.where is not None:
        conditions.append(more.condition(where.where))
    parts: list[str] = []
    for state in [*dict.fromkeys(where.states)] or [None]:
        all_of = conditions if state is None else [*conditions, f"state = {more.parameter(state)}"]
        condition = f"WHERE {' AND '.join(all_of)}" if all_of else ""
        parts.append(
            f"(SELECT {_COLUMNS}, {more.owner_lives} AS live FROM {schema}.runs {condition}"
            f" ORDER BY runs.run_id DESC LIMIT {limit})"
        )
    if len(parts) == 1:
        return parts[0], more.values
    return f"SELECT * FROM ({' UNION ALL '.join(parts)}) AS found ORDER BY run_id DESC LIMIT {limit}", more.values


def find_statement(schema: str, prefix: str, limit: int) -> tuple[str, list[Any]]:
    """Ids with that prefix, newest first. Ids are upper case; lower case and mixed input is tried as written, too."""
    starts = sorted({prefix, prefix.upper(), prefix.lower()})
    parts: list[str] = []
    values: list[Any] = []
    for start in starts:
        values += [start, start + _LAST]
        first, last = f"${len(values) - 1}::text", f"${len(values)}::text"
        parts.append(
            f"(SELECT run_id FROM {schema}.runs WHERE run_id >= {first} AND run_id < {last}"
            f" ORDER BY run_id DESC LIMIT {max(limit, 0)})"
        )
    return f"SELECT run_id FROM ({' UNION '.join(parts)}) AS found ORDER BY run_id DESC LIMIT {max(limit, 0)}", values


def inbox_row(values: Sequence[Any]) -> InboxRow:
    """One message."""
    number, run_id, kind, payload = values
    return InboxRow(number, RunId(run_id), kind, msgspec.json.decode(payload))


def node_row(values: Sequence[Any]) -> NodeRow:
    """One node."""
    node, epoch, expires_at, live, bell, info, asked = values
    return NodeRow(NodeId(node), Epoch(epoch), expires_at, live, bell, msgspec.json.decode(info), asked)
