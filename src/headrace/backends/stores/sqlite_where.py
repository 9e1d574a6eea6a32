"""Filters of lists (:mod:`headrace.core.where`) as SQL conditions with parameters. Nothing of the user's text gets into
the statement: columns are the constants below, everything else is a parameter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from headrace.core.where import And, Compare, Field, In, Not, Null, Or, Scalar, Where, kind_of

_PLAIN = {
    "id": "runs.run_id",
    **{name: f"runs.{name}" for name in ("workflow", "version", "state", "key", "trigger", "parent", "error")},
    **{name: f"runs.{name}" for name in ("created_at", "ended_at", "wake_at")},
    **{name: f"runs.{name}" for name in ("tasks_total", "tasks_done", "tasks_failed")},
}
_OWNER_LIVES = "coalesce(runs.owner IN (SELECT value FROM json_each(?)), 0)"
_OPEN = "runs.state IN ('running', 'cancelling')"

Condition = tuple[str, list[object]]


class Translator:
    """``now`` is the database's time, ``live_nodes`` are those whose runs are not interrupted."""

    def __init__(self, now: float, live_nodes: Iterable[str]) -> None:
        self._now = now
        self._live = msgspec.json.encode(list(live_nodes)).decode()

    def condition(self, where: Where) -> Condition:
        """An SQL condition that is never NULL, and its parameters."""
        if isinstance(where, And | Or):
            parts = [self.condition(part) for part in where.parts]
            word = " AND " if isinstance(where, And) else " OR "
            return f"({word.join(text for text, _ in parts)})", [value for _, values in parts for value in values]
        if isinstance(where, Not):
            text, values = self.condition(where.part)
            return f"NOT {text}", values
        field = where.field
        if field.source == "tag":
            return self._of_tag(where)
        if field.source == "attribute":
            return self._of_attribute(where)
        return self._of_column(where)

    def _column(self, field: Field) -> Condition:
        """The expression of a column."""
        plain = _PLAIN.get(field.name)
        if plain is not None:
            return plain, []
        if field.name == "duration":
            return "(coalesce(runs.ended_at, ?) - runs.created_at)", [self._now]
        waiting = f"{_OPEN} AND runs.owner IS NULL AND runs.wake_at > ?"
        # A run that nobody owns (NULL) is not in the list either.
        interrupted = f"{_OPEN} AND {_OWNER_LIVES} = 0"
        return (
            f"(CASE WHEN {waiting} THEN 'waiting' WHEN {interrupted} THEN 'interrupted' ELSE runs.state END)",
            [self._now, self._live],
        )

    def _of_column(self, where: Compare | In | Null) -> Condition:
        column, values = self._column(where.field)
        if isinstance(where, Null):
            return f"({column} IS NULL)", values
        if isinstance(where, In):
            return f"({column} IS NOT NULL AND {column} IN ({_marks(where.values)}))", [*values, *values, *where.values]
        text, wanted = _test(column, where.op, where.value)
        return f"({column} IS NOT NULL AND {text})", [*values, *values, *wanted]

    @staticmethod
    def _of_tag(where: Compare | In | Null) -> Condition:
        name = where.field.name
        head = "runs.run_id IN (SELECT run_id FROM run_tags WHERE key = ?"
        if isinstance(where, Null):
            return f"NOT ({head}))", [name]
        if isinstance(where, In):
            return f"({head} AND value IN ({_marks(where.values)})))", [name, *where.values]
        text, wanted = _test("value", where.op, where.value)
        return f"({head} AND {text}))", [name, *wanted]

    @staticmethod
    def _of_attribute(where: Compare | In | Null) -> Condition:
        name = where.field.name
        head = "runs.run_id IN (SELECT run_id FROM run_attributes WHERE name = ?"
        if isinstance(where, Null):
            return f"NOT ({head}))", [name]
        if isinstance(where, In):
            parts = [_typed("=", value) for value in where.values]
            condition = " OR ".join(text for text, _ in parts)
            return f"({head} AND ({condition})))", [name, *(value for _, values in parts for value in values)]
        if where.op == "!=":
            text, wanted = _typed("=", where.value)
            return f"({head}) AND NOT {head} AND {text}))", [name, name, *wanted]
        text, wanted = _typed(where.op, where.value)
        return f"({head} AND {text}))", [name, *wanted]


def _typed(op: str, value: Scalar) -> Condition:
    """A test on a row of ``run_attributes``; the literal kinds let SQLite use the partial indexes."""
    kind = kind_of(value)
    column = "text" if kind == "text" else "number"
    text, values = _test(column, op, float(value) if isinstance(value, bool) else value)
    more = "" if kind == "text" else "kind <> 'text' AND "
    return f"{more}kind = '{kind}' AND {text}", values


def _test(column: str, op: str, value: Scalar) -> Condition:
    if op == "like":
        return f"{column} LIKE ?", [value]
    if op == "prefix":
        return f"({column} >= ? AND substr({column}, 1, ?) = ?)", [value, len(str(value)), value]
    return f"{column} {op} ?", [value]


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
