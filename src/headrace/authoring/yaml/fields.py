"""Every key of the YAML format: what it means, how it is read, and what an editor should offer.

These tables are the format's only description: the reader follows them and the JSON Schema is generated from them.
"""

from __future__ import annotations

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
from headrace.core.schedules import OVERLAPS
from headrace.core.spec import (
    MAP_ITEMS_MAX_DEFAULT,
    MAP_ITEMS_MAX_LIMIT,
    PREFER_SECONDS_DEFAULT,
    Backoff,
    Jitter,
    ParamType,
    TriggerRule,
)

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
BOOL: Schema = {"type": "boolean"}
DURATION: Schema = {
    "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^\s*\d"}],
    "examples": ["30s", "10m", "1h30m"],
}
TEXTS: Schema = {"anyOf": [TEXT, {"type": "array", "items": TEXT}]}
COUNT: Schema = {"type": "integer", "minimum": 1}
NULL: Schema = {"type": "null"}


def _choice(*values: str) -> Schema:
    return {"enum": list(values)}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "additionalProperties": False, "properties": properties}


RETRIES: Schema = {
    "anyOf": [
        {**COUNT, "description": "how many attempts, the first one included"},
        _object(
            attempts={**COUNT, "description": "how many attempts, the first one included"},
            backoff=_choice(*Backoff),
            initial=DURATION,
            factor={"type": "number", "minimum": 1},
            max_delay=DURATION,
            jitter=_choice(*Jitter),
            elapsed=DURATION,
            retry_on=TEXTS,
            give_up_on=TEXTS,
        ),
        NULL,
    ]
}
TIMEOUT: Schema = {
    "anyOf": [DURATION, _object(attempt=DURATION, heartbeat=DURATION, queue=DURATION, task=DURATION), NULL],
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
                pattern=TEXT,
            )
        },
        {"type": ["string", "number", "boolean", "array", "null"], "description": "the default"},
    ]
}


class Field(msgspec.Struct, frozen=True):
    """One key. ``attribute`` is where its value goes in the specification; ``read`` converts it, None means that the
    shaper treats it by name. A null value means "not given" unless ``read`` is None."""

    doc: str
    schema: Schema
    attribute: str = ""
    read: Callable[[object], Any] | None = None


TASK_FIELDS: dict[str, Field] = {
    "id": Field("the task's id, where tasks are a list", TEXT),
    "description": Field("what the task is for", TEXT, "description", to_text),
    "needs": Field("tasks that come before it; those its templates refer to are added", TEXTS, "needs", to_texts),
    "trigger": Field(
        "when it runs, given how the tasks it needs have ended", _choice(*TriggerRule), "trigger", to_trigger
    ),
    "when": Field("a condition; the task is skipped if it is false", {"type": ["string", "boolean"]}, "when", to_when),
    "map": Field("a list: the task runs once per item, as {{ item }}", {"type": ["string", "array", "object"]}, "map"),
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
    "executor": Field(
        "where the attempt runs", {**TEXT, "examples": ["inline", "thread", "process"]}, "executor", to_text
    ),
    "queue": Field("which nodes and workers may run it: those that serve this queue", TEXT, "queue", to_text),
    "needs_labels": Field(
        "labels that such a node or worker must have",
        {"type": "object", "additionalProperties": TEXT},
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
        {"type": "object", "additionalProperties": TEXT},
        "prefer_labels",
        to_labels,
    ),
    "prefer_for": Field(
        f"how long to wait for one that is preferred before any other gets it (default {PREFER_SECONDS_DEFAULT:g}s)",
        DURATION,
        "prefer_for",
        to_duration,
    ),
    "priority": Field("higher goes first", {"type": "integer"}, "priority", to_int),
    "at_most_once": Field("never run it again, even if it was lost", BOOL, "at_most_once", to_bool),
    "allow_failure": Field("the run may succeed although this task failed", BOOL, "allow_failure", to_bool),
    "tags": Field("words to find it by", TEXTS, "tags", to_texts),
}

DEFAULT_FIELDS: dict[str, Field] = {
    "retries": Field("retries of every task that does not say otherwise (not of at_most_once tasks)", RETRIES),
    "timeout": Field("timeouts of every task that does not say otherwise", TIMEOUT),
    "executor": Field("executor of Python tasks that do not name one", TEXT, "executor", to_text),
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
    "name": Field("the workflow's name (default: the file's name)", TEXT, "name", to_text),
    "description": Field("what the workflow is for", TEXT, "description", to_text),
    "tags": Field("words to find it by", TEXTS, "tags", to_texts),
    "params": Field("its parameters", {"type": "object", "additionalProperties": PARAM}),
    "defaults": Field("what tasks have unless they say otherwise", {"type": "object"}),
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
