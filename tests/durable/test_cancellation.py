"""Cancelling, terminating and timing out a run of code: what the code sees, what is stopped, what is cleaned up."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import Any

import pytest

from headrace import ChildFailed, InvalidCommand, TaskFailed, start_child, task, wait_for_signal, workflow
from headrace.core import inputs as inp
from headrace.durable import effects

from code_rig import CodeRig, live_timers  # isort: skip


@task
async def double(n: int) -> int:
    return 2 * n


@task(retries={"attempts": 3, "initial": 10, "jitter": "none"})
async def shaky(n: int) -> int:
    raise ValueError("not now")


@workflow
async def child(n: int) -> int:
    return await double(n)


def cancel(rig: CodeRig) -> list[Any]:
    return rig.give(inp.Cancel("enough"))


log: list[str] = []
"""Only for what a run says of itself after it was cancelled; every test clears it."""


@workflow
async def cleans_up() -> None:
    try:
        await asyncio.sleep(1e6)
    except asyncio.CancelledError:
        log.append("cancelled")
        raise
    finally:
        log.append(f"undone {await double(4)}")
        await asyncio.sleep(5)


def test_clean_up_runs_tasks_and_timers_and_the_error_comes_once() -> None:
    log.clear()
    rig = CodeRig(cleans_up)
    assert rig.again().run.diverged is None
    log.clear()
    cancel(rig)
    assert cancel(rig) == []
    assert rig.run.state == "cancelling"
    assert live_timers(rig.run) == {}
    rig.perform("double")
    rig.fire(2)
    assert rig.run.state == "cancelled"
    assert rig.run.reason == "enough"
    assert log[0] == "cancelled"
    with pytest.raises(InvalidCommand, match="cannot be cancelled: it has ended"):
        cancel(rig)


@workflow
async def swallows() -> str:
    with contextlib.suppress(asyncio.CancelledError):
        await wait_for_signal("never")
    return "went on"


def test_code_may_refuse_to_be_cancelled() -> None:
    rig = CodeRig(swallows)
    cancel(rig)
    assert (rig.run.state, rig.run.output) == ("succeeded", "went on")


@workflow
async def shielded() -> int:
    work = asyncio.create_task(double(4))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await work
        raise


def test_shielded_work_goes_on() -> None:
    rig = CodeRig(shielded)
    cancel(rig)
    assert rig.ready() == ["double"]
    rig.perform("double")
    assert rig.run.state == "cancelled"


@workflow
async def calls() -> int:
    return await double(4)


@workflow
async def calls_shaky() -> int:
    return await shaky(4)


def test_a_call_under_way_is_withdrawn() -> None:
    rig = CodeRig(calls)
    rig.give(inp.Started("double", None, 1, rig.now, "n"))
    kinds = [type(event).__name__ for event in cancel(rig)]
    assert kinds == ["RunCancelRequested", "TaskCancelled", "RunFinished"]
    assert rig.run.units["double"].state == "cancelled"
    assert rig.give(inp.Succeeded("double", None, 1, rig.now, 8)) == [], "the outcome comes too late"


def test_a_call_that_waits_for_its_next_attempt_is_withdrawn() -> None:
    rig = CodeRig(calls_shaky)
    rig.perform("shaky")
    assert rig.run.units["shaky"].state == "retrying"
    cancel(rig)
    assert rig.run.units["shaky"].state == "cancelled"
    assert rig.run.state == "cancelled"


@workflow
async def one_of_two() -> int:
    slow, quick = asyncio.create_task(double(1)), asyncio.create_task(double(2))
    done, pending = await asyncio.wait({slow, quick}, return_when=asyncio.FIRST_COMPLETED)
    for waiting in pending:
        waiting.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(1)
    return next(iter(done)).result()


def test_code_may_cancel_a_call_of_its_own() -> None:
    rig = CodeRig(one_of_two)
    rig.perform("double#2")
    assert rig.run.units["double"].state == "cancelled"
    assert rig.ready() == []
    rig.fire(1)
    assert rig.run.output == 4


@workflow
async def parent() -> Any:
    return await start_child(child, {"n": 3})


@workflow
async def patient_parent() -> str:
    handle = start_child(child, {"n": 3})
    try:
        await handle
    except asyncio.CancelledError:
        try:
            await asyncio.shield(handle)
        except ChildFailed as failed:
            return f"the child {failed.state}"
    return "?"


def test_waiting_for_a_child_passes_the_cancellation_on() -> None:
    rig = CodeRig(parent)
    cancel(rig)
    asked = [event for event in rig.events if type(event).__name__ == "MessageRequested"]
    assert [(event.kind, event.run_id) for event in asked] == [("cancel", rig.run.children["child"].run_id)]  # type: ignore[union-attr]
    assert rig.run.state == "cancelled"


def test_code_may_wait_for_its_cancelled_child() -> None:
    rig = CodeRig(patient_parent)
    cancel(rig)
    assert [type(one) for one in effects.pending(rig.run)] == [effects.StartChild, effects.SendMessage]
    rig.give(inp.MessageDone(1))
    rig.give(inp.ChildDone("child", "cancelled"))
    assert rig.run.output == "the child cancelled"


@workflow
async def looks_late() -> str:
    handle = start_child(child, {"n": 3})
    await asyncio.sleep(50)
    for _ in range(2):
        try:
            await handle
        except ChildFailed as failed:
            text = failed.state
    return text


def test_a_child_that_failed_before_anybody_waited_for_it(caplog: pytest.LogCaptureFixture) -> None:
    gc.collect()  # what earlier tests left is no news of this one
    caplog.clear()
    rig = CodeRig(looks_late)
    rig.give(inp.ChildDone("child", "failed"))
    gc.collect()
    rig.fire(1)
    assert rig.run.output == "failed"
    gc.collect()
    assert caplog.messages == [], "nobody is warned of an error that the code did hear of"


def test_terminate_runs_no_code() -> None:
    log.clear()
    rig = CodeRig(cleans_up)
    rig.give(inp.Terminate("away with it"))
    assert rig.run.state == "terminated"
    assert rig.run.failure is not None
    assert rig.run.failure.message == "away with it"
    assert "cancelled" not in log
    assert rig.again().run.diverged is None


@workflow(timeout="1h")
async def bounded() -> None:
    await asyncio.sleep(1e6)


def test_the_run_has_a_bound() -> None:
    rig = CodeRig(bounded)
    rig.give(inp.RunTimedOut(), after=3600.0)
    assert rig.run.state == "failed"
    assert rig.run.failure is not None
    assert rig.run.failure.type == "run_timeout"
    assert rig.again().run.diverged is None


@workflow
async def raises() -> None:
    await double(1)
    raise LookupError("nothing there")


@workflow
async def task_fails() -> None:
    await shaky(1)


def test_a_workflow_that_raises_fails_and_is_not_tried_again() -> None:
    rig = CodeRig(raises)
    rig.perform("double")
    assert rig.run.state == "failed"
    assert rig.run.failure is not None
    assert rig.run.failure.type == "LookupError"
    assert "test_cancellation.py" in rig.run.failure.traceback
    assert rig.run.next_run is None


def test_a_failed_task_names_itself_in_the_runs_failure() -> None:
    rig = CodeRig(task_fails)
    for _ in range(3):
        rig.now += 1000
        rig.perform("shaky")
    assert rig.run.failed_task == "shaky"
    assert rig.run.failure is not None
    assert rig.run.failure.message == "not now"


@workflow
async def catches() -> str:
    try:
        await shaky(1)
    except TaskFailed as error:
        return f"{error.task}: {error.failure.message}"  # type: ignore[attr-defined]
    return "?"


def test_code_may_catch_a_failed_task() -> None:
    rig = CodeRig(catches)
    rig.fail("shaky", "never", retryable=False)
    assert rig.run.output == "shaky: never"


@workflow
async def background() -> str:
    asyncio.create_task(cleans_up.function())  # noqa: RUF006
    await asyncio.sleep(1)
    return "done"


def test_what_is_left_in_the_background_ends_with_the_run_and_runs_no_more() -> None:
    log.clear()
    rig = CodeRig(background)
    rig.fire(2 if rig.run.timers[2][1] < rig.run.timers[1][1] else 1)
    assert rig.run.output == "done"
    before = list(log)
    from headrace.durable.looking import close

    close(rig.run)
    assert log == before, "closing must not do the clean-up's work"
