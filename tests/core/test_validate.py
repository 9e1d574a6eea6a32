"""Validation: every problem with its path, implied needs, cycles, and cost."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core.cycles import find_cycles
from headrace.core.errors import InvalidDefinition
from headrace.core.spec import ParamSpec, RetryPolicy, TaskSpec, Timeouts, WorkflowSpec
from headrace.core.validate import PROBLEMS_SHOWN_MAX, validate


def task(id: str, *needs: str, **fields: Any) -> TaskSpec:  # noqa: A002
    return TaskSpec(id=id, kind="run", needs=needs, **fields)


def workflow(*tasks: TaskSpec, **fields: Any) -> WorkflowSpec:
    return WorkflowSpec(**{"name": "w", "tasks": {each.id: each for each in tasks}, **fields})


def problems(spec: WorkflowSpec) -> list[tuple[str, str]]:
    with pytest.raises(InvalidDefinition) as caught:
        validate(spec)
    return [(".".join(map(str, each.path)), f"{each.message} {each.hint}") for each in caught.value.problems]


def one_problem(spec: WorkflowSpec) -> tuple[str, str]:
    (found,) = problems(spec)
    return found


def test_a_valid_workflow_is_returned_as_it_is() -> None:
    spec = workflow(task("a"), task("b", "a"))
    assert validate(spec) is spec


def test_references_become_needs_after_those_written_by_hand() -> None:
    spec = workflow(
        task("x"), task("y"), task("z"), task("v"),
        task("b", "z", map="{{ tasks.y.output }}", when="tasks.v.state == 'succeeded'",
             config={"command": "{{ tasks.x.output }} {{ tasks.z.output }}"}, args={"q": ["{{ tasks.x.error }}"]}),
    )  # fmt: skip
    completed = validate(spec)
    assert completed.tasks["b"].needs == ("z", "y", "v", "x")
    assert completed.tasks["x"] is spec.tasks["x"]
    assert validate(completed) is completed


@pytest.mark.parametrize(
    ("spec", "path", "words"),
    [
        (workflow(), "tasks", "no tasks"),
        (workflow(task("a"), name="a b"), "name", "workflow name"),
        (workflow(task("a"), name="x" * 201), "name", "201 characters"),
        (workflow(task("1a")), "tasks.1a", "task id"),
        (workflow(task("a", "lod"), task("load")), "tasks.a.needs.0", "did you mean 'load'?"),
        (workflow(task("a", "a")), "tasks.a.needs.0", "needs itself"),
        (workflow(task("a"), task("b", "a", "a")), "tasks.b.needs.1", "named twice"),
        (workflow(task("a"), max_parallel=0), "max_parallel", "at least 1"),
        (workflow(task("a"), timeout=0), "timeout", "greater than 0"),
        (workflow(task("a", timeouts=Timeouts(queue=-1))), "tasks.a.timeouts.queue", "greater than 0"),
        (workflow(task("a", retries=RetryPolicy(attempts=0))), "tasks.a.retries.attempts", "1 means no retry"),
        (workflow(task("a", retries=RetryPolicy(attempts=2, factor=0.5))), "tasks.a.retries.factor", "factor"),
        (workflow(task("a", retries=RetryPolicy(retry_on=("http:9xx",)))), "tasks.a.retries.retry_on.0", "http:5xx"),
        (workflow(task("a", retries=RetryPolicy(attempts=2), at_most_once=True)), "tasks.a.retries", "at_most_once"),
        (workflow(task("a", prefer_for=5.0)), "tasks.a.prefer_for", "set sticky or prefer_labels"),
        (workflow(task("a", sticky=True, prefer_for=0.0)), "tasks.a.prefer_for", "more than 0"),
        (workflow(task("a", sticky=True, prefer_for=3601.0)), "tasks.a.prefer_for", "at most 3600 s"),
        (workflow(task("a", prefer_labels={"a b": "c"})), "tasks.a.prefer_labels.a b", "not a valid label"),
        (workflow(task("a", prefer_labels={"headrace.node": "c"})), "tasks.a.prefer_labels.headrace.node", "or use sticky"),
        (workflow(task("a", needs_labels={"headrace.node": "c"})), "tasks.a.needs_labels.headrace.node", "label of your own"),
        (workflow(task("a", max_parallel=2)), "tasks.a.max_parallel", "no map"),
        (workflow(task("a", map=[1, 2], max_parallel=0)), "tasks.a.max_parallel", "at least 1"),
        (workflow(task("a", map=[1, 2, 3], max_items=2)), "tasks.a.map", "more than max_items"),
        (workflow(task("a", map=5)), "tasks.a.map", "must be a list"),
        (workflow(task("a", map="x {{ params }}")), "tasks.a.map", "always text"),
        (workflow(task("a", when="{{ a b }}")), "tasks.a.when", "cannot parse"),
        (workflow(task("a", when="x == 1")), "tasks.a.when", "unknown name 'x'"),
        (workflow(task("a", config={"c": {"d": ["{{ item }}"]}})), "tasks.a.config.c.d.0", "give the task a map"),
        (workflow(task("a", map=[1], when="item > 1")), "tasks.a.when", "evaluated once"),
        (workflow(task("a", args={"q": "{{ params.yeer }}"}), params={"year": ParamSpec()}), "tasks.a.args.q", "'year'"),
        (workflow(task("a", args={"q": "{{ run.idd }}"})), "tasks.a.args.q", "did you mean 'id'?"),
        (workflow(task("a", args={"q": "{{ tasks.b.outptu }}"}), task("b")), "tasks.a.args.q", "did you mean 'output'?"),
        (workflow(task("a", args={"q": "{{ tasks.b }}"}), task("b")), "tasks.a.args.q", "write tasks.b.output"),
        (workflow(task("a", args={"q": "{{ tasks.a.output }}"})), "tasks.a.args.q", "refers to itself"),
        (workflow(task("a", args={"q": "{{ tasks[params.x].output }}"}), params={"x": ParamSpec()}), "tasks.a.args.q", "not known"),
        (workflow(task("a"), output="{{ tasks.b.output }}"), "output", "unknown task 'b'"),
        (workflow(task("a"), params={"n": ParamSpec(type="int", default="x")}), "params.n", "whole number"),
    ],
)  # fmt: skip
def test_one_thing_wrong(spec: WorkflowSpec, path: str, words: str) -> None:
    found_path, message = one_problem(spec)
    assert found_path == path
    assert words in message


def test_an_id_with_a_dash_has_to_be_quoted_in_templates() -> None:
    found = problems(workflow(task("a-b"), task("c", args={"q": "{{ tasks.a-b.output }}"})))
    assert "tasks['a-b']" in found[0][1]
    assert validate(workflow(task("a-b"), task("c", args={"q": "{{ tasks['a-b'].output }}"}))).tasks["c"].needs == (
        "a-b",
    )


def test_everything_is_reported_and_the_report_is_bounded() -> None:
    found = problems(workflow(*(task(f"t{i}", "nobody") for i in range(200))))
    assert len(found) == PROBLEMS_SHOWN_MAX + 1
    assert "150 more" in found[-1][1]


# ---- cycles ---------------------------------------------------------------------------------------------------------


def test_every_cycle_is_reported_with_a_path() -> None:
    spec = workflow(
        task("s"), task("a", "c", "s"), task("b", "a"), task("c", "b"), task("x", "y"), task("y", "x"), task("z", "y")
    )
    found = problems(spec)
    assert [message.split(" each")[0] for _, message in found] == ["cycle: a -> b -> c -> a", "cycle: x -> y -> x"]


def test_a_cycle_that_no_start_task_reaches_and_one_made_by_templates() -> None:
    spec = workflow(task("a", args={"q": "{{ tasks.b.output }}"}), task("b", when="tasks.a.output"))
    assert "a -> b -> a" in one_problem(spec)[1]


def test_a_task_that_needs_itself_does_not_hide_a_longer_cycle() -> None:
    found = [message for _, message in problems(workflow(task("a", "a", "b"), task("b", "a")))]
    assert "needs itself" in found[0] and "a -> b -> a" in found[1]


def test_a_long_cycle_is_shown_short() -> None:
    spec = workflow(*(task(f"t{i}", f"t{(i - 1) % 50_000}") for i in range(50_000)))
    assert "(49980 more)" in one_problem(spec)[1]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=20))
def test_cycles_are_found_exactly_where_a_task_can_reach_itself(edges: list[tuple[int, int]]) -> None:
    needs: dict[str, list[str]] = {str(i): [] for i in range(8)}
    for task_number, need in edges:
        needs[str(task_number)].append(str(need))
    reach = {task: set(upstream) for task, upstream in needs.items()}
    for middle in needs:
        for start in needs:
            if middle in reach[start]:
                reach[start] |= reach[middle]
    groups = {frozenset(b for b in needs if b in reach[a] and a in reach[b]) for a in needs if a in reach[a]}
    found = find_cycles(needs)
    assert len(found) == len(groups)
    for cycle in found:
        assert len(set(cycle)) == len(cycle)
        assert all(before in needs[after] for before, after in zip(cycle, cycle[1:] + cycle[:1], strict=True))


# ---- cost -----------------------------------------------------------------------------------------------------------


def _seconds(spec: WorkflowSpec) -> float:
    started = time.process_time()
    validate(spec)
    return time.process_time() - started


def test_cost_per_task_does_not_grow_with_the_graph() -> None:
    def chain(count: int) -> WorkflowSpec:
        return workflow(
            *(task(f"t{i}", args={"x": f"{{{{ tasks.t{i - 1}.output }}}}"} if i else {}) for i in range(count))
        )

    small = min(_seconds(chain(5_000)) / 5_000 for _ in range(3))
    assert _seconds(chain(50_000)) / 50_000 < 4 * small


def test_cost_per_edge_does_not_grow_with_the_number_of_paths() -> None:
    def layered(width: int) -> WorkflowSpec:
        return workflow(
            *(
                task(f"t{layer}_{i}", *(f"t{layer - 1}_{j}" for j in range(width) if layer))
                for layer in range(100)
                for i in range(width)
            )
        )

    small = min(_seconds(layered(30)) / (99 * 30 * 30) for _ in range(3))
    assert _seconds(layered(100)) / (99 * 100 * 100) < 4 * small
