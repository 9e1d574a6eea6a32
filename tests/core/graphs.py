"""Graphs in few words, for tests."""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.core.plan import Plan
from headrace.core.spec import TaskSpec, WorkflowSpec, encode_spec, version_of
from headrace.core.validate import validate


def graph_of(tasks: dict[str, Any], **workflow: Any) -> WorkflowSpec:
    """A validated workflow. A task is a mapping of :class:`TaskSpec` fields, a list of what it needs, or None."""
    built: dict[str, Any] = {}
    for name, given in tasks.items():
        body = {"needs": given} if isinstance(given, list) else dict(given or {})
        if isinstance(body.get("when"), bool):
            body["when"] = "{{ " + str(body["when"]).lower() + " }}"
        built[name] = msgspec.convert({"id": name, "kind": "python", **body}, TaskSpec)
    workflow.setdefault("name", "story")
    spec = msgspec.convert({**workflow, "tasks": {}}, WorkflowSpec)
    return validate(msgspec.structs.replace(spec, tasks=built))


def graph(**tasks: Any) -> WorkflowSpec:
    """:func:`graph_of` with tasks as keywords."""
    return graph_of(tasks)


def plan_of(spec: WorkflowSpec) -> Plan:
    """The plan of a spec, with its real version."""
    return Plan(spec, version_of(encode_spec(spec)))
