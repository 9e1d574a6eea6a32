"""A specification as readable YAML that loads to the same specification, whatever it holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
import yaml

from headrace.authoring.kinds import BUILTIN_SHORTHANDS
from headrace.authoring.yaml.scalars import FLOAT, INT
from headrace.core.durations import format_duration
from headrace.core.spec import ParamSpec, RetryPolicy, TaskSpec, Timeouts, TriggerRule, WorkflowSpec

_DURATIONS = frozenset({"initial", "max_delay", "elapsed", "attempt", "queue", "task", "heartbeat"})


class _Dumper(yaml.SafeDumper):
    """Block style, indented lists; texts that YAML 1.2 would read as numbers are quoted, as are 1.1's."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


_unusual = re.compile(r"[\r\x85\u2028\u2029\ufeff]").search


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None
    if _unusual(text):
        style = '"'  # other styles would fold these into spaces
    elif "\n" in text.rstrip("\n") and not text[:1].isspace():
        style = "|"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


class _Flow(list[str]):
    """A short list, written on one line."""


def _flow(dumper: yaml.SafeDumper, items: _Flow) -> yaml.SequenceNode:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(_Flow, _flow)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(f"(?:{INT.pattern})$"), list("-+0123456789"))
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"(?:{FLOAT.pattern})$"), list("-+0123456789."))


def to_yaml(spec: WorkflowSpec, shorthands: Mapping[str, str | None] = BUILTIN_SHORTHANDS) -> str:
    """The workflow as YAML. ``shorthands`` names, by kind, the setting that a bare value stands for."""
    document: dict[str, Any] = {"name": spec.name}
    _put(document, spec, "description", "max_parallel")
    if spec.tags:
        document["tags"] = _Flow(spec.tags)
    if spec.timeout is not None:
        document["timeout"] = format_duration(spec.timeout)
    if spec.params:
        document["params"] = {name: _param(param) for name, param in spec.params.items()}
    if spec.output is not msgspec.UNSET:
        document["output"] = msgspec.to_builtins(spec.output)
    document["tasks"] = {id: _task(task, shorthands) for id, task in spec.tasks.items()}  # noqa: A001
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _put(target: dict[str, Any], spec: msgspec.Struct, *names: str) -> None:
    """Copy the attributes that differ from their default."""
    for field in msgspec.structs.fields(spec):
        if field.name not in names:
            continue
        value = getattr(spec, field.name)
        empty = field.default_factory is not msgspec.NODEFAULT and not value
        if value != field.default and not empty:
            target[field.name] = value


def _param(param: ParamSpec) -> dict[str, Any]:
    written: dict[str, Any] = {"type": param.type}
    for name in ("default", "description", "choices", "min", "max", "pattern"):
        value = getattr(param, name)
        if name == "default" and value is not msgspec.UNSET:
            written[name] = msgspec.to_builtins(value)
        elif name != "default" and value not in (None, "", ()):
            written[name] = list(value) if isinstance(value, tuple) else value
    return written


def _task(task: TaskSpec, shorthands: Mapping[str, str | None]) -> dict[str, Any]:
    written: dict[str, Any] = {}
    _put(written, task, "description")
    if task.needs:
        written["needs"] = _Flow(task.needs)
    if task.trigger is not TriggerRule.ALL_SUCCESS:
        written["trigger"] = str(task.trigger)
    if task.when is not None:
        written["when"] = task.when
    if task.is_mapped:
        written["map"] = msgspec.to_builtins(task.map)
    _put(written, task, "max_parallel", "max_items")
    shorthand = shorthands.get(task.kind)
    value: Any = msgspec.to_builtins(task.config)
    if shorthand is not None and task.config.keys() == {shorthand}:
        bare = task.config[shorthand]
        value = value if bare is None or isinstance(bare, dict) else value[shorthand]
    written[task.kind] = value
    if task.args:
        written["with"] = msgspec.to_builtins(task.args)
    retries = _changed(task.retries, RetryPolicy())
    if retries:
        written["retries"] = retries["attempts"] if retries.keys() == {"attempts"} else retries
    timeouts = _changed(task.timeouts, Timeouts())
    if timeouts:
        written["timeout"] = timeouts["attempt"] if timeouts.keys() == {"attempt"} else timeouts
    _put(written, task, "executor", "queue", "needs_labels", "sticky", "prefer_labels")
    if task.prefer_for is not None:
        written["prefer_for"] = format_duration(task.prefer_for)
    _put(written, task, "priority", "at_most_once", "allow_failure")
    if task.tags:
        written["tags"] = _Flow(task.tags)
    return written


def _changed(value: RetryPolicy | Timeouts, default: RetryPolicy | Timeouts) -> dict[str, Any]:
    """The fields that differ from the default, as they are written."""
    changed: dict[str, Any] = {}
    for name in value.__struct_fields__:
        field = getattr(value, name)
        if field == getattr(default, name):
            continue
        if name in _DURATIONS and field is not None:
            field = format_duration(field)
        changed[name] = list(field) if isinstance(field, tuple) else msgspec.to_builtins(field)
    return changed
