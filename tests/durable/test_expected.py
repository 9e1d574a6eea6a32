"""What is given in the place of a workflow, or as parameters that it does not have: said where it is given."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

from headrace import Headrace, RunFailed, continue_as_new, dag, start_child, task, workflow
from headrace.testing import Environment


@task
def pause() -> None: ...


@workflow
async def nothing() -> None: ...


@dag
def graph() -> None:
    pause()


async def undecorated() -> None: ...


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (lambda: pause, "pause is a task: call it inside of a @workflow function"),
        (lambda: undecorated, "undecorated is a function without @workflow: decorate it"),
        (nothing, "nothing has been called already: give the function and its arguments apart"),
        (lambda: None, "None is a NoneType"),
    ],
)
def test_what_is_no_workflow_is_not_started(given: Callable[[], Any], told: str) -> None:
    @workflow
    async def starts() -> None:
        start_child(given())

    async def test() -> None:
        async with Headrace("memory://") as hr:
            for start in (hr.start, hr.run):
                with pytest.raises(TypeError, match=re.escape(told)):
                    await start(given())
            with pytest.raises(RunFailed, match=rf"start_child\(\) takes a workflow, and {re.escape(told[:20])}"):
                await (await hr.start(starts)).result()
        async with Environment() as env:
            with pytest.raises(TypeError, match=re.escape(told)):
                await env.start(given())

    asyncio.run(test())


def test_graphs_and_names_are_started_by_run() -> None:
    async def test() -> None:
        async with Headrace("memory://") as hr:
            with pytest.raises(TypeError, match=r"is a graph: start it with run\(graph"):
                await hr.start(graph)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="'nothing' is a text: give the function itself"):
                await hr.start("nothing")  # type: ignore[arg-type]
            await (await hr.run(graph)).result()

    asyncio.run(test())


def test_parameters_of_what_follows_are_checked_where_they_are_given() -> None:
    @workflow
    async def again(count: int = 0) -> None:
        continue_as_new(counter=count + 1)

    @workflow
    async def starts() -> None:
        start_child(nothing, [1])  # type: ignore[call-overload]

    async def test() -> None:
        async with Headrace("memory://", workflows=[again, starts, nothing]) as hr:
            with pytest.raises(
                RunFailed, match=r"continue_as_new\(counter=...\): the workflow has no such parameter; it has: count"
            ):
                await (await hr.start(again)).result()
            with pytest.raises(RunFailed, match=r"start_child\(\) takes parameters by name, .* not a list"):
                await (await hr.start(starts)).result()

    asyncio.run(test())
