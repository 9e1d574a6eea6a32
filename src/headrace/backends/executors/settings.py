"""Checking a task's typed settings (its ``config``): once at bind, where templates are let through, and again once
they are rendered."""

from __future__ import annotations

import difflib
from typing import Any, TypeVar

import msgspec

from headrace.contracts.execution import Attempt, AttemptError
from headrace.core.errors import InvalidDefinition, Problem
from headrace.core.spec import TaskSpec

Config = TypeVar("Config", bound=msgspec.Struct)


def has_template(value: Any) -> bool:
    """Whether a value, or one inside it, is a string with a template in it."""
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    if isinstance(value, dict):
        return any(has_template(key) or has_template(child) for key, child in value.items())
    if isinstance(value, list | tuple):
        return any(has_template(child) for child in value)
    return False


def check_config(task: TaskSpec, kind: type[Config]) -> Config | None:
    """The typed settings, or None when templates have to be rendered first. Raises :class:`InvalidDefinition` with
    every unknown, missing or wrong setting that can be seen now."""
    if not has_template(task.config):
        try:
            return msgspec.convert(task.config, kind)
        except msgspec.ValidationError:
            pass  # looked at one by one below, so that all that is wrong is told at once
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    problems: list[Problem] = []
    for name in task.config:
        if name not in fields:
            close = difflib.get_close_matches(name, fields, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has: {', '.join(fields)}"
            problems.append(_problem(task, name, f"{task.kind!r} has no setting {name!r}", hint))
    templated = False
    for name, field in fields.items():
        if name not in task.config:
            if field.required:
                problems.append(_problem(task, None, f"{task.kind!r} needs the setting {name!r}", ""))
            continue
        value = task.config[name]
        if has_template(value):
            templated = True
            continue
        try:
            msgspec.convert(value, field.type)
        except msgspec.ValidationError as error:
            problems.append(_problem(task, name, str(error), ""))
    if problems:
        raise InvalidDefinition(problems, source=f"task {task.id!r}")
    return None if templated else msgspec.convert(task.config, kind)


def _problem(task: TaskSpec, name: str | None, message: str, hint: str) -> Problem:
    path = ("tasks", task.id, task.kind) if name is None else ("tasks", task.id, task.kind, name)
    return Problem(message, path=path, hint=hint)


def rendered_config(attempt: Attempt, kind: type[Config]) -> Config:
    """The typed settings of an attempt, its templates rendered. Raises :class:`AttemptError` of type ``bad_config``."""
    try:
        return msgspec.convert(attempt.config, kind)
    except msgspec.ValidationError as error:
        raise AttemptError("bad_config", f"settings of task {attempt.task!r}: {error}", retryable=False) from None
