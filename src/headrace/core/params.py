"""Run parameters: defaults, types and checks, all problems at once."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from datetime import date, datetime
from typing import Any, cast

import msgspec

from headrace.core.errors import InvalidParams, Problem
from headrace.core.spec import ParamSpec, ParamType
from headrace.core.suggest import did_you_mean

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})

EXAMPLES: Mapping[ParamType, str] = {
    "str": '"text"',
    "int": "5",
    "float": "2.5",
    "bool": "true or false",
    "list": "[1, 2, 3]",
    "dict": '{"key": "value"}',
    "any": "any value",
    "date": '"2013-01-31"',
    "datetime": '"2013-01-31T06:00:00Z"',
}
"""A value of every parameter type, for messages and documentation."""


def resolve_params(
    specs: Mapping[str, ParamSpec],
    given: Mapping[str, Any],
    *,
    from_strings: bool | AbstractSet[str] = False,
    workflow: str = "",
) -> dict[str, Any]:
    """The complete parameters of a run: those given, checked, plus defaults, in the order of ``specs``.

    With ``from_strings`` (the command line) text is first read as the declared type: ``"5"`` as an int, JSON for
    lists and dicts, ``yes``/``no`` for booleans; for ``any``, JSON if it is JSON, else the text itself. A set of names
    says so of these parameters only. Without it a type must fit: a bool is not an int; an int is a valid float and
    becomes one; ``date`` and ``datetime`` objects become ISO 8601 text. The result shares no mutable value with
    ``specs``.

    Raises :class:`InvalidParams` with every problem: unknown and missing names, wrong types, failed checks.
    """
    problems = [
        Problem("unknown parameter", path=(name,), hint=did_you_mean(str(name), specs, what="parameters"))
        for name in given
        if name not in specs
    ]
    resolved: dict[str, Any] = {}
    for name, spec in specs.items():
        if name in given:
            as_text = from_strings if isinstance(from_strings, bool) else name in from_strings
            try:
                resolved[name] = param_value(spec, given[name], from_strings=as_text)
            except ValueError as error:
                problems.append(Problem(str(error), path=(name,), hint=spec.description))
        elif spec.default is msgspec.UNSET:
            hint = f"give a value of type {spec.type}, for example {EXAMPLES[spec.type]}"
            if spec.type == "any":
                hint = "give a value"
            problems.append(Problem("required parameter is missing", path=(name,), hint=spec.description or hint))
        else:
            resolved[name] = copy.deepcopy(spec.default)
    if problems:
        raise InvalidParams(problems, workflow=workflow)
    return resolved


def param_value(spec: ParamSpec, value: Any, *, from_strings: bool = False) -> Any:
    """``value`` as the parameter's type, checked. Raises ``ValueError`` saying what was expected."""
    if value is None and spec.default is None:
        return None
    if from_strings and isinstance(value, str):
        value = _FROM_TEXT[spec.type](value)
    typed = _TYPED[spec.type](value)
    if isinstance(typed, (list, dict, float)):
        _check_finite(typed)
    _check(spec, typed)
    return typed


def spec_problems(spec: ParamSpec) -> list[str]:
    """What is wrong with a parameter's own declaration."""
    problems: list[str] = []
    if spec.min is not None and spec.max is not None and spec.min > spec.max:
        problems.append(f"min {spec.min:g} is greater than max {spec.max:g}")
    if (spec.min is not None or spec.max is not None) and spec.type not in ("int", "float", "str", "list"):
        problems.append(f"min and max bound numbers and lengths; they do not apply to type {spec.type}")
    if spec.pattern is not None:
        if spec.type != "str":
            problems.append(f"pattern applies to type str, not {spec.type}")
        try:
            re.compile(spec.pattern)
        except re.error as error:
            problems.append(f"pattern {spec.pattern!r} is not a regular expression: {error}")
    if not problems:
        for choice in spec.choices:
            try:
                param_value(msgspec.structs.replace(spec, choices=()), choice)
            except ValueError as error:
                problems.append(f"choice {choice!r}: {error}")
    if not problems and spec.default is not msgspec.UNSET:
        try:
            param_value(spec, spec.default)
        except ValueError as error:
            problems.append(f"default: {error}")
    return problems


def _check(spec: ParamSpec, value: Any) -> None:
    if spec.choices and not any(value == choice and type(value) is type(choice) for choice in spec.choices):
        raise ValueError(f"{_shown(value)} is not one of {', '.join(map(_shown, spec.choices))}")
    if spec.min is not None or spec.max is not None:
        measured: float | None = None
        unit = ""
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            measured = value
        elif isinstance(value, str):
            measured, unit = len(value), " characters"
        elif isinstance(value, list):
            measured, unit = len(cast("list[Any]", value)), " items"
        if measured is not None and spec.min is not None and measured < spec.min:
            raise ValueError(f"{_shown(value)} is under the minimum of {spec.min:g}{unit}")
        if measured is not None and spec.max is not None and measured > spec.max:
            raise ValueError(f"{_shown(value)} is over the maximum of {spec.max:g}{unit}")
    if spec.pattern is not None and isinstance(value, str) and not re.fullmatch(spec.pattern, value):
        raise ValueError(f"{_shown(value)} does not match the pattern {spec.pattern!r} from end to end")


def _check_finite(value: Any) -> None:
    """Refuse numbers that JSON has no words for, wherever they are: they would be stored as null."""
    todo: list[Any] = [value]
    while todo:
        part = todo.pop()
        kind = type(part)
        if kind is float:
            if not math.isfinite(part):
                raise ValueError(f"{part} is not a number that JSON can hold; leave it out or use null or text")
        elif kind is dict:
            todo += part.values()
        elif kind is list or kind is tuple:
            todo += part


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _refuse(expected: str, value: Any) -> ValueError:
    return ValueError(f"expected {expected}, not {_shown(value)} ({type(value).__name__})")


# ---- values as they come from Python, YAML and JSON -------------------------------------------------------------


def _any(value: Any) -> Any:
    return value


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise _refuse("text", value)
    return value


def _int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _refuse("a whole number", value)
    return value


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise _refuse("a finite number", value)
    return float(value)


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _refuse("true or false", value)
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise _refuse("a list", value)
    return list(cast("list[Any]", value))


def _dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in cast("Mapping[Any, Any]", value)):
        raise _refuse("a mapping with text keys", value)
    return dict(cast("Mapping[str, Any]", value))


def _date(value: Any) -> str:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    try:
        return date.fromisoformat(_str(value)).isoformat()
    except ValueError:
        raise _refuse("a date such as 2013-01-31", value) from None


def _datetime(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    try:
        datetime.fromisoformat(_str(value))
    except ValueError:
        raise _refuse("a date and time such as 2013-01-31T06:00:00Z", value) from None
    return value


_TYPED: dict[ParamType, Callable[[Any], Any]] = {
    "any": _any,
    "str": _str,
    "int": _int,
    "float": _float,
    "bool": _bool,
    "list": _list,
    "dict": _dict,
    "date": _date,
    "datetime": _datetime,
}


# ---- values as they come from a command line --------------------------------------------------------------------


def _int_text(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        return text  # the type check names what was expected


def _float_text(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _bool_text(text: str) -> Any:
    word = text.strip().lower()
    return True if word in _TRUE else False if word in _FALSE else text


def _json_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected JSON, not {_shown(text)}: {error}") from None


def _any_text(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    # Python's reader takes a bare NaN or Infinity, which are words in JSON.
    return text if isinstance(value, float) and not math.isfinite(value) else value


_FROM_TEXT: dict[ParamType, Callable[[str], Any]] = {
    "any": _any_text,
    "str": _any,
    "int": _int_text,
    "float": _float_text,
    "bool": _bool_text,
    "list": _json_text,
    "dict": _json_text,
    "date": _any,
    "datetime": _any,
}
