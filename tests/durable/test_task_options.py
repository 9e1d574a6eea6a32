"""Tasks called from code: options per call, plain functions, and what becomes of a call that is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from headrace import (
    Headrace,
    RetryPolicy,
    RunCancelled,
    TaskFailed,
    current_attempt,
    run_task,
    task,
    wait_for_signal,
    workflow,
)
from headrace.core import events as ev
from headrace.core import inputs as inp
from headrace.core.states import TaskState
from headrace.durable import workflow as workflows
from headrace.durable.workflow import Code
from headrace.testing import Environment

from attempt_tasks import found, history, play  # isort: skip
from code_rig import CodeRig  # isort: skip


@task
def add(a: int, b: int = 1) -> int:
    return a + b


@task
async def add_later(a: int) -> int:
    return a + 1


@workflow
async def sums(count: int) -> list[int]:
    return [await run_task(add, 1), await run_task(add, 1, b=5), await run_task(add_later, 7)]


def test_plain_and_asynchronous_functions_are_awaited_alike(tmp_path: Path) -> None:
    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db", workflows=[sums]) as hr:
            assert await (await hr.start(sums, 3)).result() == [2, 6, 8]
        assert await run_task(add, 2) == 3
        assert await run_task(add_later, 2) == 3
        with pytest.raises(TypeError, match="@task"):
            run_task(len, [])  # type: ignore[call-overload]

    play(test)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sticky": "yes"}, "sticky is True or False"),
        ({"prefer_labels": "fast"}, "prefer_labels are names and values"),
        ({"prefer_labels": {"headrace.node": "w1"}}, "use sticky"),
        ({"sticky": True, "prefer_for": "soon"}, "expected a duration"),
        ({"sticky": True, "prefer_for": "2h"}, "at most 3600 s"),
    ],
)
def test_a_preference_that_cannot_be_meant_is_refused_where_it_is_written(options: dict[str, Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        task(**options)
    with pytest.raises((TypeError, ValueError), match=words):
        add.options(**options)


def test_options_in_a_loop_are_bounded_and_bound_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflows, "KNOWN_TASKS_MAX", 10)
    codes: list[Code] = []
    real = Code.__init__

    def remembered(self: Code, *given: Any) -> None:
        codes.append(self)
        real(self, *given)

    monkeypatch.setattr(Code, "__init__", remembered)

    @workflow
    async def code() -> int:
        total = 0
        for number in range(50):
            total += await add_later.options(timeout=10 + number)(number)
        return total + await run_task(add.options(executor="inline"), 0) + await run_task(add, 0)

    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db", workflows=[code]) as hr:
            run = await hr.start(code)
            assert await run.result() == sum(range(1, 51)) + 2
            assert hr._node.live == {}
        (known,) = codes
        assert len(known.tasks) <= 10
        assert sorted(place for shape in known._shapes.values() for place in shape.places.values()) == [0, 1, 2]

    play(test)


def test_the_options_of_a_call_count(tmp_path: Path) -> None:
    tries: list[int] = []

    @task
    async def flaky() -> int:
        tries.append(current_attempt().attempt)
        raise ConnectionError("no")

    @workflow
    async def code() -> list[str]:
        outcomes = []
        for options in ({"retries": RetryPolicy(attempts=3, initial=0.0), "id": "often"}, {"id": "once"}):
            try:
                await flaky.options(**options)()
            except Exception as error:
                outcomes.append(str(error))
        return outcomes

    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db", workflows=[code]) as hr:
            first, second = await (await hr.start(code)).result()
            assert "often" in first
            assert "once" in second
        assert tries == [1, 2, 3, 1]

    play(test)


def test_what_is_no_way_to_cancel_is_refused() -> None:
    with pytest.raises(TypeError, match="on_cancel is one of try, wait, abandon"):
        add.options(on_cancel="kill")  # type: ignore[typeddict-item]


# ---- cancelling a call: the brain alone --------------------------------------------------------------------------------


@task
async def slow() -> int:
    return 1


def cancelling(on_cancel: Any) -> Any:
    @workflow
    async def cancels() -> str:
        call = asyncio.ensure_future(slow.options(on_cancel=on_cancel)())
        await wait_for_signal("cancel")
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        await wait_for_signal("end")
        return "cancelled" if call.cancelled() else "done"

    return cancels


def test_try_ends_the_call_at_once() -> None:
    rig = CodeRig(cancelling("try"))
    assert [type(event) for event in rig.signal("cancel")] == [ev.SignalReceived, ev.TaskCancelled]
    assert rig.run.units["slow"].state is TaskState.CANCELLED
    rig.signal("end")
    assert rig.run.output == "cancelled"


def test_wait_goes_on_when_the_attempt_has_stopped() -> None:
    rig = CodeRig(cancelling("wait"))
    assert [type(event) for event in rig.signal("cancel")] == [ev.SignalReceived, ev.TaskCancelRequested]
    rig.signal("end")
    assert not rig.run.done, "the code went on before the attempt had ended"
    stopped = rig.give(inp.Cancelled("slow", None, 1, rig.now))
    assert [type(event) for event in stopped] == [ev.TaskCancelled, ev.RunFinished]
    assert rig.run.output == "cancelled"


def test_wait_takes_no_further_attempt_and_no_result() -> None:
    for end in ("fail", "succeed"):
        rig = CodeRig(cancelling("wait"))
        rig.signal("cancel")
        given = getattr(rig, end)("slow")
        assert type(given[0]) is (ev.TaskFailed if end == "fail" else ev.TaskSucceeded)
        rig.signal("end")
        assert rig.run.output == "cancelled"


def test_abandon_goes_on_at_once_and_takes_no_notice() -> None:
    rig = CodeRig(cancelling("abandon"))
    assert [type(event) for event in rig.signal("cancel")] == [ev.SignalReceived]
    rig.succeed("slow", 5)
    rig.signal("end")
    assert rig.run.output == "cancelled"
    assert rig.run.units["slow"].state is TaskState.SUCCEEDED


# ---- cancelling a call: attempts under way -----------------------------------------------------------------------------


@pytest.mark.parametrize("on_cancel", ["try", "wait", "abandon"])
def test_what_becomes_of_the_attempt(on_cancel: Any, tmp_path: Path) -> None:
    log: list[str] = []
    stop, cleaned = asyncio.Event(), asyncio.Event()
    if on_cancel == "wait":
        cleaned.set()

    @task(on_cancel=on_cancel)
    async def attempt() -> str:
        log.append("begun")
        try:
            await stop.wait()
        except asyncio.CancelledError:
            await cleaned.wait()  # its clean-up takes a while: longer than a run that does not wait for it
            log.append("stopped")
            raise
        log.append("ended")
        return "result"

    @workflow
    async def code() -> str:
        call = asyncio.ensure_future(attempt())
        await wait_for_signal("cancel")
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        log.append("went on")
        return "over"

    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db", workflows=[code]) as hr:
            run = await hr.start(code)
            while not log:
                await asyncio.sleep(0.002)
            await hr.signal(run.id, "cancel")
            assert await run.result() == "over"
            cleaned.set()
            if on_cancel == "abandon":
                assert hr._node.launcher.running == 1, "an abandoned attempt is let run, beyond its run's end"
                stop.set()
            while len(log) < 3:
                await asyncio.sleep(0.002)
            await hr._node.launcher.idle()
        expected = {
            "try": ["begun", "went on", "stopped"],
            "wait": ["begun", "stopped", "went on"],
            "abandon": ["begun", "went on", "ended"],
        }
        assert log == expected[on_cancel]

    play(test)


def test_waiting_for_an_attempt_that_waits_for_its_retry_ends_at_once(tmp_path: Path) -> None:
    @task(on_cancel="wait", retries=RetryPolicy(attempts=2, initial=3600.0, jitter="none"))  # type: ignore[arg-type]
    async def fails() -> None:
        raise ConnectionError("no")

    @workflow
    async def code() -> None:
        await fails()

    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db", workflows=[code]) as hr:
            run = await hr.start(code)
            while not any(isinstance(event, ev.AttemptFailed) for event in await history(hr, run.id)):
                await asyncio.sleep(0.002)
            await run.cancel()
            with pytest.raises(RunCancelled):
                await run.result()

    play(test)


def test_a_stop_that_was_asked_for_survives_the_engine(tmp_path: Path) -> None:
    """The engine ends between the wish and the stop: nobody launches the attempt again, the code goes on."""
    file = tmp_path / "begun"
    url = f"sqlite:///{tmp_path}/x.db"

    @task(on_cancel="wait")
    async def stubborn() -> None:
        with file.open("a") as out:
            out.write("x")
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            if current_attempt().attempt and (tmp_path / "give up").exists():
                return

    @workflow
    async def code() -> str:
        try:
            await stubborn()
        except asyncio.CancelledError:
            return "clean"
        return "odd"

    async def test() -> None:
        async with Headrace(url, workflows=[code]) as hr:
            hr._node.options = hr._node.options.__class__(stop_seconds=0.1, adopt=True)
            run = await hr.start(code)
            await found(file)
            await run.cancel()
            while not any(isinstance(event, ev.TaskCancelRequested) for event in await history(hr, run.id)):
                await asyncio.sleep(0.002)
        async with Headrace(url, workflows=[code]) as hr:
            assert await (await hr.get(run.id)).result() == "clean"
        assert file.read_text() == "x"
        (tmp_path / "give up").write_text("")

    play(test)


def test_every_call_of_a_task_has_its_bound() -> None:
    """Calls of one task share its function, not its bound: of each, the time is counted from when it was asked for."""

    @task
    async def other() -> None:
        await asyncio.sleep(0.01)

    @task(timeout={"task": "1h"})
    async def bounded(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    @workflow
    async def code() -> list[Any]:
        await other()  # the run's first unit has no bound
        seen: list[Any] = [await bounded(60), await bounded(50 * 60), await bounded(50 * 60)]
        try:
            await bounded(70 * 60)
        except TaskFailed as failed:
            assert failed.failure is not None
            seen.append(failed.failure.type)
        return seen

    async def test() -> None:
        async with Environment() as env:
            run = await env.start(code)
            assert await run.result() == [60, 3000, 3000, "task_timeout"]

    asyncio.run(test())  # no bound: the loop's time is virtual, and an hour of it passes in no time
