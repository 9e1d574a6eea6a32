"""``schedules:`` of a workflow file. They are no part of the definition: when a workflow runs does not make it another
one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from headrace.authoring.convert import Wrong, expected, unknown_key
from headrace.authoring.yaml.fields import SCHEDULE_FIELDS, SCHEDULE_SYNONYMS
from headrace.authoring.yaml.locate import Key
from headrace.core.errors import InvalidSchedule, Problem
from headrace.core.schedule_checks import Given, define
from headrace.core.schedules import Definition
from headrace.core.spec import ParamSpec
from headrace.core.suggest import did_you_mean

EXAMPLE = '{nightly: "0 3 * * *"}'


def read_schedules(
    data: object, workflow: str, params: Mapping[str, ParamSpec], problems: list[Problem]
) -> tuple[Definition, ...]:
    """The schedules of a file, called ``workflow.name``. What is wrong is added to the problems."""
    if data is None:
        return ()
    if not isinstance(data, dict):
        wrong = expected("a mapping from a name to a schedule", data, EXAMPLE)
        problems.append(Problem(wrong.message, path=("schedules",), hint=wrong.hint))
        return ()
    found: list[Definition] = []
    for name, value in cast("dict[str, object]", data).items():
        path = ("schedules", name)
        try:
            found.append(define(f"{workflow}.{name}", workflow, _given(value, params)))
        except Wrong as wrong:
            place = (*path, Key(wrong.path[0]), *wrong.path[1:]) if wrong.at_key else (*path, *wrong.path)
            problems.append(Problem(wrong.message, path=place, hint=wrong.hint))
        except InvalidSchedule as error:
            for problem in error.problems:
                inside = tuple(part for part in problem.path if part != "name")
                problems.append(Problem(problem.message, path=(*path, *inside), hint=problem.hint))
    return tuple(found)


def _given(value: object, params: Mapping[str, ParamSpec]) -> Given:
    if isinstance(value, str):
        return Given(cron=value)
    if not isinstance(value, dict):
        raise expected("a cron expression or a mapping", value, '"0 3 * * *" or {every: 90m}')
    fields = cast("dict[str, Any]", value)
    for key in fields:
        if key not in SCHEDULE_FIELDS:
            wrong = unknown_key(key, SCHEDULE_FIELDS, "a schedule")
            synonym = SCHEDULE_SYNONYMS.get(key.lower())
            raise Wrong(wrong.message, f"did you mean {synonym!r}?" if synonym else wrong.hint, (key,), at_key=True)
    try:
        given = msgspec.convert({key: inner for key, inner in fields.items() if inner is not None}, Given)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$")
        keys = [part for part in place.rstrip("`").replace("[...]", "").split(".") if part]
        raise Wrong(message[:1].lower() + message[1:], path=tuple(keys[:1])) from None
    for name in given.params:
        if name not in params:
            raise Wrong("unknown parameter", did_you_mean(name, params, what="parameters"), ("params", name))
    return given
