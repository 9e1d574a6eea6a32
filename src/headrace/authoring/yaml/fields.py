"""Every key of the YAML format: what it means, how it is read, and what an editor should offer.

These tables are the format's only description: the reader follows them and the JSON Schema is generated from them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, get_args

import msgspec

from headrace.authoring.convert import (
    PARAM_TYPES,
    to_bool,
    to_duration,
    to_int,
    to_labels,
    to_mapping,
    to_max_items,
    to_text,
    to_texts,
    to_trigger,
    to_when,
)
from headrace.authoring.kinds import PYTHON_EXECUTORS
from headrace.core.durations import DURATION_MAX
from headrace.core.retry import ATTEMPTS_MAX
from headrace.core.schedules import OVERLAPS
from headrace.core.spec import (
    LABELS_RESERVED,
    MAP_ITEMS_MAX_DEFAULT,
    MAP_ITEMS_MAX_LIMIT,
    PREFER_SECONDS_DEFAULT,
    PREFER_SECONDS_MAX,
    Backoff,
    Jitter,
    ParamType,
    TriggerRule,
)
from headrace.core.validate import LABELS_MAX, NAME_CHARS_MAX, PRIORITY_MAX

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
BOOL: Schema = {"type": "boolean"}
NULL: Schema = {"type": "null"}
COUNT: Schema = {"type": "integer", "minimum": 1}
TEXTS: Schema = {"anyOf": [TEXT, {"type": "array", "items": TEXT}]}


def or_null(schema: Schema) -> Schema:
    """The same, or nothing: a key without a value is a key that was not given."""
    return {"anyOf": [schema, NULL]}


def _name(characters: str) -> Schema:
    return {"type": "string", "pattern": f"^[A-Za-z_][{characters}]*$", "maxLength": NAME_CHARS_MAX}


NAME = _name("A-Za-z0-9_.-")
PARAM_NAME = _name("A-Za-z0-9_-")
NAMES: Schema = {"anyOf": [NAME, {"type": "array", "items": NAME, "uniqueItems": True}]}


def _duration(*, above_zero: bool) -> Schema:
    """Numbers in any of the forms of :func:`~headrace.core.durations.parse_duration`: units from the largest down, each
    at most once. A sum of parts over the maximum cannot be told by a pattern."""
    number = r"[0-9]+(?:\.[0-9]+)?"
    parts = "".join(rf"(?:{number}(?:e[+-]?[0-9]+)?\s*{unit}\s*)?" for unit in ("w", "d", "h", "m", "s", "ms"))
    digit = "[1-9]" if above_zero else "[0-9]"
    least: Schema = {"exclusiveMinimum": 0} if above_zero else {"minimum": 0}
    return {
        "anyOf": [
            {"type": "number", **least, "exclusiveMaximum": DURATION_MAX},
            {"type": "string", "pattern": rf"^(?=.*{digit})\s*(?:{number}|{parts})\s*$", "maxLength": 100},
        ],
        "examples": ["30s", "10m", "1h30m"],
    }


DURATION = _duration(above_zero=True)
DELAY = _duration(above_zero=False)


def _choice(*values: str) -> Schema:
    return {"enum": list(values)}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "additionalProperties": False, "properties": properties}


ATTEMPTS: Schema = {
    **COUNT,
    "maximum": ATTEMPTS_MAX,
    "description": "how many attempts, the first one included",
}
_WORD = r"[A-Za-z_][A-Za-z0-9_\u0080-\uffff]*"
FAILURE: Schema = {
    "type": "string",
    "pattern": rf"^(?:exit:[0-9]{{1,3}}(?:-[0-9]{{1,3}})?|http:[1-5](?:[0-9][0-9]|xx)|{_WORD}(?:\.{_WORD})*)$",
}
FAILURES: Schema = {"anyOf": [FAILURE, {"type": "array", "items": FAILURE}]}
RETRIES: Schema = {
    "anyOf": [
        ATTEMPTS,
        _object(
            attempts=ATTEMPTS,
            backoff=_choice(*Backoff),
            initial=DELAY,
            factor={"type": "number", "minimum": 1, "maximum": 1000},
            max_delay=DELAY,
            jitter=_choice(*Jitter),
            elapsed=or_null(DURATION),
            retry_on=FAILURES,
            give_up_on=FAILURES,
        ),
        NULL,
    ]
}
TIMEOUT: Schema = {
    "anyOf": [DURATION, _object(**dict.fromkeys(("attempt", "heartbeat", "queue", "task"), or_null(DURATION))), NULL],
}
LABELS: Schema = {
    "type": "object",
    "propertyNames": {**NAME, "not": {"pattern": "^" + re.escape(LABELS_RESERVED)}},
    "maxProperties": LABELS_MAX,
    "additionalProperties": {"type": ["string", "integer", "boolean"], "minLength": 1, "maxLength": NAME_CHARS_MAX},
}

_OF_TYPE: dict[ParamType, Schema] = {
    "str": TEXT,
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": BOOL,
    "list": {"type": "array"},
    "dict": {"type": "object"},
    "date": {"type": "string", "pattern": r"^[0-9]{4}-?(?:[0-9]{2}-?[0-9]{2}|W[0-9]{2}(?:-?[1-7])?)$"},
    "datetime": {"type": "string", "pattern": "^[0-9]{4}"},
}
_MEASURED = ("int", "float", "str", "list")
_WITHOUT_TYPE: Schema = {"not": {"required": ["type"]}}


def _typed_param(name: ParamType, schema: Schema) -> Schema:
    """What a parameter of a type may have. A default may always be null, and then a choice may be, too."""
    value = or_null(schema)
    return {
        "if": {"required": ["type"], "properties": {"type": {"const": name}}},
        "then": {"properties": {"default": value, "choices": {"items": value}}},
    }


def _only_for(keys: tuple[str, ...], types: tuple[str, ...], default: Schema) -> Schema:
    """Keys that only parameters of some types may have, be the type given or that of the default."""
    return {
        "if": {"anyOf": [{"required": [key]} for key in keys]},
        "then": {
            "anyOf": [
                {"required": ["type"], "properties": {"type": {"enum": list(types)}}},
                {**_WITHOUT_TYPE, "required": ["default"], "properties": {"default": default}},
            ]
        },
    }


PARAM: Schema = {
    "anyOf": [
        {"enum": list(get_args(ParamType)), "description": "the type of a required parameter"},
        {
            **_object(
                type=_choice(*PARAM_TYPES),
                default={},
                description=TEXT,
                choices={"type": "array"},
                min={"type": "number"},
                max={"type": "number"},
                pattern={**TEXT, "format": "regex"},
            ),
            "allOf": [
                *(_typed_param(name, schema) for name, schema in _OF_TYPE.items()),
                _only_for(("min", "max"), _MEASURED, {"type": ["number", "string", "array"]}),
                _only_for(("pattern",), ("str",), TEXT),
            ],
        },
        {"type": ["string", "number", "boolean", "array", "null"], "description": "the default"},
    ]
}

MAP: Schema = {
    "anyOf": [
        {"type": ["array", "object"]},
        {"type": "string", "pattern": r"^\{\{[\s\S]*\}\}$", "description": "one expression, and nothing around it"},
    ]
}

WHEN: Schema = {"anyOf": [BOOL, {"type": "string", "pattern": r"\S"}]}
PREFERENCE: Schema = {
    "anyOf": [
        {**part, "maximum": PREFER_SECONDS_MAX} if part["type"] == "number" else part for part in DURATION["anyOf"]
    ]
}

_GIVEN: Schema = {"not": NULL}


def _given(key: str, schema: Schema = _GIVEN) -> Schema:
    return {"required": [key], "properties": {key: schema}}


RETRIES_OFF: Schema = {"type": ["object", "null"], "properties": {"attempts": {"const": 1}}}

TASK_RULES: list[Schema] = [
    {"if": _given("max_parallel"), "then": {"required": ["map"]}},
    {
        "if": _given("prefer_for"),
        "then": {"anyOf": [_given("sticky", {"const": True}), _given("prefer_labels", {"minProperties": 1})]},
    },
    {
        "if": _given("at_most_once", {"const": True}),
        "then": {"properties": {"retries": {"anyOf": [{"const": 1}, RETRIES_OFF]}}},
    },
    {"if": {"required": ["http"]}, "then": {"properties": {"with": {"maxProperties": 0}}}},
]
"""What keys of a task ask of each other, in words of JSON Schema."""


class Field(msgspec.Struct, frozen=True):
    """One key. ``attribute`` is where its value goes in the specification; ``read`` converts it, None means that the
    shaper treats it by name. A null value means "not given" unless ``read`` is None."""

    doc: str
    schema: Schema
    attribute: str = ""
    read: Callable[[object], Any] | None = None


TASK_FIELDS: dict[str, Field] = {
    "id": Field("the task's id, where tasks are a list", NAME),
    "description": Field("what the task is for", TEXT, "description", to_text),
    "needs": Field("tasks that come before it; those its templates refer to are added", NAMES, "needs", to_texts),
    "trigger": Field(
        "when it runs, given how the tasks it needs have ended", _choice(*TriggerRule), "trigger", to_trigger
    ),
    "when": Field("a condition; the task is skipped if it is false", WHEN, "when", to_when),
    "map": Field("a list: the task runs once per item, as {{ item }}", MAP, "map"),
    "with": Field("arguments of a function, or values for a command", {"type": "object"}, "args", to_mapping),
    "max_parallel": Field("how many items run at once", COUNT, "max_parallel", to_int),
    "max_items": Field(
        f"the longest list to map over (default {MAP_ITEMS_MAX_DEFAULT:,})",
        {**COUNT, "maximum": MAP_ITEMS_MAX_LIMIT},
        "max_items",
        to_max_items,
    ),
    "retries": Field("how failed attempts are tried again", RETRIES, "retries"),
    "timeout": Field(
        "how long an attempt, the gap between its heartbeats, the wait for a slot, or the whole task may take",
        TIMEOUT,
        "timeouts",
    ),
    "executor": Field("where the attempt runs", {**TEXT, "examples": list(PYTHON_EXECUTORS)}, "executor", to_text),
    "queue": Field("which nodes and workers may run it: those that serve this queue", NAME, "queue", to_text),
    "needs_labels": Field(
        "labels that such a node or worker must have",
        LABELS,
        "needs_labels",
        to_labels,
    ),
    "sticky": Field(
        "prefer the process that carried out the task before it, for the sake of what that has at hand",
        BOOL,
        "sticky",
        to_bool,
    ),
    "prefer_labels": Field(
        "labels that a node or worker should have rather than not",
        LABELS,
        "prefer_labels",
        to_labels,
    ),
    "prefer_for": Field(
        f"how long to wait for one that is preferred before any other gets it (default {PREFER_SECONDS_DEFAULT:g}s)",
        PREFERENCE,
        "prefer_for",
        to_duration,
    ),
    "priority": Field(
        "higher goes first", {"type": "integer", "minimum": -PRIORITY_MAX, "maximum": PRIORITY_MAX}, "priority", to_int
    ),
    "at_most_once": Field("never run it again, even if it was lost", BOOL, "at_most_once", to_bool),
    "allow_failure": Field("the run may succeed although this task failed", BOOL, "allow_failure", to_bool),
    "tags": Field("words to find it by", TEXTS, "tags", to_texts),
}

DEFAULT_FIELDS: dict[str, Field] = {
    "retries": Field("retries of every task that does not say otherwise (not of at_most_once tasks)", RETRIES),
    "timeout": Field("timeouts of every task that does not say otherwise", TIMEOUT),
    "executor": Field(
        "executor of Python tasks that do not name one", {"enum": list(PYTHON_EXECUTORS)}, "executor", to_text
    ),
    "max_parallel": Field("max_parallel of mapped tasks that do not set it", COUNT, "max_parallel", to_int),
}

_TIME: Schema = {**TEXT, "examples": ["2026-12-01T08:00", "2026-12-01T08:00:00+01:00"]}
SCHEDULE_FIELDS: dict[str, Schema] = {
    "cron": {**TEXTS, "description": "cron expressions", "examples": ["0 3 * * *", "@daily"]},
    "every": {**DURATION, "description": "so often"},
    "at": {"anyOf": [_TIME, {"type": "array", "items": _TIME}], "description": "single times"},
    "zone": {**TEXT, "description": "an IANA time zone (default: UTC)", "examples": ["Europe/Berlin"]},
    "params": {"type": "object", "description": "the runs' parameters; templates may name schedule.time"},
    "tags": {"type": "object", "additionalProperties": TEXT, "description": "the runs' tags"},
    "start": {**_TIME, "description": "not before"},
    "end": {**_TIME, "description": "not after"},
    "jitter": {**DURATION, "description": "each fire time is put off by a part of this"},
    "overlap": {**_choice(*OVERLAPS), "description": "what happens while a run goes on (default: skip)"},
    "catch_up": {**DURATION, "description": "how late a fire time may start its run (default: 1d)"},
    "limit": {**COUNT, "description": "so many runs, and no more"},
    "note": {**TEXT, "description": "what it is for"},
}
SCHEDULE: Schema = {
    "anyOf": [
        {**TEXT, "description": "a cron expression"},
        {"type": "object", "additionalProperties": False, "properties": SCHEDULE_FIELDS},
    ]
}

TOP_FIELDS: dict[str, Field] = {
    "name": Field("the workflow's name (default: the file's name)", NAME, "name", to_text),
    "description": Field("what the workflow is for", TEXT, "description", to_text),
    "tags": Field("words to find it by", TEXTS, "tags", to_texts),
    "params": Field(
        "its parameters",
        or_null({"type": "object", "propertyNames": PARAM_NAME, "additionalProperties": PARAM}),
    ),
    "defaults": Field("what tasks have unless they say otherwise", {}),
    "max_parallel": Field("how many attempts of one run are under way at once", COUNT, "max_parallel", to_int),
    "timeout": Field("how long a run may take", DURATION, "timeout", to_duration),
    "output": Field("a template for the run's result", {}, "output"),
    "tasks": Field("the tasks: a mapping from id to task, or a list of tasks with an id", {}),
    "schedules": Field(
        "when a node that serves this file runs it by itself: a mapping from a name to a cron expression or a schedule",
        {"type": "object", "additionalProperties": SCHEDULE},
    ),
}

SCHEDULE_SYNONYMS: dict[str, str] = {
    **dict.fromkeys(("schedule", "expression"), "cron"),
    **dict.fromkeys(("interval", "period"), "every"),
    **dict.fromkeys(("timezone", "time_zone", "tz"), "zone"),
    **dict.fromkeys(("catchup", "catchup_window", "catch_up_window"), "catch_up"),
    **dict.fromkeys(("overlap_policy", "concurrency_policy", "policy"), "overlap"),
    **dict.fromkeys(("with", "args", "inputs"), "params"),
}
"""What keys of a schedule are called elsewhere."""

SYNONYMS: dict[str, str] = {
    **dict.fromkeys(("depends_on", "depends", "after", "dependencies", "upstream", "requires"), "needs"),
    **dict.fromkeys(("if", "condition", "only_if"), "when"),
    **dict.fromkeys(("args", "arguments", "params", "inputs", "kwargs", "env"), "with"),
    **dict.fromkeys(("foreach", "for_each", "loop", "matrix", "with_items"), "map"),
    **dict.fromkeys(("command", "cmd", "shell", "bash", "script"), "run"),
    **dict.fromkeys(("function", "callable", "uses"), "python"),
    **dict.fromkeys(("trigger_rule",), "trigger"),
    **dict.fromkeys(("continue_on_error", "ignore_errors"), "allow_failure"),
    **dict.fromkeys(("concurrency", "max_parallelism", "parallelism"), "max_parallel"),
    **dict.fromkeys(("steps", "jobs", "nodes"), "tasks"),
    **dict.fromkeys(("parameters", "vars", "variables"), "params"),
}
"""Words other systems use, and the key they stand for."""
