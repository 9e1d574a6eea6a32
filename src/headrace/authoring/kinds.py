"""Checks a task's own settings against the type its kind declares, long before the task is bound.

A template may stand where a number will be, so a setting that holds one is left to the check at run time.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, cast

import msgspec

from headrace.authoring.convert import Wrong, expected, unknown_key
from headrace.contracts.execution import TaskKind
from headrace.core.validate import templates

Kinds = Mapping[str, TaskKind]

BUILTIN_SHORTHANDS: Mapping[str, str] = {"python": "function", "run": "command", "http": "url", "workflow": "target"}
"""The setting that a bare value stands for, for kinds that every installation has."""

OWN_EXECUTORS: Mapping[str, str] = {"run": "shell", "http": "http", "workflow": "workflow"}
"""The executor of kinds that have one and no other. What a plug-in's kind makes of ``executor`` is its own business."""

PYTHON_EXECUTORS = ("inline", "thread", "process", "database")
"""The executors that a python task may name."""

_place = re.compile(r" - at `\$(.*)`$")
_steps = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")


def shorthand_of(kind: str, kinds: Kinds) -> str | None:
    """The setting of a kind that a bare value stands for."""
    return kinds[kind].shorthand if kind in kinds else BUILTIN_SHORTHANDS.get(kind)


def to_config(name: str, value: object, kinds: Kinds) -> dict[str, Any]:
    """The settings under a kind's key: a mapping as it is, anything else by the kind's shorthand."""
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    shorthand = shorthand_of(name, kinds)
    if value is None:
        raise Wrong(f"{name!r} is empty", f'write {name}: "..."' if shorthand else "give it its settings")
    if shorthand is None:
        raise expected("a mapping", value, "{setting: value}")
    return {shorthand: value}


def check_executor(kind: str, executor: object) -> None:
    """Refuse an executor that would have no effect. Raises :class:`Wrong`."""
    own = OWN_EXECUTORS.get(kind)
    if own is not None and executor not in (None, own):
        hint = f"leave it out; {', '.join(PYTHON_EXECUTORS[:-1])} are for python tasks"
        raise Wrong(f"{kind!r} tasks run on executor {own!r}, not on {executor!r}", hint)


def config_problems(kind: TaskKind, config: dict[str, Any]) -> list[Wrong]:
    """Everything wrong with a task's settings, as far as it can be told before templates are rendered."""
    try:
        msgspec.convert(config, kind.Config)
    except msgspec.ValidationError as error:
        return _per_field(kind, config) or ([_wrong(error)] if not templates(config) else [])
    # A type that does not forbid unknown fields would hide a misspelt setting.
    known = _known(kind.Config)
    return [unknown_key(key, known, f"{kind.name!r}") for key in config if key not in known]


def setting_names(kind: TaskKind) -> Collection[str]:
    """The settings that a kind's tasks may have."""
    return _known(kind.Config).keys()


@lru_cache(maxsize=256)
def _known(config_type: type[msgspec.Struct]) -> dict[str, Any]:
    return {field.encode_name: field for field in msgspec.structs.fields(config_type)}


def _per_field(kind: TaskKind, config: dict[str, Any]) -> list[Wrong]:
    known = _known(kind.Config)
    wrongs: list[Wrong] = []
    for key, value in config.items():
        field = known.get(key)
        if field is None:
            wrongs.append(unknown_key(key, known, f"{kind.name!r}"))
            continue
        try:
            msgspec.convert(value, field.type)
        except msgspec.ValidationError as error:
            if not templates(value):
                wrongs.append(_of_setting(kind, key, _wrong(error)))
    missing = [name for name, field in known.items() if field.required and name not in config]
    if missing:
        wrongs.append(Wrong(f"{kind.name!r} needs {', '.join(map(repr, missing))}", f"it has: {', '.join(known)}"))
    return wrongs


def _of_setting(kind: TaskKind, key: str, wrong: Wrong) -> Wrong:
    """The problem, naming the setting: in a mapping on one line, a column alone is hard to read."""
    return Wrong(f"{key!r} of {kind.name!r}: {wrong.message}", wrong.hint, wrong.path).under(key)


def _wrong(error: msgspec.ValidationError) -> Wrong:
    """``Expected `int`, got `str` - at `$.a[0]``` as a sentence and a path."""
    text = str(error)
    place = _place.search(text)
    path: tuple[str | int, ...] = ()
    if place is not None:
        text = text[: place.start()]
        path = tuple(int(index) if index else name for name, index in _steps.findall(place[1]))
    text = text.replace("`", "").replace("Expected ", "expected ", 1)
    text = text.replace("array", "list").replace("object", "mapping").replace(", got", ", not")
    return Wrong(text, "write a list: [...]" if text.startswith("expected list") else "", path)
