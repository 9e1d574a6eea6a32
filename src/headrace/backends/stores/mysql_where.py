"""Filters of lists (:mod:`headrace.core.where`) as SQL conditions with parameters. Nothing of the user's text gets into
the statement: columns are the constants below, everything else is a parameter."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_lowercase, ascii_uppercase

from headrace.core.where import And, Compare, Field, In, Not, Null, Or, Scalar, Where, kind_of

_PLAIN = {
    "id": "runs.run_id",
    **{name: f"runs.`{name}`" for name in ("workflow", "version", "state", "key", "trigger", "parent", "error")},
    **{name: f"runs.{name}" for name in ("created_at", "ended_at", "wake_at")},
    **{name: f"runs.{name}" for name in ("tasks_total", "tasks_done", "tasks_failed")},
}
_OPEN = "runs.state IN ('running', 'cancelling')"
_LAST = b"\xff"  # sorts after every character

NOW = "(SELECT seconds FROM clock)"
OWNER_LIVES = f"EXISTS (SELECT 1 FROM leases WHERE leases.node = runs.owner AND leases.expires_at > {NOW})"
"""Whether the owner's lease runs."""


class Translator:
    """Collects parameters while it translates, in the order of their places."""

    def __init__(self, values: Sequence[Scalar | bytes] = ()) -> None:
        self.values: list[Scalar | bytes] = list(values)

    def parameter(self, value: Scalar | bytes) -> str:
        """A place for a value."""
        numeric = not isinstance(value, bytes) and kind_of(value) != "text"
        self.values.append(float(value) if numeric else value)  # type: ignore[arg-type]
        return "?"

    def condition(self, where: Where) -> str:
        """An SQL condition that is never NULL."""
        if isinstance(where, And | Or):
            word = " AND " if isinstance(where, And) else " OR "
            return f"({word.join(self.condition(part) for part in where.parts)})"
        if isinstance(where, Not):
            return f"(NOT {self.condition(where.part)})"
        if where.field.source == "tag":
            return self._of_rows(where, "run_tags", "item.`key`")
        if where.field.source == "attribute":
            return self._of_rows(where, "run_attributes", "item.name")
        return self._of_column(where)

    def _column(self, field: Field) -> str:
        plain = _PLAIN.get(field.name)
        if plain is not None:
            return plain
        if field.name == "duration":
            return f"(COALESCE(runs.ended_at, {NOW}) - runs.created_at)"
        waiting = f"{_OPEN} AND runs.owner IS NULL AND runs.wake_at > {NOW}"
        interrupted = f"{_OPEN} AND NOT {OWNER_LIVES}"
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
        head = f"runs.run_id IN (SELECT item.run_id FROM {table} AS item WHERE {name_column} = "
        first = head + self.parameter(where.field.name)
        if isinstance(where, Null):
            return f"(NOT {first}))"
        typed = table == "run_attributes"
        if isinstance(where, In):
            wanted = " OR ".join(self._item("=", value, typed=typed) for value in where.values)
            return f"({first} AND ({wanted})))"
        if typed and where.op == "!=":
            second = head + self.parameter(where.field.name)
            return f"({first}) AND NOT {second} AND {self._item('=', where.value, typed=typed)}))"
        return f"({first} AND {self._item(where.op, where.value, typed=typed)}))"

    def _item(self, op: str, value: Scalar, *, typed: bool) -> str:
        """A test on one row."""
        if not typed:
            return self._test("item.value", op, value)
        kind = kind_of(value)
        if kind == "text":
            return f"(item.kind = 'text' AND {self._test('item.text', op, value)})"
        return f"(item.kind = '{kind}' AND item.number {op} {self.parameter(value)})"

    def _test(self, column: str, op: str, value: Scalar) -> str:
        if op == "like":  # lower case of the letters of ASCII only, as the language has it; backslashes are plain there
            pattern = str(value).translate(_LOWER).replace("\\", "\\\\")
            return f"{_lowered(column)} LIKE CONVERT({self.parameter(pattern)} USING utf8mb4) COLLATE utf8mb4_bin"
        if op == "prefix":
            start = str(value).encode()
            test = f"{column} >= {self.parameter(start)}"
            return f"({test} AND {column} < {self.parameter(start + _LAST)})"
        return f"{column} {op} {self.parameter(value)}"


_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)


def _lowered(column: str) -> str:
    """``LOWER`` would change more letters than those of ASCII."""
    text = f"CONVERT({column} USING utf8mb4)"
    for upper, lower in zip(ascii_uppercase, ascii_lowercase, strict=True):
        text = f"REPLACE({text}, '{upper}', '{lower}')"
    return text
