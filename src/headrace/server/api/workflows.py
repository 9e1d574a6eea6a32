"""Stored workflows, and definitions to check."""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.client.documents import graph_document, workflow_document
from headrace.contracts.api import answers, requests
from headrace.contracts.api.bounds import Role
from headrace.core.errors import InvalidDefinition, Problem, UserCodeError
from headrace.core.spec import ParamSpec, WorkflowSpec, decode_any_spec
from headrace.server.api.endpoint import Call, Endpoint
from headrace.server.api.refusals import mistake
from headrace.server.api.runs_read import drawn
from headrace.server.api.runs_start import text_of
from headrace.server.api.service import Api

_TYPES: dict[str, dict[str, Any]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "list": {"type": "array"},
    "dict": {"type": "object"},
    "any": {},
    "date": {"type": "string", "format": "date"},
    "datetime": {"type": "string", "format": "date-time"},
}
_BOUNDS = {
    "str": ("minLength", "maxLength"),
    "list": ("minItems", "maxItems"),
    "int": ("minimum", "maximum"),
    "float": ("minimum", "maximum"),
}


async def list_workflows(api: Api, call: Call) -> Any:
    """The latest version of each."""
    return {"workflows": [workflow_document(row) for row in await api.client.workflows()]}


async def show_workflow(api: Api, call: Call) -> Any:
    """With a JSON Schema of its params."""
    row = await api.client.workflow(call.path["workflow"])
    spec = decode_any_spec(row.data)
    is_graph = isinstance(spec, WorkflowSpec)
    return {
        "name": row.name,
        "version": row.version,
        "kind": "graph" if is_graph else "code",
        "description": spec.description,
        "tags": list(spec.tags),
        "params": params_schema(spec.params),
        "graph": graph_document(spec, None) if is_graph else None,
        "definition": msgspec.json.decode(row.data),
    }


async def draw_workflow(api: Api, call: Call) -> Any:
    """The graph of its latest version."""
    row = await api.client.workflow(call.path["workflow"])
    return drawn(decode_any_spec(row.data), None, call.query.form)


async def validate_workflow(api: Api, call: Call) -> Any:
    """Everything that a start would refuse it for; nothing is stored or started. Modules that it names are imported."""
    definition = call.body.definition
    try:
        spec = await api.client.check(text_of(definition))
    except InvalidDefinition as error:
        found = [
            Problem(one.message, path=one.path, where=_where(one, definition), hint=one.hint) for one in error.problems
        ]
        return {"ok": False, "workflow": None, "tasks": None, "problems": [mistake(one) for one in found]}
    except UserCodeError as error:
        problem = {"where": "", "message": error.message, "hint": error.hint}
        return {"ok": False, "workflow": None, "tasks": None, "problems": [problem]}
    tasks = len(spec.tasks) if isinstance(spec, WorkflowSpec) else None
    return {"ok": True, "workflow": spec.name, "tasks": tasks, "problems": []}


def _where(problem: Problem, definition: Any) -> str:
    """Line and column of a text; of an object, whose lines nobody has seen, the path."""
    return problem.where if isinstance(definition, str) else ".".join(map(str, problem.path))


def params_schema(params: dict[str, ParamSpec]) -> dict[str, Any]:
    """A JSON Schema of the object with a workflow's params."""
    return {
        "type": "object",
        "properties": {name: _param(spec) for name, spec in params.items()},
        "required": [name for name, spec in params.items() if spec.default is msgspec.UNSET],
        "additionalProperties": False,
    }


def _param(spec: ParamSpec) -> dict[str, Any]:
    schema: dict[str, Any] = dict(_TYPES[spec.type])
    for name, bound in zip(_BOUNDS.get(spec.type, ()), (spec.min, spec.max), strict=False):
        if bound is not None:
            schema[name] = bound if spec.type == "float" else int(bound)
    if spec.pattern is not None:
        schema["pattern"] = f"^(?:{spec.pattern})$"
    if spec.choices:
        schema["enum"] = list(spec.choices)
    if spec.default is None and "type" in schema:
        schema = {"anyOf": [schema, {"type": "null"}]}
    if spec.description:
        schema["description"] = spec.description
    if spec.default is not msgspec.UNSET:
        schema["default"] = spec.default
    return schema


ENDPOINTS = (
    Endpoint("GET", "/workflows", Role.VIEWER, "List stored workflows", answers.Workflows, list_workflows),
    Endpoint(
        "POST", "/workflows/validate", Role.AUTHOR, "Check a definition", answers.Validation, validate_workflow,
        body=requests.Validate,
    ),
    Endpoint(
        "GET", "/workflows/{workflow}", Role.VIEWER, "Show a stored workflow", answers.Workflow, show_workflow,
        refusals=(404,),
    ),
    Endpoint(
        "GET", "/workflows/{workflow}/graph", Role.VIEWER, "Draw a stored workflow", answers.Graph, draw_workflow,
        query=requests.Draw, refusals=(404, 409), media_types=("application/json", "text/plain"),
    ),
)  # fmt: skip
