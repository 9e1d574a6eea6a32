"""Filters of lists (:mod:`headrace.core.where`) as SQL conditions with parameters. Nothing of the user's text gets into
the statement: columns are the constants below, everything else is a parameter, sent with its type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headrace.backends.stores.postgres_history import clean
from headrace.core.where import And, Compare, Field, In, Not, Null, Or, Scalar, Where, kind_of

BEGINNING_CHARS = 100
"""Indexes of texts hold that much of them; a test on the whole text is accompanied by one on its beginning. The order of
beginnings never contradicts that of the texts: both are byte by byte."""

_PLAIN = {
    "id": "runs.run_id",
    **{name: f"runs.{name}" for name in ("workflow", "version", "state", "key", "trigger", "parent", "error")},
    **{name: f"runs.{name}" for name in ("created_at", "ended_at", "wake_at")},
    **{name: f"runs.{name}" for name in ("tasks_total", "tasks_done", "tasks_failed")},
}
_OPEN = "runs.state IN ('running', 'cancelling')"


class Translator:
    """Collects parameters while it translates. ``values`` begins with what the statement has already."""

    def __init__(self, schema: str, values: Sequence[Any] = ()) -> None:
        self._schema = schema
        self.values: list[Any] = list(values)

    def parameter(self, value: Scalar) -> str:
        """A place for a value, with its type."""
        kind = kind_of(value)
        self.values.append(clean(str(value)) if kind == "text" else float(value))
        return f"${len(self.values)}::{'text' if kind == 'text' else 'double precision'}"

    @property
    def now(self) -> str:
        """The time, computed once for the statement."""
        return f"(SELECT {self._schema}.clock_seconds())"

    @property
    def owner_lives(self) -> str:
        """Whether the owner's lease runs."""
        return (
            f"EXISTS (SELECT 1 FROM {self._schema}.nodes"
            f" WHERE nodes.node = runs.owner AND lost_at IS NULL AND expires_at > {self.now})"
        )

    def condition(self, where: Where) -> str:
        """An SQL condition that is never NULL."""
        if isinstance(where, And | Or):
            word = " AND " if isinstance(where, And) else " OR "
            return f"({word.join(self.condition(part) for part in where.parts)})"
        if isinstance(where, Not):
            return f"NOT {self.condition(where.part)}"
        if where.field.source == "tag":
            return self._of_rows(where, "run_tags", "key")
        if where.field.source == "attribute":
            return self._of_rows(where, "run_attributes", "name")
        return self._of_column(where)

    def _column(self, field: Field) -> str:
        plain = _PLAIN.get(field.name)
        if plain is not None:
            return plain
        if field.name == "duration":
            return f"(coalesce(runs.ended_at, {self.now}) - runs.created_at)"
        waiting = f"{_OPEN} AND runs.owner IS NULL AND runs.wake_at > {self.now}"
        interrupted = f"{_OPEN} AND NOT {self.owner_lives}"
        return f"(CASE WHEN {waiting} THEN 'waiting' WHEN {interrupted} THEN 'interrupted' ELSE runs.state END)"

    def _of_column(self, where: Compare | In | Null) -> str:
        column = self._column(where.field)
        if isinstance(where, Null):
            return f"({column} IS NULL)"
        if isinstance(where, In):
            wanted = ", ".join(self.parameter(value) for value in where.values)
            return f"({column} IS NOT NULL AND {column} IN ({wanted}))"
        return f"({column} IS NOT NULL AND {self._test(column, where.op, where.value)})"

    def _of_rows(self, where: Compare | In | Null, table: str, name_column: str) -> str:
        """A test on the tags or attributes of a run: one of its rows fits."""
        name = self.parameter(where.field.name)
        head = (
            f"runs.run_id IN (SELECT run_id FROM {self._schema}.{table} AS item"
            f" WHERE left(item.{name_column}, {BEGINNING_CHARS}) = left({name}, {BEGINNING_CHARS})"
            f" AND item.{name_column} = {name}"
        )
        if isinstance(where, Null):
            return f"NOT ({head}))"
        typed = table == "run_attributes"
        if isinstance(where, In):
            wanted = " OR ".join(self._item("=", value, typed=typed) for value in where.values)
            return f"({head} AND ({wanted})))"
        if typed and where.op == "!=":
            return f"({head}) AND NOT {head} AND {self._item('=', where.value, typed=typed)}))"
        return f"({head} AND {self._item(where.op, where.value, typed=typed)}))"

    def _item(self, op: str, value: Scalar, *, typed: bool) -> str:
        """A test on one row. The literal kinds let PostgreSQL use the partial indexes."""
        if not typed:
            return self._indexed("item.value", op, value)
        kind = kind_of(value)
        if kind == "text":
            return f"(item.kind = 'text' AND {self._indexed('item.text', op, value)})"
        return f"(item.kind <> 'text' AND item.kind = '{kind}' AND item.number {op} {self.parameter(value)})"

    def _indexed(self, column: str, op: str, value: Scalar) -> str:
        test = self._test(column, op, value)
        loose = {"=": "=", "<": "<=", "<=": "<=", ">": ">=", ">=": ">=", "prefix": ">="}.get(op)
        if loose is None:
            return test
        beginning = self.parameter(str(value)[:BEGINNING_CHARS])
        return f"(left({column}, {BEGINNING_CHARS}) {loose} {beginning} AND {test})"

    def _test(self, column: str, op: str, value: Scalar) -> str:
        wanted = self.parameter(value)
        if op == "like":  # in this collation, lower() knows the letters of ASCII only, as the language has it
            return f'lower({column} COLLATE "C") LIKE lower({wanted} COLLATE "C") ESCAPE \'\''
        if op == "prefix":
            return f"({column} >= {wanted} AND starts_with({column}, {wanted}))"
        return f"{column} {op} {wanted}"
