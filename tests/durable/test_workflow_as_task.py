"""A graph may have a code workflow as a task: a run of its own, found again after a crash, ended with its attempt."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from headrace import Headrace, InvalidDefinition, RunFailed, add_task, dag
from headrace.testing import Environment

import workflow_tasks as wt  # isort: skip

YAML = """
name: from-yaml
params: {x: 4}
tasks:
  twice:
    workflow: workflow_tasks:doubled
    with: {x: "{{ params.x }}"}
  after:
    python: workflow_tasks:plus
    with: {x: "{{ tasks.twice.output }}"}
output: "{{ tasks.after.output }}"
"""


def test_a_graph_runs_a_code_workflow_and_uses_its_result() -> None:
    async def main() -> None:
        async with Environment() as env:
            run = await env.start_graph(wt.chain, {"x": 4})
            assert await run.result() == 11
            rows = await env.headrace.runs(where=f"tag.graph-run = '{run.id}'")
            assert [(row.workflow, row.state, row.tags["graph-task"]) for row in rows] == [
                ("doubled", "succeeded", "doubled")
            ]

    asyncio.run(main())


def test_yaml_names_it_like_a_function(tmp_path: Path) -> None:
    file = tmp_path / "graph.yaml"
    file.write_text(YAML.replace("workflow_tasks", f"{Path(wt.__file__)}"))

    async def main() -> None:
        async with Environment() as env:
            run = await env.start_graph(file, {"x": 5})
            assert await run.result() == 11

    asyncio.run(main())


def test_an_engine_that_dies_finds_the_run_again_and_starts_no_other() -> None:
    async def main() -> None:
        async with Environment("sqlite://") as env:
            run = await env.start_graph(wt.asks, {"x": 4})
            await env.settle()
            before = [row.run_id for row in await env.headrace.runs(where="workflow = 'approved'")]
            await env.crash()
            await env.settle()
            after = [row.run_id for row in await env.headrace.runs(where="workflow = 'approved'")]
            assert len(before) == 1
            assert after == before
            await env.headrace.signal(after[0], "approve", 10)
            assert await run.result() == 51

    asyncio.run(main())


def test_a_crash_at_any_point_changes_nothing() -> None:
    async def drive(env: Environment, run: Any) -> None:
        await env.advance("2h")

    async def main() -> None:
        async with Environment() as env:
            report = await env.crash_everywhere(lambda env: env.start_graph(wt.chain, {"x": 4}), drive)
            assert report.view.output == 11
            assert report.crashes > 10

    asyncio.run(main())


def test_an_engine_that_stops_leaves_the_run_and_one_that_ended_meanwhile_gives_its_result(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/headrace.db"

    async def main() -> None:
        async with Headrace(store) as headrace:
            graph = await headrace.run(wt.asks, {"x": 1})
            child = await approval(headrace)
        async with Headrace(store, execute=False) as headrace:
            await headrace.signal(child, "approve", 3)
        async with Headrace(store, workflows=[wt.asks]) as headrace:
            found = await headrace.get(graph.id)
            assert await found.result(timeout=30) == 7
            assert (await headrace.show(child)).state == "succeeded"

    asyncio.run(main())


def test_add_task_is_the_same_for_type_checkers() -> None:
    with dag("typed", params={"x": 4}) as typed:
        typed.output = add_task(wt.plus, add_task(wt.doubled, add_task(wt.plus, typed.params.x)))
    assert typed.spec.tasks == wt.chain.spec.tasks
    for wrong, why in (
        (lambda: add_task(wt.doubled, 1), "inside `with dag"),
        (lambda: add_task(len, 1), "add_task takes"),
    ):  # type: ignore[call-overload]
        with pytest.raises(TypeError, match=why):
            wrong()


def counted(headrace: Headrace) -> list[str]:
    """The runs whose rows are read from now on, one entry per read."""
    reads: list[str] = []
    store: Any = headrace.store
    read = store.run

    async def run(run_id: str) -> Any:
        reads.append(run_id)
        return await read(run_id)

    store.run = run
    return reads


def test_waiting_for_a_parked_run_asks_the_store_nothing() -> None:
    """Its end is told. The run rests for an hour, then goes on in the same process."""

    async def main() -> None:
        async with Environment() as env:
            run = await env.start_graph(wt.chain, {"x": 4})
            await env.settle()
            await env.advance("10m")
            child = (await env.headrace.runs(where="workflow = 'doubled'"))[0]
            assert env.headrace.runs_in_memory == 1  # the graph: its child is parked
            reads = counted(env.headrace)
            await env.advance("49m")
            assert reads == []
            await env.advance("2m")
            assert (await env.headrace.show(run.id)).output == 11
            assert reads.count(child.run_id) <= 1  # when it was told

    asyncio.run(main())


def test_nor_does_waiting_for_the_run_that_goes_on_in_its_place() -> None:
    async def main() -> None:
        async with Environment() as env:
            run = await env.start_graph(wt.asks_again, {"x": 1})
            await env.advance("10m")
            reads = counted(env.headrace)
            await env.advance("50m")
            assert reads == []
            await env.headrace.signal(await approval(env.headrace), "approve", 3)
            assert await run.result() == 7

    asyncio.run(main())


@pytest.mark.parametrize("graph", [wt.asks, wt.asks_again], ids=["approved", "continued"])
def test_a_run_that_ends_on_another_node_is_told_of(tmp_path: Path, graph: Any) -> None:
    """Nothing but the word wakes the graph: its node polls nothing within the time of this test."""
    store = f"sqlite:///{tmp_path}/headrace.db"

    async def main() -> None:
        async with Headrace(store, workflows=[graph], node="a", poll_seconds=3600.0) as one:
            run = await one.run(graph, {"x": 1})
            child = await approval(one)
            while (await one.row(child)).owner is not None:
                await asyncio.sleep(0.01)
            reads = counted(one)
            async with Headrace(store, workflows=[graph], node="b", adopt=False) as two:
                await two.signal(child, "approve", 3)
                assert (await one.get(run.id)).id == run.id
                assert await run.result(timeout=40) == 7
            assert reads.count(child) <= 2

    asyncio.run(main())


def test_word_that_no_longer_finds_its_graph_does_no_harm(tmp_path: Path) -> None:
    """The graph was cancelled, or nobody has it: then whoever takes it up looks for itself."""
    store = f"sqlite:///{tmp_path}/headrace.db"

    async def main() -> None:
        async with Headrace(store, workflows=[wt.asks], node="a") as one:
            run = await one.run(wt.asks, {"x": 1})
            child = await approval(one)
        async with Headrace(store, execute=False, adopt=False, node="b") as two:
            done = {"child": f"approved/{1}", "state": "succeeded", "output": 6, "failure": None}
            await two._node.commander.deliver(run.id, "child_done", done)  # type: ignore[arg-type]
            assert (await two.row(run.id)).owner is None
            assert await two.store.inbox([run.id], "b") == []  # type: ignore[arg-type,list-item]
        async with Headrace(store, workflows=[wt.asks], node="c") as three:
            await three.signal(child, "approve", 3)
            assert await (await three.get(run.id)).result(timeout=40) == 7

    asyncio.run(main())


async def approval(headrace: Headrace) -> str:
    """The run that waits for it."""
    while True:
        for row in await headrace.runs(where="workflow IN ('approved', 'continued')"):
            if row.workflow == "approved" or row.params.get("turn") == 2:
                return row.run_id
        await asyncio.sleep(0)


def test_its_failure_is_the_tasks_and_cancelling_the_graph_cancels_it() -> None:
    async def main() -> None:
        async with Environment() as env:
            run = await env.start_graph(wt.asks, {"x": -9})
            with pytest.raises(RunFailed, match=r"run_failed: run .* failed: ValueError: never"):
                await run.result()
            run = await env.start_graph(wt.asks, {"x": 1})
            await env.settle()
            await run.cancel("enough")
            await env.settle()
            rows = await env.headrace.runs(where="workflow = 'approved'")
            assert {row.params["x"]: row.state for row in rows} == {-8: "failed", 2: "cancelled"}

    asyncio.run(main())


def test_what_is_no_workflow_is_refused_before_anything_is_stored() -> None:
    def graph(target: str) -> Any:
        with dag("wrong") as d:
            d.task("a", "workflow", {"target": target}, {"x": 1})
        return d

    async def main() -> None:
        async with Environment() as env:
            with pytest.raises(InvalidDefinition, match="is no workflow"):
                await env.headrace.run(graph("headrace.core.ids:attempt_key"))
            with pytest.raises(InvalidDefinition, match="cannot be a template"):
                await env.headrace.run(graph("{{ run.id }}"))
            assert await env.headrace.runs() == []

    asyncio.run(main())
