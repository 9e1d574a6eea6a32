"""Heartbeats: signs of life, details for the next attempt, and what becomes of an attempt that falls silent."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from headrace import Headrace, RetryPolicy, dag, task, workflow
from headrace.authoring.yaml.load import load_yaml
from headrace.backends.executors.kinds import load_task_kinds
from headrace.contracts.current import HEARTBEAT_BYTES_MAX, AttemptInfo, attempt_var
from headrace.core import events as ev
from headrace.core.errors import InvalidDefinition
from headrace.engine import launcher
from headrace.testing.executor_conformance import MemoryLog, make_attempt

import attempt_tasks as tasks  # isort: skip
from attempt_tasks import found, history, play  # isort: skip

AT_ONCE = RetryPolicy(attempts=2, initial=0.0)
AT_LAST = RetryPolicy(attempts=20, initial=0.0)
"""A machine that stands still for longer than a short bound ends attempts that did nothing wrong."""
EXECUTORS = ["inline", "thread", "process"]


def of(function: Any, executor: str, **options: Any) -> Any:
    return function.options(executor=executor, retries=AT_ONCE, **options)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_the_next_attempt_goes_on_where_the_last_one_was(executor: str, tmp_path: Path) -> None:
    count = of(tasks.count_inline if executor == "inline" else tasks.count, executor)
    with dag("counting") as counting:
        count(10, 6)

    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db", workflows=[counting]) as hr:
            run = await hr.run(counting)
            assert list((await run.result()).values()) == [[6, 10]]
            failed = next(event for event in await history(hr, run.id) if isinstance(event, ev.AttemptFailed))
            assert failed.details == 6

    play(test)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_an_attempt_that_falls_silent_is_tried_again(executor: str, tmp_path: Path) -> None:
    function = tasks.falls_silent_inline if executor == "inline" else tasks.falls_silent
    # A child process has to be started and to import the tests first.
    bound = 5.0 if executor == "process" else 0.1
    silent = function.options(executor=executor, retries=AT_LAST, timeout={"heartbeat": bound})
    file = tmp_path / "saw"

    @workflow
    async def code() -> str:
        return await silent(str(file))

    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db", workflows=[code]) as hr:
            run = await hr.start(code)
            failed = {}
            result = await run.result()
            for event in await history(hr, run.id):
                if isinstance(event, ev.AttemptFailed):
                    failed[event.attempt] = (event.failure.type, event.details)
            assert result == f"half way of attempt {len(failed)}"
            assert failed.pop(len(failed)) == ("heartbeat_timeout", "half way")
            assert set(failed.values()) <= {("heartbeat_timeout", None)}  # it was not quick enough to say even that
            if executor != "process":  # that one is killed
                assert await found(file) == "saw it"

    play(test)


def test_an_attempt_that_beats_outlives_its_bound(tmp_path: Path) -> None:
    with dag("beating") as beating:
        tasks.keeps_beating.options(timeout={"heartbeat": 0.1}, retries=AT_LAST)(0.4)

    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db", workflows=[beating]) as hr:
            assert await (await hr.run(beating)).result() == {"keeps_beating": "done"}

    play(test)


def test_a_command_that_writes_lives_and_a_silent_one_does_not(tmp_path: Path) -> None:
    source = """
name: commands
tasks:
  writes:
    run: for i in 1 2 3 4 5 6; do echo $i; sleep 0.1; done
    timeout: {heartbeat: 0.4}
    retries: {attempts: 20, initial: 0}
  silent:
    run: sleep 30
    timeout: {heartbeat: 0.2s}
    allow_failure: true
"""
    (tmp_path / "commands.yaml").write_text(source)

    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db") as hr:
            view = await (await hr.run(str(tmp_path / "commands.yaml"))).wait()
            assert view.tasks["writes"].state == "succeeded"
            error = view.tasks["silent"].error
            assert error is not None
            assert error.type == "heartbeat_timeout"

    play(test)


def test_details_survive_an_engine_that_ends_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "LONG_ATTEMPT_SECONDS", 0.01)
    begun: list[Any] = []

    @task
    async def slow() -> str:
        from headrace import current_attempt

        attempt = current_attempt()
        begun.append(attempt.heartbeat_details)
        if len(begun) > 1:
            return f"{attempt.heartbeat_details} in attempt {attempt.attempt}"
        attempt.heartbeat({"row": 4})
        await asyncio.Event().wait()
        return ""

    @workflow
    async def code() -> str:
        return await slow()

    async def test() -> None:
        url = f"sqlite:///{tmp_path}/x.db"
        async with Headrace(url, workflows=[code]) as hr:
            run = await hr.start(code)
            while not any(isinstance(event, ev.TaskHeartbeat) for event in await history(hr, run.id)):
                await asyncio.sleep(0.005)
        async with Headrace(url, workflows=[code]) as hr:
            assert await (await hr.get(run.id)).result() == "{'row': 4} in attempt 1"
        assert begun == [None, {"row": 4}]

    play(test)


def test_details_are_recorded_every_few_seconds_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "LONG_ATTEMPT_SECONDS", 0.01)
    monkeypatch.setattr(launcher, "HEARTBEAT_RECORD_SECONDS", 0.1)

    @task
    async def busy() -> int:
        from headrace import current_attempt

        for number in range(300):
            current_attempt().heartbeat(number)
            await asyncio.sleep(0.001)
        return 300

    with dag("busy") as graph:
        busy()

    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db", workflows=[graph]) as hr:
            begun = time.monotonic()
            run = await hr.run(graph)
            await run.result()
            took = time.monotonic() - begun  # on a busy machine 300 beats take seconds
            beats = [event for event in await history(hr, run.id) if isinstance(event, ev.TaskHeartbeat)]
            assert 1 <= len(beats) <= took / 0.1 + 2
            assert [beat.details for beat in beats] == sorted({beat.details for beat in beats})

    play(test)


def test_details_are_bounded_and_plain() -> None:
    beats: list[bytes | None] = []
    info = AttemptInfo(make_attempt(pulse=beats.append), MemoryLog())
    token = attempt_var.set(info)
    try:
        info.heartbeat("x" * (HEARTBEAT_BYTES_MAX - 2))
        with pytest.raises(ValueError, match="16,384"):
            info.heartbeat("x" * (HEARTBEAT_BYTES_MAX - 1))
        with pytest.raises(Exception, match="cannot be stored as JSON"):
            info.heartbeat(object())
        info.heartbeat()
    finally:
        attempt_var.reset(token)
    assert [beat and len(beat) for beat in beats] == [HEARTBEAT_BYTES_MAX, None]


def test_a_bound_that_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidDefinition, match="heartbeat"):
        load_yaml(b"name: x\ntasks:\n  a: {run: 'true', timeout: {heartbeat: 0}}\n", kinds=load_task_kinds())
