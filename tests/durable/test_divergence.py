"""Code that no longer does what its history says: found at the first difference, reported, suspended, harmless, mended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from headrace import (
    InvalidCommand,
    deprecate_patch,
    patched,
    set_details,
    signal_run,
    start_child,
    task,
    update,
    wait_for_signal,
    workflow,
)
from headrace.core import events as ev
from headrace.core import inputs as inp
from headrace.durable.workflow import WorkflowFunction

from code_rig import CodeRig  # isort: skip

Code = Callable[[], Coroutine[Any, Any, Any]]


def version(function: Code) -> WorkflowFunction[[], Any]:
    """One version of the workflow ``order``."""
    return workflow(name="order")(function)


@task
async def reserve() -> str:
    return "reserved"


@task
async def charge() -> str:
    return "charged"


@task
async def ship() -> str:
    return "shipped"


@workflow
async def packing() -> str:
    return "packed"


async def first() -> str:
    await reserve()
    await charge()
    await asyncio.sleep(60)
    await ship()
    return "done"


def history_of(function: Code, *steps: Callable[[CodeRig], object]) -> list[bytes]:
    """What is stored after some steps of a version."""
    rig = CodeRig(version(function))
    for step in steps:
        step(rig)
    return rig.stored


def perform(step: str) -> Callable[[CodeRig], object]:
    return lambda rig: rig.perform(step)


def fire(timer: int) -> Callable[[CodeRig], object]:
    return lambda rig: rig.fire(timer)


def on(stored: list[bytes], function: Code) -> CodeRig:
    """That history, met by another version."""
    return CodeRig(version(function), stored=stored)


def line(text: str, nth: int = 1) -> str:
    """``file:line`` of the nth line of this file that has the text."""
    lines = [number for number, found in enumerate(Path(__file__).read_text().splitlines(), 1) if text in found]
    return f"test_divergence.py:{lines[nth - 1]}"


TWO_TASKS = history_of(first, perform("reserve"), perform("charge"))
TO_THE_END = history_of(first, perform("reserve"), perform("charge"), fire(1), perform("ship"))


STARTED = history_of(first, lambda rig: rig.give(inp.Started("reserve", None, 1, rig.now, "n")))


async def sleeps_first() -> str:
    await asyncio.sleep(60)  # sleeps first
    return await reserve()


async def without_charge() -> str:
    await reserve()
    await asyncio.sleep(60)  # without charge
    await ship()
    return "done"


async def with_packing_between() -> str:
    await reserve()
    await start_child(packing)  # inserted
    await charge()
    return "done"


async def other_order() -> str:
    await charge()  # other order
    await reserve()
    return "done"


async def no_timer() -> str:
    await reserve()
    await charge()
    await ship()  # no timer
    return "done"


async def ends_early() -> str:
    await reserve()
    return "early"


async def raises_early() -> str:
    await reserve()
    raise ValueError("early")


async def longer() -> str:
    await reserve()
    await charge()
    await asyncio.sleep(60)
    await ship()
    await asyncio.sleep(5)  # longer
    return "done"


@pytest.mark.parametrize(
    ("stored", "function", "expected", "actual"),
    [
        (STARTED, sleeps_first, "task.started reserve", f"timer.set 1 at {line('# sleeps first')}"),
        (TWO_TASKS, without_charge, "task.succeeded charge", f"timer.set 1 at {line('# without charge')}"),
        (TWO_TASKS, with_packing_between, "task.succeeded charge", f"at {line('# inserted')}"),
        (TWO_TASKS, other_order, "task.succeeded reserve", f"task charge ({line('# other order')})"),
        (TWO_TASKS, no_timer, "timer.set 1", f"task ship ({line('# no timer')})"),
        (TWO_TASKS, ends_early, "task.succeeded charge", "run.finished succeeded"),
        (TWO_TASKS, raises_early, "task.succeeded charge", "run.finished failed"),
        (TO_THE_END, longer, "run.finished succeeded", f"timer.set 2 at {line('# longer')}"),
    ],
)
def test_the_first_difference_is_reported(stored: list[bytes], function: Code, expected: str, actual: str) -> None:
    rig = on(stored, function)
    report = rig.run.diverged
    assert report is not None
    assert f"the history has {expected}" in report or f"goes on with {expected}" in report, report
    assert actual in report, report


async def swapped() -> str:
    await charge()  # before the other
    return await reserve()


async def no_details() -> None:
    await wait_for_signal("go")  # and no details


async def details_and_signal() -> None:
    set_details("x")
    await wait_for_signal("go")


@pytest.mark.parametrize(
    ("stored", "function", "waits", "where"),
    [
        (history_of(first, perform("reserve")), swapped, "task charge", line("# before the other")),
        (history_of(details_and_signal), no_details, "signal go", line("# and no details")),
    ],
)
def test_what_the_code_waits_for_instead_is_told_with_its_line(
    stored: list[bytes], function: Code, waits: str, where: str
) -> None:
    rig = on(stored, function)
    assert rig.run.diverged is not None
    assert rig.run.diverged.endswith(f"it waits for {waits} ({where}) after run.created")
    assert str(rig.run.diverged_at) == where


def test_steps_after_what_was_reached_may_change() -> None:
    async def changed() -> str:
        await reserve()
        await charge()
        await asyncio.sleep(60)
        await start_child(packing)
        return "packed"

    rig = on(TWO_TASKS, changed)
    assert rig.run.diverged is None
    rig.fire(1)
    rig.give(inp.ChildDone("packing", "succeeded", "packed"))
    assert rig.run.output == "packed"


def test_a_run_that_does_not_fit_is_suspended_harmless_and_goes_on_once_its_code_fits() -> None:
    rig = on(TWO_TASKS, other_order)
    rig.give(inp.Recovered())
    assert isinstance(rig.events[-1], ev.RunSuspended)
    assert rig.run.diverged is not None
    assert (rig.run.reason or "").startswith(rig.run.diverged)
    assert "hint: if the code was changed" in (rig.run.reason or "")
    assert "patched(" in (rig.run.reason or "")
    assert rig.ready() == []
    count = len(rig.events)
    assert rig.give(inp.TimerDue(1)) == [], "its timers wait"
    rig.signal("kept", 1)
    rig.give(inp.Resume())
    assert [type(event).__name__ for event in rig.events[count:]] == ["SignalReceived", "RunResumed", "RunSuspended"]
    mended = on(rig.stored, first)
    assert mended.run.diverged is None
    assert mended.run.state == "suspended"
    mended.give(inp.Resume())
    mended.fire(1)
    mended.perform("ship")
    assert mended.run.output == "done"
    assert mended.run.signals["kept"]


def test_a_run_that_does_not_fit_can_be_ended() -> None:
    rig = on(TWO_TASKS, other_order)
    rig.give(inp.Recovered())
    rig.give(inp.Terminate())
    assert rig.run.state == "terminated"
    cancelled = on(TWO_TASKS, other_order)
    cancelled.give(inp.Recovered())
    cancelled.give(inp.Cancel())
    assert cancelled.run.state == "cancelled"
    assert on(cancelled.stored, first).run.diverged is None


def test_a_suspended_run_answers_no_queries() -> None:
    rig = on(TWO_TASKS, other_order)
    with pytest.raises(InvalidCommand, match="its code does not fit its history"):
        rig.query("status")


async def with_everything() -> str:
    set_details("at work")
    await start_child(packing, parent_close="abandon")
    await signal_run("r", "hello")

    @update
    async def add(n: int) -> int:
        await wait_for_signal(f"go{n}")
        return n

    call = asyncio.create_task(charge())
    await asyncio.sleep(1)
    call.cancel()
    await wait_for_signal("end")
    return "done"


EVERYTHING = history_of(
    with_everything,
    lambda rig: rig.give(inp.ChildDone("packing", "succeeded", "packed")),
    lambda rig: rig.give(inp.MessageDone(1)),
    lambda rig: rig.update("u", "add", 3),
    lambda rig: rig.signal("go3"),
    fire(1),
    lambda rig: rig.signal("end"),
)


def test_every_event_that_answers_code_is_compared() -> None:
    """The code of another workflow meets each of these events first: none of them may pass for its own."""

    async def nothing() -> None:
        await wait_for_signal("never")

    rig = CodeRig(version(with_everything), stored=EVERYTHING)
    assert rig.run.output == "done"
    created = EVERYTHING[0]
    kinds = set()
    for number, event in enumerate(rig.events):
        name = type(event).__name__
        if name in ("RunCreated", "SignalReceived", "UpdateAccepted") or name in kinds:
            continue
        kinds.add(name)
        met = on([created, EVERYTHING[number]], nothing)
        assert met.run.diverged is not None, name
        assert "event 2" in met.run.diverged
    assert kinds >= {
        *("AttributesSet", "ChildStarted", "ChildEnded", "MessageRequested", "MessageSent", "TimerSet", "TimerFired"),
        *("TaskCancelled", "UpdateCompleted", "RunFinished"),
    }


# ---- versions of code ------------------------------------------------------------------------------------------------


async def patched_version() -> str:
    await reserve()
    if patched("no-charge"):
        await asyncio.sleep(30)
    else:
        await charge()
        await asyncio.sleep(60)
    await ship()
    return "done"


async def deprecated_version() -> str:
    await reserve()
    deprecate_patch("no-charge")
    await asyncio.sleep(30)
    await ship()
    return "done"


async def final_version() -> str:
    await reserve()
    await asyncio.sleep(30)
    await ship()
    return "done"


ANSWERS = (b'{"type":"timer.set"', b'{"type":"run.finished"')


def test_old_runs_keep_the_old_side_of_a_patch() -> None:
    for length in range(1, len(TO_THE_END) + 1):
        if any(TO_THE_END[length : length + 1][0].startswith(start) for start in ANSWERS if length < len(TO_THE_END)):
            continue  # no flush ends here
        rig = on(TO_THE_END[:length], patched_version)
        assert rig.run.diverged is None
        passed = length >= 2
        if not rig.run.done:
            for step in rig.ready():
                rig.perform(step)
        assert rig.finish() == "done"
        assert ("patched no-charge" in rig.kinds()) is not passed, f"after {length} events"


def test_new_runs_take_the_new_side_and_outlive_the_patch() -> None:
    rig = CodeRig(version(patched_version))
    rig.finish()
    assert "patched no-charge" in rig.kinds()
    assert on(rig.stored, deprecated_version).run.diverged is None
    newest = CodeRig(version(deprecated_version))
    newest.finish()
    assert "patched no-charge" not in newest.kinds()
    assert on(newest.stored, final_version).run.diverged is None
    report = on(rig.stored, final_version).run.diverged
    assert report is not None
    assert "patched no-charge" in report, "the patch was taken out too early"


async def patched_in_a_loop() -> list[bool]:
    taken: list[bool] = []
    for _ in range(3):
        await wait_for_signal("round")
        taken.append(patched("loop"))
    return taken


async def loop_without_patch() -> list[bool]:
    for _ in range(3):
        await wait_for_signal("round")
    return []


def test_a_run_keeps_its_side_of_a_patch() -> None:
    old = CodeRig(version(loop_without_patch))
    old.signal("round")
    rig = on(old.stored, patched_in_a_loop)
    for _ in range(2):
        rig.signal("round")
    assert rig.run.output == [False, False, False]
    new = CodeRig(version(patched_in_a_loop))
    for _ in range(3):
        new = on(new.stored, patched_in_a_loop)
        new.signal("round")
    assert new.run.output == [True, True, True]
