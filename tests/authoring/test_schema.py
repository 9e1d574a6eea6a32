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
from headrace.backends.artifacts.logs import FileLogs
from headrace.backends.executors.binding import Binding
from headrace.backends.executors.inline import InlineExecutor
from headrace.backends.executors.process import ProcessExecutor
from headrace.backends.executors.thread import ThreadExecutor
from headrace.core.errors import InvalidDefinition

DURATIONS_GOOD = ("5m", "0.5", "'90'", "1.5h", "1w2d3h4m5s6ms", "' 1h 30m '", "250ms", "1e2s", "10 m")
DURATIONS_BAD = (
    "soon",
    "5x",
    "30m1h",
    "1h1h",
    "-5s",
    "''",
    "0",
    "0s",
    "'0m 0s'",
    "5m!",
    "5000000000",
    "true",
    "[1]",
    "1..5s",
)

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").rglob("*.yaml"))


@pytest.fixture(scope="module")
def schema(kinds: Kinds) -> Any:
    made = workflow_schema(kinds)
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made, format_checker=jsonschema.FormatChecker())


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_the_examples_fit(file: Path, schema: Any, kinds: Kinds) -> None:
    assert load_yaml(file, kinds=kinds).spec.tasks
    assert [error.message for error in schema.iter_errors(read_yaml(file.read_text(), "f"))] == []


def both(text: str, schema: Any, kinds: Kinds, tmp_path: Path) -> tuple[list[str], list[str]]:
    """What the schema and what ``headrace validate`` have to say about a text."""
    unfit = [error.message for error in schema.iter_errors(read_yaml(text, "f"))]
    executors = {"inline": InlineExecutor(), "thread": ThreadExecutor(2), "process": ProcessExecutor(1)}
    binding = Binding(data_dir=tmp_path, logs=FileLogs(tmp_path), executors=executors)
    try:
        for task in load_yaml(text, kinds=kinds).spec.tasks.values():
            kinds[task.kind].bind(task, binding)
    except InvalidDefinition as error:
        return unfit, [problem.message for problem in error.problems]
    return unfit, []


def of_task(*texts: str) -> list[str]:
    return [f"tasks: {{a: {{run: x, {text}}}}}" for text in texts]


def of_param(*texts: str) -> list[str]:
    return [f"params: {{p: {text}}}\ntasks: {{a: {{run: x}}}}" for text in texts]


def of_http(*texts: str) -> list[str]:
    return [f"params: {{n: 1}}\ntasks: {{a: {{http: {{{text}}}}}}}" for text in texts]


ONE = "tasks: {a: {run: x}}"

GOOD = [
    "params: {a: 1, b: int, c: {type: list, default: []}, d: null, e: [1]}\ntasks: {a: {run: x}}",
    "tasks: [{id: a, run: [echo, x]}, {id: b, run: {command: x, env: {A: b}}, needs: a}]",
    "tasks: {a: {run: x}, b: {run: x, needs: [a]}}",
    *(f"{key}:\n{ONE}" for key in ("name", "description", "tags", "params", "defaults", "max_parallel", "timeout", "output")),
    *(f"defaults: {{{key}: }}\n{ONE}" for key in ("retries", "timeout", "executor", "max_parallel")),
    "defaults: {executor: process, retries: 3, timeout: {task: 1h}, max_parallel: 2}\ntasks: {a: {run: x}}",
    *of_task("needs: ", "trigger: ", "when: ", "with: ", "max_parallel: ", "max_items: ", "retries: ", "timeout: ", "executor: "),
    *of_task("queue: ", "needs_labels: ", "sticky: ", "prefer_labels: ", "prefer_for: ", "priority: ", "at_most_once: ", "tags: "),
    *of_task("when: true", "when: 'false'", "trigger: always", "retries: 3", "retries: {attempts: 3, initial: 1s, elapsed: }"),
    *of_task("retries: {initial: 0s, max_delay: 0}", "retries: {retry_on: [OSError, 'exit:1-9', 'http:5xx', socket.timeout]}"),
    *of_task("timeout: {queue: 1h, attempt: }", *(f"timeout: {text}" for text in DURATIONS_GOOD)),
    *of_task("map: [1]", "map: {a: 1}", 'map: "{{ [1] }}"', "map: [1], max_parallel: 2", 'map: "{{ [1] }}", max_items: 5'),
    *of_task("executor: shell", "queue: gpu.a", "needs_labels: {gpu: 1, fast: true, zone: a}", "sticky: true, prefer_for: 5s"),
    *of_task("at_most_once: true", "at_most_once: true, retries: {attempts: 1}", "prefer_labels: {a: b}, prefer_for: 1h"),
    "tasks: {a: {python: 'platform:system', executor: process}}",
    *of_http("url: 'http://x', read_seconds: '{{ params.n }}'", "url: 'HTTPS://x', success: [204, 2XX, '301', '{{ params.n }}']"),
    *of_http("url: 'http://x/{{ params.n }}', method: post, params: {a: [1, x], b: null}"),
    *of_param("{type: int, default: 1, min: 0, max: 2}", "{default: 1.5, min: 0}", "{default: abc, pattern: '[a-c]+'}", "{min: 1, type: str}"),
    *of_param("{type: float, default: 1}", "{type: int, default: }", "{type: date, default: 2013-01-31}", "{choices: [a, b], type: str}"),
    *of_param("{type: datetime, default: '2013-01-31T06:00:00Z'}", "{type: bool, default: true}", "{type: dict, default: {a: 1}}", "{}"),
]  # fmt: skip

BAD = [
    "name: x",
    "tasks: {}",
    "tasks: {a: {}}",
    "tasks: {a: {run: x, http: {url: y}}}",
    "tasks: {a: {run: {comand: x}}}",
    "tasks: {a: {run: {command: x, shell: 5}}}",
    "tasks: {a: {run: ' '}}",
    "tasks: {a: {run: []}}",
    "tasks: [{run: x}]",
    *(f"tasks: {{{name}: {{run: x}}}}" for name in ("a b", "1a", "'-'", "a/b", "n" * 201)),
    *(f"name: {name}\ntasks: {{a: {{run: x}}}}" for name in ("a b", "1a", "'{a}'", "''")),
    "timeout: 0\ntasks: {a: {run: x}}",
    "max_parallel: 0\ntasks: {a: {run: x}}",
    "defaults: {retry: 3}\ntasks: {a: {run: x}}",
    "tasks: {a: {run: x}, b: {run: x, needs: [a, a]}}",
    *of_task("trigger: sometimes", "when: ' '", "needs: [1]", "needs: 'a b'", "retries: 0", "retries: 2000000", "map: ", "tags: [1]"),
    *of_task("retries: {backoff: linear}", "retries: {factor: 0.5}", "retries: {elapsed: 0}", "retries: {attempts: }", "retries: {retry_on: 'a b'}"),
    *of_task("retries: {initial: soon}", "timeout: {attempt: 0s}", *(f"timeout: {text}" for text in DURATIONS_BAD)),
    *of_task("map: text", "map: 5", "map: 'x{{ [1] }}'", "max_parallel: 2", "map: [1], max_parallel: 0", "map: [1], max_items: 0"),
    *of_task("executor: thread", "executor: nowhere", "queue: 'a b'", "needs_labels: {'a b': c}", "needs_labels: {headrace.node: a}", "priority: 1000001"),
    *of_task("needs_labels: {a: ''}", "prefer_for: 5s", "sticky: true, prefer_for: 0", "sticky: true, prefer_for: 7200", "sticky: 1"),
    *of_task("at_most_once: true, retries: 3", "at_most_once: true, retries: {attempts: 2}"),
    "tasks: {a: {python: 'platform:system', executor: nowhere}}",
    *of_http("url: 'http://x', success: [700]", "url: 'http://x', success: [7xx]", "url: 'http://x', success: 4xx", "url: 'ftp://x'"),
    *of_http("url: 'http://x', read_seconds: 0", "url: 'http://x', max_response_bytes: 0", "url: 'http://x', method: 'GO TO'"),
    "tasks: {a: {http: 'http://x', with: {a: 1}}}",
    *of_param("{typ: int}", "{type: int, default: x}", "{type: bool, default: 1}", "{type: str, default: 5}", "{type: list, default: {a: 1}}"),
    *of_param("{type: date, default: tomorrow}", "{type: int, choices: [a]}", "{type: bool, min: 1}", "{min: 1}", "{default: 5, pattern: x}"),
    *of_param("{type: int, pattern: x}", "{default: true, max: 2}", "{type: }", "{description: }", "{type: str, pattern: '('}"),
    "params: {a.b: 1}\ntasks: {a: {run: x}}",
]  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_what_the_loader_takes_the_schema_takes(text: str, schema: Any, kinds: Kinds, tmp_path: Path) -> None:
    assert both(text, schema, kinds, tmp_path) == ([], [])


@pytest.mark.parametrize("text", BAD)
def test_what_the_loader_refuses_the_schema_refuses(text: str, schema: Any, kinds: Kinds, tmp_path: Path) -> None:
    unfit, refused = both(text, schema, kinds, tmp_path)
    assert refused
    assert unfit
