"""Describes the table of paths as OpenAPI 3.1: ``docs/reference/openapi.json`` is made here."""

from __future__ import annotations

import inspect
import re
from typing import Any

import msgspec

import headrace
from headrace.contracts.api import answers
from headrace.contracts.api.bounds import BODY_BYTES_MAX, PATH
from headrace.server.api.endpoint import Endpoint
from headrace.server.api.refusals import SLUGS
from headrace.server.api.table import ENDPOINTS
from headrace.server.problems import PROBLEM_JSON

_PATH_PARAMS = {
    "run": ("The run's id, or the beginning of it.", {"type": "string", "pattern": "^[0-9a-zA-Z]{1,26}$"}),
    "name": ("As the workflow's code calls it.", {"type": "string", "minLength": 1, "maxLength": 200}),
    "workflow": ("The workflow's name.", {"type": "string", "minLength": 1, "maxLength": 200}),
}
_ALWAYS = (401, 403, 422, 500, 503)
_MEANINGS = {
    200: "Done",
    201: "Created",
    202: "Not answered yet",
    401: "The token is missing or unknown",
    403: "The token is known, and is not for this",
    404: "There is no such thing",
    409: "It does not fit what is there",
    413: "Too large",
    415: "The body is not JSON",
    422: "What was asked cannot be meant",
    500: "A defect in the server",
    503: "Try again, or ask another node",
}
"""By status; the phrases of HTTP differ between versions of Python."""
_DIRECTIVE = re.compile(r":(?:class|meth|data|mod):`~?(?:[\w.]*\.)?(\w+)`")
_WORD = re.compile("[a-z]+")


def document() -> dict[str, Any]:
    """The whole document."""
    kinds = {endpoint.answer for endpoint in ENDPOINTS} | {answers.Refused}
    kinds |= {endpoint.body for endpoint in ENDPOINTS if endpoint.body is not None}
    _, schemas = msgspec.json.schema_components(
        sorted(kinds, key=lambda kind: kind.__name__), ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, Any] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(PATH + endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Headrace",
            "version": headrace.__version__,
            "description": "Runs and workflows of a Headrace node. Durable: what is answered with 2xx is not lost.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": {name: _plain(schema) for name, schema in sorted(schemas.items())},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "One of `server.api_tokens`."}
            },
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    words = _text(inspect.getdoc(endpoint.handle) or "")
    more = f" Bodies have at most {BODY_BYTES_MAX // 2**20} MiB." if endpoint.body is not None else ""
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "description": f"{words} Role: {endpoint.role}.{more}".strip(),
        "tags": [(_WORD.search(endpoint.path) or [""])[0]],
        "parameters": _parameters(endpoint),
        "responses": _responses(endpoint),
    }
    if endpoint.body is not None:
        required = any(one.required for one in msgspec.structs.fields(endpoint.body))
        schema = {"$ref": f"#/components/schemas/{endpoint.body.__name__}"}
        operation["requestBody"] = {"required": required, "content": {"application/json": {"schema": schema}}}
    return operation


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name in re.findall(r"\{(\w+)\}", endpoint.path):
        text, schema = _PATH_PARAMS[name]
        found.append({"name": name, "in": "path", "required": True, "description": text, "schema": schema})
    described = msgspec.json.schema(endpoint.query)["$defs"][endpoint.query.__name__]
    for name, whole in described["properties"].items():
        schema = _without_null(whole)
        text = schema.pop("description", "")
        found.append({"name": name, "in": "query", "required": False, "description": text, "schema": schema})
    for name, text in endpoint.headers:
        kind = {"type": "integer", "minimum": 0, "maximum": 10**15 - 1} if name == "Last-Event-ID" else {
            "type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$",
        }  # fmt: skip
        found.append({"name": name, "in": "header", "required": False, "description": text, "schema": kind})
    return found


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter that may be left out is left out, not null."""
    if "anyOf" not in schema:
        return dict(schema)
    [kept] = [part for part in schema["anyOf"] if part != {"type": "null"}]
    return dict(kept)


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{endpoint.answer.__name__}"}
    text = {"type": "string"}
    content = {kind: {"schema": schema if kind == "application/json" else text} for kind in endpoint.media_types}
    found = {str(status): {"description": _MEANINGS[status], "content": content} for status in endpoint.statuses}
    refusals = {*endpoint.refusals, *_ALWAYS, *((413, 415) if endpoint.body is not None else ())}
    for status in sorted(refusals):
        types = ", ".join(f"`{slug}`" for slug in SLUGS[status])
        answer: dict[str, Any] = {
            "description": f"{_MEANINGS[status]}: {types}",
            "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Refused"}}},
        }
        if status == 503:
            answer["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
        found[str(status)] = answer
    return found


def _plain(schema: Any) -> Any:
    """Without the marks that only Sphinx reads."""
    if isinstance(schema, dict):
        return {
            name: _text(value) if name == "description" and isinstance(value, str) else _plain(value)
            for name, value in schema.items()
        }
    return [_plain(part) for part in schema] if isinstance(schema, list) else schema


def _text(text: str) -> str:
    return " ".join(_DIRECTIVE.sub(r"`\1`", text).replace("``", "`").split())
