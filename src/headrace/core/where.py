"""The filter language of lists of runs: ``status = 'waiting' and amount > 100 and started_at > now - 2h``.

:func:`parse_where` turns the text into a small tree; stores translate the tree (SQLite to SQL with parameters) or ask
:func:`matches`. Grammar, loosest first::

    filter     = and_part { "or" and_part }
    and_part   = factor { "and" factor }
    factor     = "not" factor | "(" filter ")" | test
    test       = field ( operator value | ["not"] "in" "(" value {"," value} ")" | ["not"] "like" text
                       | ["not"] "prefix" text | "is" ["not"] "null" )
    operator   = "=" | "!=" | "<" | "<=" | ">" | ">="
    field      = name of a column | "tag." name | ["attr."] name
    value      = 'text' | "text" | number | true | false | 5m | now | now - 2h | now + 1d

Logic is two-valued: a test on something a run does not have is false, its ``not`` is true. Texts and numbers never
compare with each other. A test on an attribute that is a list holds if it holds for one of its items; ``!=`` holds if no
item is equal (and there is one).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NoReturn

import msgspec

from headrace.core.durations import parse_duration
from headrace.core.errors import HeadraceError
from headrace.core.states import RunState
from headrace.core.suggest import did_you_mean

TEXT_CHARS_MAX = 10_000
TESTS_MAX = 200
DEPTH_MAX = 50

Kind = Literal["text", "number", "time", "any"]
Scalar = str | float | bool

COLUMNS: dict[str, Kind] = {
    "id": "text",
    "workflow": "text",
    "version": "text",
    "status": "text",
    "state": "text",
    "key": "text",
    "trigger": "text",
    "parent": "text",
    "error": "text",
    "created_at": "time",
    "started_at": "time",
    "ended_at": "time",
    "wake_at": "time",
    "duration": "number",
    "tasks_total": "number",
    "tasks_done": "number",
    "tasks_failed": "number",
}
"""Every run has these. ``status`` is the state as shown: also ``waiting`` and ``interrupted``; ``started_at`` is another
name of ``created_at``; ``duration`` in seconds, so far if the run has not ended."""

SHOWN_STATES = ("waiting", "interrupted")
"""States that lists show and no run is stored with: they follow from a stored one, from whether the owner lives and from
the time."""

STATUSES = (*map(str, RunState), *SHOWN_STATES)
_VALUES_OF = {"status": STATUSES, "state": tuple(map(str, RunState))}


class Field(msgspec.Struct, frozen=True):
    """What is tested: a column of :data:`COLUMNS`, a tag, or an attribute."""

    source: Literal["column", "tag", "attribute"]
    name: str
    kind: Kind


class Compare(msgspec.Struct, frozen=True, tag=True):
    """``field op value``; ``op`` is one of ``= != < <= > >= like prefix``."""

    field: Field
    op: str
    value: Scalar


class In(msgspec.Struct, frozen=True, tag=True):
    """``field in (values)``."""

    field: Field
    values: tuple[Scalar, ...]


class Null(msgspec.Struct, frozen=True, tag=True):
    """``field is null``: the run has no such thing."""

    field: Field


class Not(msgspec.Struct, frozen=True, tag=True):
    """The opposite."""

    part: Where


class And(msgspec.Struct, frozen=True, tag=True):
    """All of them."""

    parts: tuple[Where, ...]


class Or(msgspec.Struct, frozen=True, tag=True):
    """One of them."""

    parts: tuple[Where, ...]


Where = Compare | In | Null | Not | And | Or


class InvalidFilter(HeadraceError):
    """A filter cannot be read. ``column`` counts characters from 1."""

    def __init__(self, message: str, text: str, column: int, *, hint: str | None = None) -> None:
        super().__init__(f"the filter, column {column}: {message}\n    {text}\n    {' ' * (column - 1)}^", hint=hint)
        self.column = column


def parse_where(text: str, now: float) -> Where:
    """Read a filter. ``now`` (seconds since the epoch) is what ``now`` in it means.

    Raises :class:`InvalidFilter` with the column of the first thing that is wrong."""
    if len(text) > TEXT_CHARS_MAX:
        raise HeadraceError(f"the filter has {len(text):,} characters; at most {TEXT_CHARS_MAX:,} are read")
    return _Parser(text, now).filter()


def of_states(states: Sequence[str]) -> Where:
    """Runs in one of these states, stored or shown. The two overlap: an interrupted run is a running one."""
    shown = In(Field("column", "status", "text"), tuple(state for state in states if state in SHOWN_STATES))
    stored = In(Field("column", "state", "text"), tuple(state for state in states if state not in SHOWN_STATES))
    parts = tuple(test for test in (shown, stored) if test.values)
    return parts[0] if len(parts) == 1 else Or(parts)


def fields_of(where: Where) -> Iterator[Field]:
    """Everything that a filter tests, in its order, as often as it does."""
    if isinstance(where, Not):
        yield from fields_of(where.part)
    elif isinstance(where, (And, Or)):
        for part in where.parts:
            yield from fields_of(part)
    else:
        yield where.field


# ---- reading ---------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
      | (?P<duration>\d+(?:\.\d+)?(?:ms|[wdhms])(?:\d+(?:\.\d+)?(?:ms|[wdhms]))*(?![A-Za-z0-9_]))
      | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![A-Za-z0-9_]))
      | (?P<name>(?:[^\W\d]|`[^`]+`)(?:[\w\-]|\.(?=[\w`])|`[^`]+`)*)
      | (?P<op><=|>=|!=|<>|==|=|<|>)
      | (?P<mark>[(),+\-])""",
    re.VERBOSE,
)
_WORDS = frozenset({"and", "or", "not", "in", "like", "prefix", "is", "null", "true", "false", "now"})
_EXAMPLE = "for example: status = 'waiting' and amount > 100 and started_at > now - 2h"


class _Token(msgspec.Struct, frozen=True):
    kind: str
    text: str
    column: int


_PARENT = Field("column", "parent", "text")


def _children_of(field: Field, values: tuple[Scalar, ...]) -> Where:
    """The runs whose parent is one of these. A run keeps its parent as ``RUN/CHILD``; people have the parent's id."""
    parts = [
        Compare(field, "=", value) if "/" in str(value) else Compare(field, "prefix", f"{value}/") for value in values
    ]
    return parts[0] if len(parts) == 1 else Or(tuple(parts))


class _Parser:
    """Recursive descent, one token of look-ahead."""

    def __init__(self, text: str, now: float) -> None:
        self._text = text
        self._now = now
        self._tokens = self._scan()
        self._at = 0
        self._tests = 0
        self._depth = 0

    def _scan(self) -> list[_Token]:
        tokens: list[_Token] = []
        at = 0
        while at < len(self._text):
            found = _TOKEN.match(self._text, at)
            if found is None:
                start = self._text[at]
                if start in "'\"":
                    self._fail("the text that begins here has no end", at + 1)
                self._fail(f"{start!r} means nothing here", at + 1)
            kind = found.lastgroup or ""
            if kind != "space":
                text = found[0]
                if kind == "name" and text.lower() in _WORDS:
                    kind, text = "word", text.lower()
                tokens.append(_Token(kind, text, at + 1))
            at = found.end()
        tokens.append(_Token("end", "", len(self._text) + 1))
        return tokens

    def _fail(self, message: str, column: int, hint: str | None = None) -> NoReturn:
        raise InvalidFilter(message, self._text, column, hint=hint or _EXAMPLE)

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._next
        self._at += token.kind != "end"
        return token

    def _is(self, kind: str, *texts: str) -> bool:
        return self._next.kind == kind and (not texts or self._next.text in texts)

    def _accept(self, kind: str, *texts: str) -> bool:
        if self._is(kind, *texts):
            self._take()
            return True
        return False

    def _expected(self, what: str, hint: str | None = None) -> NoReturn:
        token = self._next
        found = f"{token.text!r}" if token.kind != "end" else "the end"
        self._fail(f"expected {what}, found {found}", token.column, hint)

    def filter(self) -> Where:
        """The whole text."""
        where = self._or()
        if not self._is("end"):
            self._expected("`and`, `or` or the end")
        return where

    def _or(self) -> Where:
        parts = [self._and()]
        while self._accept("word", "or"):
            parts.append(self._and())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _and(self) -> Where:
        parts = [self._factor()]
        while self._accept("word", "and"):
            parts.append(self._factor())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _factor(self) -> Where:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            self._fail(f"more than {DEPTH_MAX} nested parentheses and nots", self._next.column)
        try:
            if self._accept("word", "not"):
                return Not(self._factor())
            if self._accept("mark", "("):
                inner = self._or()
                if not self._accept("mark", ")"):
                    self._expected("`)`")
                return inner
            return self._test()
        finally:
            self._depth -= 1

    def _test(self) -> Where:
        token = self._next
        if token.kind != "name":
            self._expected("the name of a column, tag or attribute")
        self._tests += 1
        if self._tests > TESTS_MAX:
            self._fail(f"more than {TESTS_MAX} tests", token.column)
        field = self._field(self._take())
        if self._accept("word", "is"):
            negated = self._accept("word", "not")
            if not self._accept("word", "null"):
                self._expected("`null`" if negated else "`null` or `not null`")
            return Not(Null(field)) if negated else Null(field)
        negated = self._accept("word", "not")
        if self._accept("word", "in"):
            values = self._values(field)
            test: Where = _children_of(field, values) if field == _PARENT else In(field, values)
        elif self._is("word", "like", "prefix"):
            op = self._take().text
            if field.kind in ("number", "time"):
                self._fail(f"`{op}` is for texts; {field.name} is a {field.kind}", token.column)
            if not self._is("text"):
                self._expected("a text in quotes")
            test = Compare(field, op, self._quoted())
        elif self._is("op") and not negated:
            op = {"<>": "!=", "==": "="}.get(self._next.text, self._next.text)
            self._take()
            value = self._value(field)
            test = Compare(field, op, value)
            if field == _PARENT and op in ("=", "!="):
                test = _children_of(field, (value,))
                test = test if op == "=" else And((Not(Null(field)), Not(test)))
        else:
            self._expected("`in`, `like` or `prefix`" if negated else "=, !=, <, <=, >, >=, in, like, prefix or is")
        return Not(test) if negated else test

    def _field(self, token: _Token) -> Field:
        name = token.text.replace("`", "")
        head, dot, rest = name.partition(".")
        if token.text.startswith("`"):
            return Field("attribute", name, "any")
        if dot and head in ("tag", "tags"):
            return Field("tag", rest, "text")
        if dot and head in ("attr", "attribute", "attributes"):
            return Field("attribute", rest, "any")
        kind = COLUMNS.get(name)
        if kind is not None:
            return Field("column", "created_at" if name == "started_at" else name, kind)
        if name.lower() in COLUMNS:
            self._fail(f"there is no {name!r}", token.column, f"did you mean {name.lower()!r}?")
        return Field("attribute", name, "any")

    def _values(self, field: Field) -> tuple[Scalar, ...]:
        if not self._accept("mark", "("):
            self._expected("`(`", "for example: status in ('failed', 'cancelled')")
        values = [self._value(field)]
        while self._accept("mark", ","):
            values.append(self._value(field))
        if not self._accept("mark", ")"):
            self._expected("`,` or `)`")
        return tuple(values)

    def _quoted(self) -> str:
        text = self._take().text
        return text[1:-1].replace(text[0] * 2, text[0])

    def _value(self, field: Field) -> Scalar:
        token = self._next
        value: Scalar
        if token.kind == "text":
            value = self._quoted()
            if field.kind == "time":
                value = self._time(value, token)
        elif token.kind == "number":
            value = float(self._take().text)
        elif token.kind == "duration":
            value = self._duration()
            if field.kind == "time":
                self._fail(
                    f"{field.name} is a point in time", token.column, f"for example: {field.name} > now - {token.text}"
                )
        elif self._accept("word", "true") or self._accept("word", "false"):
            value = token.text == "true"
        elif self._accept("word", "now"):
            value = self._now + self._offset()
        elif token.kind == "word" and token.text == "null":
            self._fail("nothing is equal to null", token.column, f"write: {field.name} is null")
        elif token.kind == "name":
            self._fail(f"a text needs quotes: '{token.text}'", token.column)
        else:
            self._expected("a value: 'text', a number, true, false, a duration or now")
        self._check(field, value, token)
        return value

    def _duration(self) -> float:
        token = self._take()
        try:
            return parse_duration(token.text)
        except ValueError as error:
            self._fail(str(error), token.column)

    def _offset(self) -> float:
        sign = 1.0 if self._is("mark", "+") else -1.0
        if not self._accept("mark", "+", "-"):
            return 0.0
        if not self._is("duration"):
            self._expected("a duration such as 2h or 30d")
        return sign * self._duration()

    def _time(self, text: str, token: _Token) -> float:
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            self._fail(
                f"{text!r} is not a date or time", token.column, "for example '2026-01-31' or '2026-01-31T06:00:00Z'"
            )
        return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()

    def _check(self, field: Field, value: Scalar, token: _Token) -> None:
        if field.kind in ("number", "time"):
            if isinstance(value, bool) or not isinstance(value, float):
                what = "a number or a duration" if field.kind == "number" else "a date, a time or now"
                self._fail(f"{field.name} is compared with {what}", token.column)
        elif field.kind == "text" and not isinstance(value, str):
            self._fail(f"{field.name} is a text: write it in quotes", token.column)
        known = _VALUES_OF.get(field.name) if field.source == "column" else None
        if known is not None and value not in known:
            self._fail(
                f"there is no {field.name} {value!r}",
                token.column,
                did_you_mean(str(value), known, what="it is one of"),
            )


# ---- asking ----------------------------------------------------------------------------------------------------------


def matches(where: Where, look: Callable[[Field], Iterable[Any]]) -> bool:
    """Whether a run fits. ``look`` gives the values a run has for a field: none, one, or the items of a list."""
    if isinstance(where, And):
        return all(matches(part, look) for part in where.parts)
    if isinstance(where, Or):
        return any(matches(part, look) for part in where.parts)
    if isinstance(where, Not):
        return not matches(where.part, look)
    values = list(look(where.field))
    if isinstance(where, Null):
        return not values
    if isinstance(where, In):
        return any(_equal(value, wanted) for value in values for wanted in where.values)
    if where.op == "!=":
        return bool(values) and not any(_equal(value, where.value) for value in values)
    return any(_holds(value, where.op, where.value) for value in values)


def kind_of(value: object) -> Literal["text", "number", "flag"]:
    """Values of different kinds are never equal and never in order."""
    if isinstance(value, bool):
        return "flag"
    return "number" if isinstance(value, int | float) else "text"


def items_of(value: object) -> list[Scalar]:
    """What an attribute's value is searched by: itself, or the plain items of a list; nothing of anything else."""
    items = value if isinstance(value, list | tuple) else [value]
    return [item for item in items if isinstance(item, str | int | float | bool)]


def _equal(value: object, wanted: Scalar) -> bool:
    return kind_of(value) == kind_of(wanted) and value == wanted


def _holds(value: Any, op: str, wanted: Any) -> bool:
    if kind_of(value) != kind_of(wanted):
        return False
    if op == "like":
        return like_pattern(wanted).fullmatch(value) is not None
    return _OPERATORS[op](value, wanted)


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda value, wanted: value == wanted,
    "<": lambda value, wanted: value < wanted,
    "<=": lambda value, wanted: value <= wanted,
    ">": lambda value, wanted: value > wanted,
    ">=": lambda value, wanted: value >= wanted,
    "prefix": lambda value, wanted: value.startswith(wanted),
}


def like_pattern(pattern: str) -> re.Pattern[str]:
    """SQL's ``LIKE``: ``%`` is any text, ``_`` any character; letters of ASCII match in either case."""
    parts = [".*" if char == "%" else "." if char == "_" else re.escape(char) for char in pattern]
    return re.compile("".join(parts), re.IGNORECASE | re.DOTALL | re.ASCII)


__all__ = [
    "COLUMNS",
    "SHOWN_STATES",
    "STATUSES",
    "And",
    "Compare",
    "Field",
    "In",
    "InvalidFilter",
    "Not",
    "Null",
    "Or",
    "Where",
    "fields_of",
    "items_of",
    "kind_of",
    "like_pattern",
    "matches",
    "of_states",
    "parse_where",
]
