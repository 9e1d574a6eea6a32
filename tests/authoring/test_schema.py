"""The editor schema: it is a schema, it takes what the reader takes, and it refuses what an editor should underline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from headrace.authoring.kinds import Kinds
from headrace.authoring.schema import workflow_schema
from headrace.authoring.yaml.load import load_yaml
from headrace.authoring.yaml.reader import read_yaml
from headrace.core.errors import InvalidDefinition

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").rglob("*.yaml"))


@pytest.fixture(scope="module")
def schema(kinds: Kinds) -> Any:
    made = workflow_schema(kinds)
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_the_examples_fit(file: Path, schema: Any, kinds: Kinds) -> None:
    assert load_yaml(file, kinds=kinds).spec.tasks
    assert [error.message for error in schema.iter_errors(read_yaml(file.read_text(), "f"))] == []


@pytest.mark.parametrize(
    "text",
    [
        "params: {a: 1, b: int, c: {type: list, default: []}, d: null, e: [1]}\ntasks: {a: {run: x}}",
        "tasks: [{id: a, run: [echo, x]}, {id: b, run: {command: x, env: {A: b}}, needs: a}]",
        "tasks: {a: {run: x, retries: 3, timeout: 5m, map: [1], tags: x}}",
        "tasks: {a: {run: x, retries: {attempts: 3, initial: 1s}, timeout: {queue: 1h}, when: true, trigger: always}}",
        'params: {n: 1}\ntasks: {a: {http: {url: "http://x", read_seconds: "{{ params.n }}"}}}',
    ],
)
def test_what_the_reader_takes_the_schema_takes(text: str, schema: Any, kinds: Kinds) -> None:
    assert load_yaml(text, kinds=kinds).spec.tasks
    assert [error.message for error in schema.iter_errors(read_yaml(text, "f"))] == []


@pytest.mark.parametrize(
    "text",
    [
        "name: x",
        "tasks: {}",
        "tasks: {a: {}}",
        "tasks: {a: {run: x, http: {url: y}}}",
        "tasks: {a: {run: {comand: x}}}",
        "tasks: {a: {run: {command: x, shell: 5}}}",
        "tasks: {a: {run: x, trigger: sometimes}}",
        "tasks: {a: {run: x, max_parallel: 0, map: [1]}}",
        "tasks: {a: {run: x, retries: {backoff: linear}}}",
        "tasks: [{run: x}]",
        "defaults: {retry: 3}\ntasks: {a: {run: x}}",
        "params: {a: {typ: int}}\ntasks: {a: {run: x}}",
    ],
)
def test_what_the_schema_refuses_the_reader_refuses(text: str, schema: Any, kinds: Kinds) -> None:
    assert list(schema.iter_errors(read_yaml(text, "f")))
    with pytest.raises(InvalidDefinition):
        load_yaml(text, kinds=kinds)
