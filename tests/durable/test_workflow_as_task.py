"""A graph may have a code workflow as a task: a run of its own, found again after a crash, ended with its attempt."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from headrace import Headrace, InvalidDefinition, RunFailed, dag
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


async def approval(headrace: Headrace) -> str:
    while not (rows := await headrace.runs(where="workflow = 'approved'")):
        await asyncio.sleep(0)
    return rows[0].run_id


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
