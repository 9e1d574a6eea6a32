"""The JSON Schema (2020-12) of the YAML format, for completion and checks in editors.

Generated from the reader's own tables and from the kinds' types. What the reader takes, it takes. It is laxer where JSON
Schema has no words: a template may stand where a number will be, what refers to what is not for it, and neither are
sums (of a duration's parts) and comparisons of one value with another (a default with its minimum).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from headrace.authoring.kinds import OWN_EXECUTORS, PYTHON_EXECUTORS, Kinds
from headrace.authoring.yaml.fields import (
    DEFAULT_FIELDS,
    NAME,
    TASK_FIELDS,
    TASK_RULES,
    TOP_FIELDS,
    Field,
    Schema,
    or_null,
)
from headrace.contracts.execution import TaskKind

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_TEMPLATE: Schema = {"type": "string", "pattern": r"\{[\{%]"}


def workflow_schema(kinds: Kinds) -> Schema:
    """The schema of a workflow file whose tasks are of these kinds."""
    definitions: dict[str, Any] = {}
    task = _object(TASK_FIELDS)
    for name, kind in kinds.items():
        task["properties"][name] = _kind(kind, definitions)
    task["oneOf"] = [{"required": [name]} for name in kinds]
    task["allOf"] = [*TASK_RULES, *(_executors(name) for name in kinds if name == "python" or name in OWN_EXECUTORS)]
    definitions["task"] = task
    reference = {"$ref": "#/$defs/task"}
    listed = {"type": "array", "minItems": 1, "items": {**reference, "required": ["id"]}}
    mapped = {"type": "object", "minProperties": 1, "propertyNames": NAME, "additionalProperties": reference}
    top = _object(TOP_FIELDS)
    top["properties"]["defaults"] = {**or_null(_object(DEFAULT_FIELDS)), "description": TOP_FIELDS["defaults"].doc}
    top["properties"]["tasks"] = {"description": TOP_FIELDS["tasks"].doc, "anyOf": [mapped, listed]}
    return {"$schema": DIALECT, "title": "Headrace workflow", **top, "required": ["tasks"], "$defs": definitions}


def _object(fields: Mapping[str, Field]) -> Schema:
    properties: dict[str, Schema] = {}
    for name, field in fields.items():
        schema = field.schema if field.read is None else or_null(field.schema)
        properties[name] = {**schema, "description": field.doc}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _executors(kind: str) -> Schema:
    allowed = PYTHON_EXECUTORS if kind == "python" else (OWN_EXECUTORS[kind],)
    return {"if": {"required": [kind]}, "then": {"properties": {"executor": or_null({"enum": list(allowed)})}}}


def _kind(kind: TaskKind, definitions: dict[str, Any]) -> Schema:
    """The schema under a kind's key: its settings, or the bare value of its shorthand."""
    (reference,), components = msgspec.json.schema_components([kind.Config], ref_template="#/$defs/{name}")
    renamed = {name: f"{kind.name}.{name}" for name in components}
    for name, component in components.items():
        settings = _templated(_renamed(component, renamed))
        if name == kind.Config.__name__:
            settings["additionalProperties"] = False
        definitions[renamed[name]] = settings
    config = _renamed(reference, renamed)
    if kind.shorthand is None:
        return config
    own = definitions[renamed[kind.Config.__name__]]["properties"][kind.shorthand]
    bare = {"allOf": [own, {"not": {"type": ["object", "null"]}}]}
    return {"anyOf": [bare, config], "description": (kind.__doc__ or kind.name).strip().split("\n", 1)[0]}


_PARTS = ("anyOf", "prefixItems")
_NAMED = ("properties",)
_SINGLE = ("items", "additionalProperties")


def _templated(schema: Schema) -> Schema:
    """The schema, with a template allowed for every value inside it: what it will be is known when it is rendered."""
    changed = dict(schema)
    for key in schema:
        part: Any = schema[key]
        if key in _PARTS:
            changed[key] = [_templated(each) for each in part]
        elif key in _NAMED:
            changed[key] = {name: _or_template(each) for name, each in part.items()}
        elif key in _SINGLE and isinstance(part, dict):
            changed[key] = _or_template(cast("Schema", part))
    return changed


def _or_template(schema: Schema) -> Schema:
    inner = _templated(schema)
    return inner if inner == {"type": "string"} or not inner else {"anyOf": [inner, _TEMPLATE]}


def _renamed(schema: Any, names: Mapping[str, str]) -> Any:
    """The schema with its references pointing to the new names."""
    if isinstance(schema, dict):
        parts = cast("dict[str, Any]", schema)
        return {
            key: f"#/$defs/{names[value.removeprefix('#/$defs/')]}" if key == "$ref" else _renamed(value, names)
            for key, value in parts.items()
        }
    if isinstance(schema, list):
        return [_renamed(part, names) for part in cast("list[Any]", schema)]
    return schema
