"""The short forms people write, to the values a specification holds. Shared by YAML and Python.

Everything here raises :class:`Wrong` for what it cannot take: what was expected, with an example, and where inside.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast, get_args

import msgspec

from headrace.core.durations import parse_duration
from headrace.core.params import EXAMPLES, spec_problems
from headrace.core.spec import (
    MAP_ITEMS_MAX_DEFAULT,
    NO_RETRY,
    NO_TIMEOUTS,
    Backoff,
    Jitter,
    ParamSpec,
    ParamType,
    RetryPolicy,
    Timeouts,
    TriggerRule,
)
from headrace.core.suggest import did_you_mean

E = TypeVar("E")
S = TypeVar("S", RetryPolicy, Timeouts, ParamSpec)

PARAM_TYPES: tuple[ParamType, ...] = get_args(ParamType)


class Wrong(Exception):
    """A value that does not fit. ``path`` is where inside the value; ``at_key`` means the key itself is wrong."""

    def __init__(self, message: str, hint: str = "", path: tuple[str | int, ...] = (), *, at_key: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.path = path
        self.at_key = at_key

    def under(self, *path: str | int) -> Wrong:
        """The same, seen from further out."""
        return Wrong(self.message, self.hint, (*path, *self.path), at_key=self.at_key)


def kind_of(value: object) -> str:
    """What a value is, in words a reader of YAML knows."""
    names: dict[Any, str] = {
        str: "text",
        int: "a number",
        float: "a number",
        bool: "true/false",
        dict: "a mapping",
        list: "a list",
    }
    if value is None:
        return "nothing"
    name = names.get(type(value), type(value).__name__)
    return name if isinstance(value, (dict, list)) else f"{name} ({_cut(repr(value))})"


def expected(what: str, value: object, example: str) -> Wrong:
    """The usual refusal."""
    return Wrong(f"expected {what}, not {kind_of(value)}", f"for example: {example}")


def to_text(value: object) -> str:
    """Text, or what YAML reads as a number or boolean where text is meant."""
    if isinstance(value, str):
        return value
    raise expected("text", value, '"some text"')


def to_bool(value: object) -> bool:
    """True or false, nothing else."""
    if isinstance(value, bool):
        return value
    hint = "write true or false; yes, no, on and off are plain text here" if isinstance(value, str) else ""
    raise Wrong(f"expected true or false, not {kind_of(value)}", hint)


def to_int(value: object) -> int:
    """A whole number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise expected("a whole number", value, "4")


def to_max_items(value: object) -> int:
    """A whole number; the default is the default's own object, see :func:`canonical`."""
    count = to_int(value)
    return MAP_ITEMS_MAX_DEFAULT if count == MAP_ITEMS_MAX_DEFAULT else count


def to_number(value: object) -> float:
    """A number."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    raise expected("a number", value, "2.5")


def to_duration(value: object) -> float:
    """Seconds from ``5m``, ``90`` or a ``timedelta``."""
    try:
        return parse_duration(value)
    except ValueError as error:
        raise Wrong(str(error)) from None


def to_texts(value: object) -> tuple[str, ...]:
    """One text or a list of them."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, (list, tuple)):
        raise expected("text or a list of texts", value, "[first, second]")
    texts: list[str] = []
    for position, part in enumerate(cast("list[object]", value)):
        if not isinstance(part, str):
            raise expected("text", part, '"some text"').under(position)
        texts.append(part)
    return tuple(texts)


def to_failure_names(value: object) -> tuple[str, ...]:
    """Failures by name: one or a list. Bare numbers are refused: an exit code and a status look alike."""
    for number in cast("list[object]", value) if isinstance(value, list) else [value]:
        if type(number) is int:
            raise Wrong(f"{number} could be an exit code or a status", f'write "exit:{number}" or "http:{number}"')
    return to_texts(value)


def to_mapping(value: object) -> dict[str, Any]:
    """A mapping with text keys."""
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    raise expected("a mapping", value, "{key: value}")


def to_labels(value: object) -> dict[str, str]:
    """Labels by name; numbers and booleans are written as text."""
    labels: dict[str, str] = {}
    for name, label in to_mapping(value).items():
        if isinstance(label, bool):
            label = "true" if label else "false"  # noqa: PLW2901 - as YAML writes it
        if not isinstance(label, (str, int)):
            raise expected("text", label, "{zone: a}").under(name)
        labels[name] = str(label)
    return labels


def to_when(value: object) -> str:
    """A condition: an expression, or just true or false."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        if value.strip():
            return value
        raise Wrong("the condition is empty", "leave it out to run always")
    raise expected("a condition", value, '"{{ tasks.check.output.ok }}"')


def to_trigger(value: object) -> TriggerRule:
    """The name of a trigger rule."""
    return to_choice(TriggerRule, "trigger rule", value)


def to_choice(choices: Callable[[str], E], what: str, value: object) -> E:
    """A member of an enumeration of texts."""
    names = [str(member) for member in cast("Any", choices)]
    if isinstance(value, str):
        try:
            return choices(value)
        except ValueError:
            hint = did_you_mean(value, names) or ""
            raise Wrong(f"unknown {what} {_cut(repr(value))}", f"{hint} ({', '.join(names)})".lstrip()) from None
    raise Wrong(f"expected a {what}, not {kind_of(value)}", f"one of: {', '.join(names)}")


def check_keys(mapping: Mapping[str, Any], known: Mapping[str, Any], what: str) -> None:
    """Refuse the first key that is not known."""
    for key in mapping:
        if key not in known:
            raise unknown_key(key, known, what)


def unknown_key(key: str, known: Mapping[str, Any], what: str) -> Wrong:
    """The refusal of a key."""
    return Wrong(f"{what} has no key {_cut(repr(key))}", did_you_mean(key, known, what="it has"), (key,), at_key=True)


# ---- retries and timeouts ---------------------------------------------------------------------------------------

RETRY_FIELDS: dict[str, Callable[[object], Any]] = {
    "attempts": to_int,
    "backoff": lambda value: to_choice(Backoff, "backoff", value),
    "initial": to_duration,
    "factor": to_number,
    "max_delay": to_duration,
    "jitter": lambda value: to_choice(Jitter, "jitter", value),
    "elapsed": to_duration,
    "retry_on": to_failure_names,
    "give_up_on": to_failure_names,
}
TIMEOUT_FIELDS: dict[str, Callable[[object], Any]] = dict.fromkeys(
    ("attempt", "queue", "task", "heartbeat"), to_duration
)


def to_retries(value: object, default: RetryPolicy) -> RetryPolicy:
    """A number of attempts, or a mapping whose fields replace those of ``default``; null means no retry."""
    if isinstance(value, RetryPolicy):
        return canonical(value)
    if value is None:
        return NO_RETRY
    if isinstance(value, int) and not isinstance(value, bool):
        return canonical(msgspec.structs.replace(default, attempts=value))
    if not isinstance(value, dict):
        raise expected("a number of attempts or a mapping", value, "{attempts: 3, backoff: exponential, initial: 1s}")
    return canonical(
        msgspec.structs.replace(default, **_fields(cast("dict[str, Any]", value), RETRY_FIELDS, "retries"))
    )


def to_timeouts(value: object, default: Timeouts) -> Timeouts:
    """A duration for each attempt, or a mapping whose fields replace those of ``default``; null means no limit."""
    if isinstance(value, Timeouts):
        return canonical(value)
    if value is None:
        return NO_TIMEOUTS
    if isinstance(value, dict):
        changes = _fields(cast("dict[str, Any]", value), TIMEOUT_FIELDS, "timeout")
        return canonical(msgspec.structs.replace(default, **changes))
    if not isinstance(value, (str, int, float, datetime.timedelta)) or isinstance(value, bool):
        raise expected("a duration or a mapping", value, "10m, or {attempt: 10m, queue: 1h}")
    return msgspec.structs.replace(default, attempt=to_duration(value))


def canonical(value: S) -> S:
    """An equal value that is stored in the same bytes however it was written.

    Fields are left out of the stored form if they *are* their default, not if they equal it; so ``initial: 1s`` spelt
    out would be another version of the workflow.
    """
    changed = {
        field.name: getattr(value, field.name)
        for field in msgspec.structs.fields(value)
        if getattr(value, field.name) != field.default
    }
    if not changed and not isinstance(value, ParamSpec):
        return cast("S", NO_RETRY if isinstance(value, RetryPolicy) else NO_TIMEOUTS)
    return type(value)(**changed)


def _fields(mapping: dict[str, Any], fields: Mapping[str, Callable[[object], Any]], what: str) -> dict[str, Any]:
    check_keys(mapping, fields, what)
    read: dict[str, Any] = {}
    for key, value in mapping.items():
        try:
            read[key] = None if value is None and key not in _NEVER_NULL else fields[key](value)
        except Wrong as wrong:
            raise wrong.under(key) from None
    return read


_NEVER_NULL = frozenset(RETRY_FIELDS) - {"elapsed"}


# ---- parameters ---------------------------------------------------------------------------------------------------


def _to_param_type(value: object) -> ParamType:
    if isinstance(value, str):
        if value in PARAM_TYPES:
            return value
        hint = _TYPE_SYNONYMS.get(value.lower(), "")
        hint = f"did you mean {hint!r}?" if hint else did_you_mean(value, PARAM_TYPES)
        raise Wrong(f"unknown type {_cut(repr(value))}", f"{hint} ({', '.join(PARAM_TYPES)})")
    raise Wrong(f"expected a type, not {kind_of(value)}", f"one of: {', '.join(PARAM_TYPES)}")


_TYPE_SYNONYMS = {
    "string": "str", "text": "str", "integer": "int", "number": "float", "boolean": "bool", "array": "list",
    "object": "dict", "map": "dict", "mapping": "dict", "timestamp": "datetime",
}  # fmt: skip


def _to_choices(value: object) -> tuple[Any, ...]:
    if isinstance(value, (list, tuple)):
        return tuple(cast("list[Any]", value))
    raise expected("a list", value, "[small, large]")


PARAM_FIELDS: dict[str, Callable[[object], Any]] = {
    "type": _to_param_type,
    "default": lambda value: value,
    "description": to_text,
    "choices": _to_choices,
    "min": to_number,
    "max": to_number,
    "pattern": to_text,
}


def to_param(value: object) -> ParamSpec:
    """A parameter as YAML writes it: a declaration ``{type: int, default: 2013}``, a type ``int`` (required), or any
    other value (a default, whose type it is)."""
    if isinstance(value, str) and value in PARAM_TYPES:
        return ParamSpec(type=value)
    if isinstance(value, dict):
        mapping = cast("dict[str, Any]", value)
        try:
            check_keys(mapping, PARAM_FIELDS, "a parameter")
        except Wrong as wrong:
            hint = "a default that is a mapping is written {type: dict, default: {...}}"
            raise Wrong(wrong.message, f"{wrong.hint}; {hint}", wrong.path, at_key=True) from None
        read: dict[str, Any] = {}
        for key, part in mapping.items():
            try:
                read[key] = PARAM_FIELDS[key](part)
            except Wrong as wrong:
                raise wrong.under(key) from None
        if "type" not in read and read.get("default") is not None:
            read["type"] = inferred_type(read["default"])
        return _checked(ParamSpec(**read))
    return default_param(value)


def default_param(value: object) -> ParamSpec:
    """A parameter known by its default only."""
    if isinstance(value, (datetime.date, datetime.datetime)):
        value = value.isoformat()
    return ParamSpec(type=inferred_type(value), default=value)


def inferred_type(value: object) -> ParamType:
    """The parameter type a default stands for."""
    kinds: dict[Any, ParamType] = {bool: "bool", int: "int", float: "float", str: "str", list: "list", dict: "dict"}
    return kinds.get(type(value), "any")


def _checked(spec: ParamSpec) -> ParamSpec:
    # ``default: 1`` of a float parameter is 1.0, whoever writes it, so that both spellings are one version.
    if spec.type == "float" and isinstance(spec.default, int) and not isinstance(spec.default, bool):
        spec = msgspec.structs.replace(spec, default=float(spec.default))
    problems = spec_problems(spec)
    if problems:
        example = f"a value of type {spec.type} is, for example, {EXAMPLES[spec.type]}"
        raise Wrong("; ".join(problems), example if any(": expected" in problem for problem in problems) else "")
    return canonical(spec)


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
