"""From text to a validated specification: short forms, defaults, and every problem at its line and column."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headrace.authoring.kinds import Kinds
from headrace.authoring.sources import load
from headrace.authoring.yaml.load import load_yaml
from headrace.core.errors import InvalidDefinition, NotFound
from headrace.core.spec import Backoff, Jitter, ParamSpec, RetryPolicy, Timeouts, TriggerRule

NIGHTLY = """
name: nightly
params:
  year: {type: int, default: 2013, description: "year to load"}
  city: str
  ratio: 0.5
  scale: {type: float, default: 1}
defaults: {timeout: 10m, retries: {attempts: 3, backoff: exponential, initial: 1s, jitter: full}, executor: process}
max_parallel: 8
timeout: 2h
output: "{{ tasks.monthly.output }}"
tasks:
  months: {python: "flights:months", with: {year: "{{ params.year }}"}}
  monthly:
    map: "{{ tasks.months.output }}"
    max_parallel: 4
    python: "flights:aggregate"
    with: {month: "{{ item }}"}
    retries: 5
    executor: thread
  publish:
    needs: monthly
    when: "{{ tasks.monthly.output | length == 12 }}"
    run: "./publish.sh {{ params.year }}"
    timeout: {queue: 1m}
    at_most_once: true
  alert: {needs: [publish], trigger: one_failed, http: {method: POST, url: "http://localhost/alert"}, tags: urgent, when: true}
"""


def test_the_short_forms(kinds: Kinds) -> None:
    spec = load_yaml(NIGHTLY, kinds=kinds).spec
    assert spec.params == {
        "year": ParamSpec(type="int", default=2013, description="year to load"),
        "city": ParamSpec(type="str"),
        "ratio": ParamSpec(type="float", default=0.5),
        "scale": ParamSpec(type="float", default=1.0),
    }
    assert (spec.max_parallel, spec.timeout, spec.output) == (8, 7200.0, "{{ tasks.monthly.output }}")
    months, monthly, publish, alert = spec.tasks.values()
    retries = RetryPolicy(attempts=3, backoff=Backoff.EXPONENTIAL, initial=1.0, jitter=Jitter.FULL)
    assert (months.kind, months.config, months.args) == (
        "python",
        {"function": "flights:months"},
        {"year": "{{ params.year }}"},
    )
    assert (months.retries, months.timeouts, months.executor) == (retries, Timeouts(attempt=600.0), "process")
    assert (monthly.needs, monthly.max_parallel, monthly.retries.attempts) == (("months",), 4, 5)
    assert monthly.executor == "thread"
    assert (publish.needs, publish.timeouts) == (("monthly",), Timeouts(attempt=600.0, queue=60.0))
    assert publish.at_most_once and publish.retries == RetryPolicy() and publish.executor is None
    assert (alert.trigger, alert.tags, alert.when) == (TriggerRule.ONE_FAILED, ("urgent",), "true")


def test_json_and_a_list_of_tasks_mean_the_same(kinds: Kinds) -> None:
    mapping = load_yaml("name: w\ntasks:\n  a: {run: x}\n  b: {run: y, needs: a}\n", kinds=kinds).spec
    listed = load_yaml("name: w\ntasks:\n- {id: a, run: x}\n- {id: b, run: y, needs: a}\n", kinds=kinds).spec
    as_json = load_yaml(
        json.dumps({"name": "w", "tasks": {"a": {"run": "x"}, "b": {"run": "y", "needs": ["a"]}}}), kinds=kinds
    ).spec
    assert mapping == listed == as_json


def test_files(kinds: Kinds, tmp_path: Path) -> None:
    file = tmp_path / "my flow.yaml"
    file.write_text("tasks:\n  a: {run: echo}\n")
    loaded = load(file, kinds=kinds)
    assert (loaded.spec.name, loaded.source, loaded.source_dir) == ("my_flow", str(file), str(tmp_path))
    assert loaded.locate(("tasks", "a", "config", "command")) == f"{file}:2:12"
    (tmp_path / "w.json").write_text('{"tasks": {"a": {"run": "x"}}}')
    assert load(tmp_path / "w.json", kinds=kinds).spec.name == "w"
    with pytest.raises(NotFound, match=r"did you mean 'my flow.yaml'"):
        load(tmp_path / "my flo.yaml", kinds=kinds)
    for wrong in (tmp_path, tmp_path / "w.txt", tmp_path / "no" / "w.yaml"):
        with pytest.raises(NotFound):
            load(wrong, kinds=kinds)


def problems(text: str | bytes, kinds: Kinds) -> list[str]:
    with pytest.raises(InvalidDefinition) as caught:
        load_yaml(text, kinds=kinds, name="f.yaml")
    return [f"{each.where} {each.message} | {each.hint}" for each in caught.value.problems]


BAD = """name: bad name
params:
  year: {type: integer, default: 2013}
  x: {typ: int}
  lim: {type: int, default: "a"}
defaults: {timeout: 10x, retry: 3}
tasks:
  a: {pythn: "x:y", needs: [b, zz]}
  b:
    python: "m:f"
    with:
      q: "{{ tasks.c.outputt }} {{ params.yeer }}"
    retries: {attempts: three}
  c: {run: {command: {}, envv: {}}, http: "x", when: "{{ a b }}"}
  d: {http: {method: GET, read_seconds: "{{ params.year }}"}, needs: [d]}
  e: {depends_on: [a], run: x}
  f: {run: "echo", needs: [g], map: [1, 2], max_parallel: 0, timeout: {attempt: -5s}, trigger: all_succes}
  g: {run: "echo {{ tasks.h.output }}"}
  h: {run: echo, needs: [g], when: "{{ item }}"}
  i: "hello"
  j: {run: echo, allow_failure: yes}
  "k k": {run: echo}
  l: {run: }
"""


def test_everything_wrong_is_reported_in_the_order_of_the_text(kinds: Kinds) -> None:
    found = problems(BAD, kinds)
    expected = [
        ("f.yaml:1:7", "not a valid workflow name"),
        ("f.yaml:3:16", "did you mean 'int'?"),
        ("f.yaml:4:7", "did you mean 'type'?"),
        ("f.yaml:5:8", "whole number"),
        ("f.yaml:6:21", "expected a duration"),
        ("f.yaml:6:26", "did you mean 'retries'?"),
        ("f.yaml:8:7", "did you mean 'python'?"),
        ("f.yaml:8:32", "unknown task 'zz'"),
        ("f.yaml:12:10", "did you mean 'output'?"),
        ("f.yaml:12:10", "did you mean 'year'?"),
        ("f.yaml:13:25", "expected a whole number, not text ('three')"),
        ("f.yaml:14:6", "a task does one thing"),
        ("f.yaml:14:22", "expected"),
        ("f.yaml:14:26", "did you mean 'env'?"),
        ("f.yaml:14:54", "cannot parse"),
        ("f.yaml:15:13", "'http' needs 'url'"),
        ("f.yaml:15:71", "needs itself"),
        ("f.yaml:16:7", "did you mean 'needs'?"),
        ("f.yaml:17:59", "at least 1"),
        ("f.yaml:17:81", "'-5s'"),
        ("f.yaml:17:96", "did you mean 'all_success'?"),
        ("f.yaml:18:6", "cycle: g -> h -> g"),
        ("f.yaml:19:36", "'item'"),
        ("f.yaml:20:6", "expected a mapping, not text ('hello')"),
        ("f.yaml:21:33", "expected true or false, not text ('yes')"),
        ("f.yaml:22:10", "not a valid task id"),
        ("f.yaml:23:12", "'run' is empty"),
    ]
    assert len(found) == len(expected), "\n".join(found)
    for problem, (place, words) in zip(found, expected, strict=True):
        assert problem.startswith(f"{place} "), (problem, place)
        assert words in problem


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        ("- a", "a workflow is a mapping, not a list"),
        ("hello", "a workflow is a mapping, not text"),
        ("name: x", "there are no tasks"),
        ("tasks:", "expected a mapping from id to task"),
        ("tasks: {}", "the workflow has no tasks"),
        ("tasks: {a: {}}", "does nothing"),
        ("tasks: {a: {run: x, id: b}}", "the id is 'a' already"),
        ("tasks: [{run: x}]", "needs an id"),
        ("tasks: [{id: a, run: x}, {id: a, run: y}]", "two tasks 'a'"),
        ("steps: {a: {run: x}}", "did you mean 'tasks'?"),
        ("tasks: {a: {run: x, retries: {retry_on: [75]}}}", 'write "exit:75" or "http:75"'),
        ("tasks: {a: {run: x, retries: {give_up_on: 404}}}", 'write "exit:404" or "http:404"'),
        ("tasks: {a: {run: x, map: }}", "expected a list"),
        ("tasks: {a: {run: x, env: {A: b}}}", "it is a setting of 'run': run: {command: ..., env: ...}"),
        ("tasks: {a: {method: POST, http: x}}", "it is a setting of 'http': http: {url: ..., method: ...}"),
        ("tasks: {a: {python: 'm:f', env: {A: b}}}", "did you mean 'with'?"),
        ("params: [a]\ntasks: {a: {run: x}}", "expected a mapping"),
        ("defaults: 5\ntasks: {a: {run: x}}", "expected a mapping"),
        ("tasks: {a: {run: x, retries: {backoff: linear}}}", "exponential"),
        ("tasks: {a: {run: x, with: [1]}}", "expected a mapping"),
        ("tasks: {a: {run: x, needs: [1]}}", "expected text"),
        ("tasks: {a: {run: x, priority: high}}", "expected a whole number"),
        ("tasks: {a: {run: x, sticky: often}}", "expected true or false"),
        ("tasks: {a: {run: x, prefer_labels: fast}}", "expected a mapping"),
        ("tasks: {a: {run: x, sticky: true, prefer_for: soon}}", "expected a duration"),
        ("tasks: {a: {run: x, prefer_for: 5s}}", "set sticky or prefer_labels"),
        ("tasks: {a: {run: x, executor: thread}}", "f.yaml:1:31 'run' tasks run on executor 'shell', not on 'thread'"),
        ("tasks: {a: {http: 'http://x', executor: shell}}", "inline, thread, process are for python tasks"),
        (
            "tasks: {a: {http: {url: 'http://x', success: 4xx}}}",
            "f.yaml:1:46 'success' of 'http': expected list, not str",
        ),
    ],
)
def test_one_thing_wrong(text: str, words: str, kinds: Kinds) -> None:
    assert words in "\n".join(problems(text, kinds))


def test_an_example_of_the_type_is_given_when_the_type_is_wrong(kinds: Kinds) -> None:
    start = "params: {n: {type: int, default: %s}}\ntasks: {a: {run: x}}"
    assert "for example" in problems(start % "x", kinds)[0]
    assert "for example" not in problems(start % "9, max: 5", kinds)[0]


def test_a_template_may_stand_where_a_number_will_be(kinds: Kinds) -> None:
    text = 'params: {n: 3}\ntasks: {a: {http: {url: "http://x/{{ params.n }}", read_seconds: "{{ params.n }}"}}}'
    assert load_yaml(text, kinds=kinds).spec.tasks["a"].config["read_seconds"] == "{{ params.n }}"
    assert "expected" in problems(text.replace('"{{ params.n }}"}', '"soon"}'), kinds)[0]


def test_many_problems_are_bounded_and_located_in_one_pass(kinds: Kinds) -> None:
    text = "tasks:\n" + "".join(f"  t{i}: {{run: x, needs: nobody}}\n" for i in range(20_000))
    found = problems(text, kinds)
    assert len(found) == 51 and "19,950 more" in found[-1]


def test_one_mistake_in_every_task_of_a_generated_file(kinds: Kinds) -> None:
    text = "tasks:\n" + "".join(f"  t{i}: {{ruin{i}: x}}\n" for i in range(20_000))
    found = problems(text, kinds)
    assert "reading stopped after 1,000 problems" in found[0]
    assert "did you mean 'run'?" in found[1]
