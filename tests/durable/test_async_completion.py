"""Attempts whose outcome is told from outside, by token."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from headrace import Headrace, InvalidCommand, NotFound, RetryPolicy, RunFailed, dag, task, workflow
from headrace.contracts.token import Token, read_token, token_of
from headrace.core import events as ev
from headrace.testing import Environment

import attempt_tasks as tasks  # isort: skip
from attempt_tasks import found, history, play  # isort: skip

EXECUTORS = ["inline", "thread", "process"]


def asking(executor: str, **options: Any) -> Any:
    function = tasks.ask_a_person_inline if executor == "inline" else tasks.ask_a_person
    return function.options(executor=executor, id="ask", **options)


def code_of(ask: Any, file: Path) -> Any:
    @workflow
    async def code() -> Any:
        return await ask(str(file))

    return code


def graph_of(ask: Any, file: Path) -> Any:
    with dag("asking") as graph:
        graph.output = ask(str(file))
    return graph


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("make", [code_of, graph_of])
def test_somebody_else_completes_an_attempt(executor: str, make: Any, tmp_path: Path) -> None:
    file = tmp_path / "token"
    subject = make(asking(executor), file)

    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db", workflows=[subject]) as hr:
            run = await hr.run(subject)
            token = await found(file)
            await until_handed_over(hr, run.id)
            assert hr._node.launcher.running == 0
            await hr.complete(token, {"approved": True})
            assert await run.result() == {"approved": True}
            with pytest.raises(InvalidCommand, match="ended"):
                await hr.complete(token, {"approved": False})

    play(test)


async def until_handed_over(hr: Headrace, run_id: str) -> ev.TaskStarted:
    while True:
        for event in await history(hr, run_id):
            if isinstance(event, ev.TaskStarted) and event.external:
                return event
        await asyncio.sleep(0.002)


@pytest.mark.parametrize("make", [code_of, graph_of])
def test_an_open_attempt_survives_the_engine(make: Any, tmp_path: Path) -> None:
    file = tmp_path / "token"
    subject = make(asking("thread"), file)
    url = f"sqlite:///{tmp_path}/x.db"

    async def test() -> None:
        async with Headrace(url, workflows=[subject]) as hr:
            run = await hr.run(subject)
            token = await found(file)
            await until_handed_over(hr, run.id)
        async with Headrace(url, workflows=[subject]) as hr:
            handle = await hr.get(run.id)
            await hr.complete(token, 7)
            assert await handle.result() == 7
            started = [event for event in await history(hr, run.id) if isinstance(event, ev.TaskStarted)]
            assert sum(event.external for event in started) == 1, "it was launched again"

    play(test)


def test_another_engine_on_the_same_store_completes_it(tmp_path: Path) -> None:
    file = tmp_path / "token"
    code = code_of(asking("thread"), file)
    url = f"sqlite:///{tmp_path}/x.db"

    async def test() -> None:
        async with Headrace(url, workflows=[code]) as hr, Headrace(url, adopt=False) as other:
            run = await hr.start(code)
            token = await found(file)
            await until_handed_over(hr, run.id)
            await other.heartbeat(token, "asked her")
            with pytest.raises(InvalidCommand, match="attempt 1 is under way by now"):
                await other.complete(token_of(run.id, "ask", None, 2), 1)
            await other.complete(token, "yes")
            assert await run.result() == "yes"
            beat = next(event for event in await history(hr, run.id) if isinstance(event, ev.TaskHeartbeat))
            assert beat.details == "asked her"

    play(test)


def test_a_reported_failure_is_retried_and_the_old_token_is_refused(tmp_path: Path) -> None:
    tokens: list[str] = []

    @task(retries=RetryPolicy(attempts=3, initial=0.0))
    async def ask() -> str:
        from headrace import complete_later, current_attempt

        tokens.append(current_attempt().token)
        complete_later()

    @workflow
    async def code() -> str:
        return await ask()

    async def handed(count: int) -> None:
        while len(tokens) < count:
            await asyncio.sleep(0.002)

    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db", workflows=[code]) as hr:
            run = await hr.start(code)
            await handed(1)
            await hr.fail(tokens[0], ConnectionError("no answer"))
            await handed(2)
            with pytest.raises(InvalidCommand, match="attempt 2 is under way"):
                await hr.complete(tokens[0], "late")
            await hr.fail(tokens[1], "she said no", retryable=False)
            with pytest.raises(RunFailed, match="she said no"):
                await run.result()

    play(test)


@pytest.mark.parametrize("make", [code_of, graph_of])
@pytest.mark.parametrize(("bound", "kind"), [("attempt", "timeout"), ("heartbeat", "heartbeat_timeout")])
def test_its_bounds_count_on(make: Any, bound: str, kind: str, tmp_path: Path) -> None:
    subject = make(asking("inline", timeout={bound: 0.15}), tmp_path / "token")

    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db", workflows=[subject]) as hr:
            run = await hr.run(subject)
            with pytest.raises(RunFailed) as failed:
                await run.result()
            assert failed.value.error.type == kind  # type: ignore[union-attr]

    play(test)


def test_heartbeats_from_outside_keep_it_alive_and_reach_the_next_attempt(tmp_path: Path) -> None:
    file = tmp_path / "token"
    options = {"timeout": {"heartbeat": 300}, "retries": RetryPolicy(attempts=2, initial=0.0)}
    code = code_of(asking("inline", **options), file)

    async def test() -> None:
        async with Environment() as env:
            run = await env.start(code)
            await env.settle()
            token = file.read_text()
            for step in range(5):
                await env.advance(100)
                await env.headrace.heartbeat(token, step)
            assert await run.result() == "was at 4"  # then it fell silent, and the second attempt answered by itself

    asyncio.run(test())


@pytest.mark.parametrize("make", [code_of, graph_of])
def test_cancelling_the_run_closes_the_attempt(make: Any, tmp_path: Path) -> None:
    file = tmp_path / "token"
    subject = make(asking("inline"), file)

    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db", workflows=[subject]) as hr:
            run = await hr.run(subject)
            token = await found(file)
            await until_handed_over(hr, run.id)
            await run.cancel()
            assert (await run.wait()).state == "cancelled"
            with pytest.raises(InvalidCommand, match="cancelled"):
                await hr.complete(token, 1)

    play(test)


def test_a_large_output_goes_to_the_artifacts(tmp_path: Path) -> None:
    file = tmp_path / "token"
    graph = graph_of(asking("inline"), file)

    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db", workflows=[graph]) as hr:
            run = await hr.run(graph)
            token = await found(file)
            await hr.complete(token, "x" * 100_000)
            assert await run.result() == "x" * 100_000
            succeeded = [event for event in await history(hr, run.id) if isinstance(event, ev.TaskSucceeded)]
            assert [set(event.output) for event in succeeded] == [{"$ref", "bytes"}]

    play(test)


def test_what_is_no_token_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db") as hr:
            for wrong in ("", "hrt_", "hrt_ñ", "hrt_bm90IGpzb24", "x" * 500, token_of("R", "a", None, 1)[4:]):
                with pytest.raises(InvalidCommand, match="is not the token of an attempt"):
                    await hr.complete(wrong, 1)
            with pytest.raises(NotFound):
                await hr.complete(token_of("0" * 26, "a", None, 1), 1)

    play(test)


def test_tokens_name_any_attempt() -> None:
    for named in (Token("R", "a", None, 1), Token("R", "a/b[3]", 7, 12), Token("R", "Größe#2", None, 1)):
        token = token_of(*named)
        assert token.replace("-", "").replace("_", "").isalnum()
        assert read_token(token) == named
