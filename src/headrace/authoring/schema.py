"""The JSON Schema (2020-12) of the YAML format, for completion and checks in editors.

Generated from the reader's own tables and from the kinds' types, so it cannot promise what the reader refuses. It is
laxer in two places on purpose: a template may stand where a number will be, and what refers to what is not for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from headrace.authoring.kinds import Kinds
from headrace.authoring.yaml.fields import DEFAULT_FIELDS, TASK_FIELDS, TOP_FIELDS, Field, Schema
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
    definitions["task"] = task
    reference = {"$ref": "#/$defs/task"}
    listed = {"type": "array", "minItems": 1, "items": {**reference, "required": ["id"]}}
    top = _object(TOP_FIELDS)
    top["properties"]["defaults"] = {**_object(DEFAULT_FIELDS), "description": TOP_FIELDS["defaults"].doc}
    top["properties"]["tasks"] = {
        "description": TOP_FIELDS["tasks"].doc,
        "anyOf": [{"type": "object", "minProperties": 1, "additionalProperties": reference}, listed],
    }
    return {"$schema": DIALECT, "title": "Headrace workflow", **top, "required": ["tasks"], "$defs": definitions}


def _object(fields: Mapping[str, Field]) -> Schema:
    properties = {name: {**field.schema, "description": field.doc} for name, field in fields.items()}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _kind(kind: TaskKind, definitions: dict[str, Any]) -> Schema:
    """The schema under a kind's key: its settings, or the bare value of its shorthand."""
    (reference,), components = msgspec.json.schema_components([kind.Config], ref_template="#/$defs/{name}")
    renamed = {name: f"{kind.name}.{name}" for name in components}
    for name, component in components.items():
        definitions[renamed[name]] = _settings(
            _renamed(component, renamed), kind if name == kind.Config.__name__ else None
        )
    config = _renamed(reference, renamed)
    if kind.shorthand is None:
        return config
    own = definitions[renamed[kind.Config.__name__]]["properties"][kind.shorthand]
    bare = {"allOf": [own, {"not": {"type": ["object", "null"]}}]}
    return {"anyOf": [bare, config], "description": (kind.__doc__ or kind.name).strip().split("\n", 1)[0]}


def _settings(component: Schema, kind: TaskKind | None) -> Schema:
    """A component whose settings may be templates; the kind's own one takes no unknown setting."""
    properties = cast("dict[str, Schema]", component.get("properties", {}))
    if kind is None or not properties:
        return component
    templated = {name: {"anyOf": [schema, _TEMPLATE]} for name, schema in properties.items()}
    return {**component, "properties": templated, "additionalProperties": False}


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
