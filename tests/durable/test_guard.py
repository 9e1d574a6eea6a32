"""Workflow code that computes without end: the run is suspended, the process goes on."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import threading
import time
from typing import Any

import pytest

from headrace import query, task, update, wait_for_signal, workflow
from headrace.core.errors import InvalidCommand, UpdateRejected
from headrace.durable import guard as guard_module
from headrace.durable.guard import Guard, Step, TooLong
from headrace.durable.workflow import WorkflowFunction
from headrace.testing import Environment

from code_rig import CodeRig  # isort: skip


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is of processor time: a slow machine does not make these tests fail, it makes them take longer."""
    monkeypatch.setattr(guard_module, "SECONDS_MAX", 0.2)
    monkeypatch.setattr(guard_module, "_LOOK_SECONDS", 0.05)


@task
async def double(n: int) -> int:
    return 2 * n


@workflow
async def endless() -> int:
    n = await double(1)
    while n:
        n += 1
    return n


@workflow
async def stubborn() -> None:
    n = 0
    while True:
        try:
            while True:
                n += 1
        except BaseException:
            if n > 10_000_000:
                raise


@workflow
async def endless_elsewhere() -> None:
    async def spin() -> None:
        while True:
            sorted(range(100))

    await asyncio.gather(spin(), double(1), return_exceptions=True)


@workflow
async def asked() -> None:
    @query
    def spin() -> int:
        n = 0
        while True:
            n += 1

    @query
    def fine() -> int:
        return 1

    @update
    async def change() -> None: ...

    @change.validator
    def check() -> None:
        while True:
            pass

    await wait_for_signal("go")


@pytest.mark.parametrize("code", [endless, stubborn, endless_elsewhere])
def test_an_endless_loop_suspends_the_run_and_names_its_line(code: WorkflowFunction[..., Any]) -> None:
    rig = CodeRig(code)
    if rig.run.state != "suspended":
        rig.perform("double")
    assert rig.run.state == "suspended"
    assert "without waiting for anything (at test_guard.py:" in (rig.run.reason or "")
    assert "@task function" in (rig.run.reason or "")


def test_a_query_and_a_validator_without_end_are_refused_and_the_run_goes_on() -> None:
    rig = CodeRig(asked)
    with pytest.raises(InvalidCommand, match="without waiting for anything"):
        rig.query("spin")
    assert rig.query("fine") == 1
    with pytest.raises(UpdateRejected, match="without waiting for anything"):
        rig.update("u", "change")
    rig.signal("go")
    assert rig.run.state == "succeeded"


def test_the_other_runs_of_the_engine_go_on() -> None:
    async def test() -> None:
        async with Environment() as env:
            waiting = await env.start(asked)
            stuck = await env.start(endless)
            while (await stuck.show()).state != "suspended":
                await asyncio.sleep(0.01)
            await waiting.signal("go")
            await waiting.result()

    asyncio.run(test())


HELD = threading.Lock()


@workflow
async def waits_for_a_lock() -> str:
    with HELD:
        return "got it"


def test_code_that_stands_still_is_reported_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a lock that a thread gives back when it hears of that."""
    monkeypatch.setattr(guard_module, "STILL_SECONDS", 0.1)
    reports: list[logging.LogRecord] = []

    class Hears(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            reports.append(record)
            HELD.release()

    handler = Hears()
    guard_module.logger.addHandler(handler)
    HELD.acquire()
    try:
        rig = CodeRig(waits_for_a_lock)
    finally:
        guard_module.logger.removeHandler(handler)
    assert rig.run.output == "got it"
    assert len(reports) == 1
    assert "stands still" in reports[0].getMessage()
    assert re.fullmatch(r"at test_guard\.py:\d+", reports[0].place)  # type: ignore[attr-defined]


def test_a_step_is_reported_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(guard_module, "STILL_SECONDS", 0.0)
    guard = Guard(lambda thread: "here")
    for _ in range(2):
        step = guard.enter()
        for _ in range(5):
            guard.look()
        guard.leave(step)
    places = [record.place for record in caplog.records]  # type: ignore[attr-defined]
    assert [place for place in places if place == "here"] == ["here", "here"]  # others are watched meanwhile


def test_only_what_a_step_itself_computes_counts() -> None:
    """Many steps in a row, each shorter than the bound, and a wait in between."""
    guard = Guard(lambda thread: "here")
    for _ in range(20):
        step = guard.enter()
        begun = time.thread_time()
        while time.thread_time() - begun < 0.02:
            guard.look()
        guard.leave(step)
        assert step.place is None
    step = guard.enter()
    guard.look()
    time.sleep(0.5)
    guard.look()
    guard.leave(step)
    assert step.place is None


def test_an_exception_arrives_within_its_step_or_not_at_all() -> None:
    """Steps end at just the moment at which they are ended: nothing is ever raised outside of one."""
    interval = sys.getswitchinterval()
    guards: list[Guard] = []
    under_way: list[Step] = []
    problems: list[BaseException] = []
    ended = 0
    deadline = time.monotonic() + 60

    def work() -> None:
        nonlocal ended
        try:
            guard = Guard(lambda thread: "here")
            guards.append(guard)
            number = 0
            while ended < 50 and time.monotonic() < deadline:
                number += 1
                step = guard.enter()
                try:
                    under_way[:] = [step]
                    for _ in range(number % 1_000):
                        pass
                except TooLong:
                    pass
                finally:
                    try:
                        guard.leave(step)
                    except TooLong:
                        guard.leave(step)
                ended += step.place is not None
                for _ in range(50):
                    pass
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=work)
    sys.setswitchinterval(0.00001)
    try:
        thread.start()
        while thread.is_alive():
            for step in list(under_way):
                guards[0]._end(step)
    finally:
        sys.setswitchinterval(interval)
        thread.join(60)
    assert not problems
    assert ended == 50
