"""Sagas: what was done is undone, in reverse order, whatever happens meanwhile; and the ledger says so."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace import (
    PermanentError,
    RunCancelled,
    RunFailed,
    continue_as_new,
    current_attempt,
    ledger,
    query,
    saga,
    start_child,
    task,
    workflow,
)
from headrace.testing import Environment, EnvironmentRun

from code_rig import CodeRig  # isort: skip

DONE: list[str] = []
"""What the tasks did to the world, in order."""


@pytest.fixture(autouse=True)
def _nothing_done() -> Iterator[None]:
    DONE.clear()
    yield


def done() -> list[str]:
    return DONE


def did(what: str) -> str:
    DONE.append(what)
    return what


@task
async def book(what: str) -> str:
    return did(f"book {what}")


@task
async def unbook(what: str) -> str:
    return did(f"unbook {what}")


@task(retries=2)
async def unbook_twice(what: str) -> str:
    return did(f"unbook {what}")


@task(timeout="10s")
async def book_quickly(what: str) -> str:
    return did(f"book {what}")


@task
async def fail(why: str) -> None:
    raise PermanentError(why)


def play(scenario: Callable[[Environment], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        async with Environment(always_replay=True, **options) as env:
            await scenario(env)

    asyncio.run(main())


async def steps(run: EnvironmentRun, name: str = "saga") -> dict[str, str]:
    return {entry["step"]: entry["state"] for entry in (await run.show()).memo[name]["steps"]}


@workflow
async def trip(fails_at: int) -> str:
    """Books in three steps; step number ``fails_at`` fails."""

    @query
    def books() -> dict[str, Any]:
        return ledger()

    async with saga() as s:
        for number, what in enumerate(("car", "hotel", "flight"), 1):
            if number == fails_at:
                await s.step(fail(what), undo=unbook(what))
            await s.step(book(what), undo=unbook(what))
    return "booked"


def test_nothing_is_undone_when_all_goes_well() -> None:
    async def scenario(env: Environment) -> None:
        run = await env.start(trip, 0)
        assert await run.result() == "booked"
        assert done() == ["book car", "book hotel", "book flight"]
        assert await steps(run) == {"book": "done", "book#2": "done", "book#3": "done"}
        assert (await run.query("books"))["state"] == "completed"

    play(scenario)


@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_whichever_step_fails_what_was_done_is_undone_backwards(fails_at: int) -> None:
    async def scenario(env: Environment) -> None:
        run = await env.start(trip, fails_at)
        with pytest.raises(RunFailed, match="PermanentError"):
            await run.result()
        booked = ["car", "hotel", "flight"][: fails_at - 1]
        assert done() == [f"book {what}" for what in booked] + [f"unbook {what}" for what in reversed(booked)]
        found = await steps(run)
        assert found.pop("fail") == "failed"
        assert set(found.values()) <= {"undone"} and len(found) == len(booked)
        assert (await run.query("books"))["state"] == "compensated"

    play(scenario)


def test_the_engine_may_die_at_any_point_of_it() -> None:
    async def scenario(env: Environment) -> None:
        report = await env.run_with_crashes(trip, 3)
        assert report.flushes >= 6
        assert report.view.state == "failed"
        assert report.crashes >= 2 * report.flushes

    play(scenario)


def test_a_crash_after_every_flush_undoes_each_step_once() -> None:
    async def scenario(env: Environment) -> None:
        await env.crash_after_every_flush()
        run = await env.start(trip, 3)
        await run.wait()
        assert done() == ["book car", "book hotel", "unbook hotel", "unbook car"]

    play(scenario)


@workflow
async def by_result(way: str) -> None:
    async with saga() as s:
        undo: Any = {
            "function": lambda what: unbook(f"({what})"),
            "task": unbook,
            "no argument": lambda: unbook("car"),
            "defaults": lambda what="car", *, why="": unbook(what),
            "partial": functools.partial(unbook, "car"),
            "any arguments": lambda *results: unbook(results[0]),
        }[way]
        await s.step(book("car"), undo=undo, name="ride")
        await fail("enough")


@pytest.mark.parametrize(
    ("way", "undone"),
    [
        ("function", "unbook (book car)"),
        ("task", "unbook book car"),
        ("no argument", "unbook car"),
        ("defaults", "unbook car"),
        ("partial", "unbook car"),
        ("any arguments", "unbook book car"),
    ],
)
def test_an_undo_may_be_made_from_the_result(way: str, undone: str) -> None:
    async def scenario(env: Environment) -> None:
        run = await env.start(by_result, way)
        await run.wait()
        assert done() == ["book car", undone]
        assert await steps(run) == {"ride": "undone"}

    play(scenario)


@workflow
async def inner(what: str) -> str:
    return await book(what)


@workflow
async def of_children() -> None:
    async with saga() as s:
        await s.step(inner("car"), undo=unbook)
        await s.step(inner("hotel"), undo=unbook("hotel"))
        await s.step(start_child(inner, {"what": "flight"}), undo=inner("refund"))
        await fail("enough")


def test_a_step_that_is_a_child_has_the_name_of_its_workflow() -> None:
    async def scenario(env: Environment) -> None:
        run = await env.start(of_children)
        await run.wait()
        assert done()[3:] == ["book refund", "unbook hotel", "unbook book car"]
        assert await steps(run) == {"inner": "undone", "inner#2": "undone", "inner#3": "undone"}

    play(scenario)


# ---- undo steps that fail ----------------------------------------------------------------------------------------------


def test_an_undo_is_patient_where_its_task_says_nothing() -> None:
    async def scenario(env: Environment) -> None:
        env.fail(unbook, times=20, error=ConnectionError("away"))
        run = await env.start(trip, 2)
        await run.wait()
        assert done() == ["book car", "unbook car"]
        assert len(env.calls(unbook)) == 21
        assert await steps(run) == {"book": "undone", "fail": "failed"}

    play(scenario)


@workflow
async def impatient(how: str) -> None:
    async with saga(undo_retries=3) as s:
        await s.step(book("car"), undo=unbook("car"))
        await s.step(book("hotel"), undo=unbook_twice("hotel") if how == "own" else unbook("hotel"))
        await fail("enough")


@pytest.mark.parametrize(("how", "tries"), [("own", 2), ("of the saga", 3)])
def test_a_failed_undo_does_not_keep_the_others_from_being_undone(how: str, tries: int) -> None:
    async def scenario(env: Environment) -> None:
        env.fail(unbook_twice if how == "own" else unbook, times=tries, error=ConnectionError("away"))
        run = await env.start(impatient, how)
        with pytest.raises(RunFailed, match="enough"):
            await run.result()
        assert len([call for call in env.calls() if call.args == {"what": "hotel"}]) == 1 + tries
        assert done() == ["book car", "book hotel", "unbook car"]
        memo = (await run.show()).memo["saga"]
        assert memo["state"] == "undo_failed"
        assert await steps(run) == {"book": "undone", "book#2": "undo_failed"}
        assert "away" in memo["steps"][1]["error"]

    play(scenario)


@workflow
async def with_a_person() -> None:
    async with saga("trip", undo_retries=1, on_undo_failure="wait") as s:
        await s.step(book("car"), undo=unbook("car"))
        await s.step(book("hotel"), undo=unbook("hotel"), name="hotel")
        await fail("enough")


@pytest.mark.parametrize(("answer", "state"), [("retry", "undone"), ("done", "given_up")])
def test_a_person_can_settle_a_failed_undo(answer: str, state: str) -> None:
    async def scenario(env: Environment) -> None:
        env.fail(unbook, times=2, error=ConnectionError("away"))
        run = await env.start(with_a_person)
        await env.advance("30d")
        assert await steps(run, "saga:trip") == {"book": "done", "hotel": "awaits_person"}
        details = (await run.show()).details
        assert details is not None and "saga:trip:hotel" in details and "away" in details
        await run.signal("saga:trip:hotel", "perhaps")
        await env.settle()
        assert "perhaps" in (await run.show()).memo["saga:trip"]["steps"][1]["error"]
        if answer == "retry":  # it fails once more
            await run.signal("saga:trip:hotel", "retry")
            await env.settle()
            assert (await steps(run, "saga:trip"))["hotel"] == "awaits_person"
        else:
            env.stub(unbook, lambda what: did(f"unbook {what}"))
        await run.signal("saga:trip:hotel", answer)
        if answer == "done":  # then it is the car's turn, whose undo fails once
            await env.settle()
            await run.signal("saga:trip:book", "retry")
        view = await run.wait()
        assert await steps(run, "saga:trip") == {"book": "undone", "hotel": state}
        assert view.details == ""
        assert done() == ["book car", "book hotel", *(["unbook hotel"] if answer == "retry" else []), "unbook car"]

    play(scenario)


def test_waiting_for_a_person_survives_crashes() -> None:
    async def drive(env: Environment, run: EnvironmentRun) -> None:
        await run.signal("saga:trip:hotel", "done")
        await run.signal("saga:trip:book", "retry")

    async def scenario(env: Environment) -> None:
        env.stub(unbook, _away_at_first)
        report = await env.crash_everywhere(lambda env: env.start(with_a_person), drive, reset=DONE.clear)
        assert [entry["state"] for entry in report.view.memo["saga:trip"]["steps"]] == ["undone", "given_up"]

    play(scenario)


async def _away_at_first(what: str) -> None:
    if current_attempt().task != "unbook#3":  # the second time for the car
        raise ConnectionError("away")
    did(f"unbook {what}")


# ---- cancellation and time -----------------------------------------------------------------------------------------------


@workflow
async def slow_trip() -> None:
    async with saga() as s:
        await s.step(book("car"), undo=unbook("car"))
        await s.step(asyncio.sleep(86_400), name="rest")


def test_cancelling_a_run_undoes_what_was_done() -> None:
    async def scenario(env: Environment) -> None:
        env.fail(unbook, times=3, error=ConnectionError("away"))
        run = await env.start(slow_trip)
        await env.advance("1h")
        await run.cancel("changed my mind")
        await env.settle()
        assert (await steps(run))["book"] == "undoing"
        await run.cancel("really")  # cannot interrupt what undoes
        with pytest.raises(RunCancelled):
            await run.result()
        assert done() == ["book car", "unbook car"]
        assert await steps(run) == {"book": "undone", "rest": "unknown"}

    play(scenario)


@workflow
async def limited() -> str:
    try:
        async with asyncio.timeout(60), saga() as s:
            await s.step(book("car"), undo=unbook("car"))
            await asyncio.sleep(3_600)
    except TimeoutError:
        return "late"
    return "in time"


def test_a_timeout_around_a_saga_undoes_and_stays_a_timeout() -> None:
    async def scenario(env: Environment) -> None:
        assert await env.run(limited) == "late"
        assert done() == ["book car", "unbook car"]

    play(scenario)


@workflow
async def cancelled_while_undoing() -> list[str]:
    async def attempt() -> None:
        async with saga() as s:
            await s.step(book("car"), undo=lambda: patient_unbook("car"))
            raise ValueError("enough")

    async def patient_unbook(what: str) -> None:
        await asyncio.sleep(60)
        await unbook(what)

    job = asyncio.create_task(attempt())
    await asyncio.sleep(30)
    job.cancel()
    await asyncio.wait([job])
    return [str(job.cancelled()), str(asyncio.get_running_loop().time() % 3600)]


def test_a_cancellation_waits_until_all_is_undone_and_is_passed_on() -> None:
    async def scenario(env: Environment) -> None:
        assert await env.run(cancelled_while_undoing) == ["True", "60.0"]
        assert done() == ["book car", "unbook car"]

    play(scenario)


@workflow
async def unknown_outcome(needs_result: bool) -> None:
    async with saga() as s:
        if needs_result:
            await s.step(book_quickly("car"), undo=unbook)
        else:
            await s.step(book_quickly("car"), undo=unbook("car"))


@pytest.mark.parametrize(("needs_result", "state"), [(False, "undone"), (True, "unknown")])
def test_a_step_that_may_have_happened_is_undone_if_its_undo_needs_no_result(needs_result: bool, state: str) -> None:
    async def scenario(env: Environment) -> None:
        env.hang(book_quickly)
        run = await env.start(unknown_outcome, needs_result)
        with pytest.raises(RunFailed, match="timeout"):
            await run.result()
        assert done() == ([] if needs_result else ["unbook car"])
        assert await steps(run) == {"book_quickly": state}

    play(scenario)


# ---- several at once -------------------------------------------------------------------------------------------------------


@workflow
async def together() -> None:
    async with saga(parallel=True) as s:
        await asyncio.gather(
            s.step(book("car"), undo=unbook("car")),
            s.step(book("hotel"), undo=unbook("hotel")),
            s.step(fail("full")),
        )


def test_a_step_under_way_is_awaited_and_then_undone() -> None:
    async def slowly(what: str) -> str:
        await asyncio.sleep(60 if what == "hotel" else 0)
        return did(f"book {what}")

    async def scenario(env: Environment) -> None:
        env.stub(book, slowly)
        run = await env.start(together)
        await env.advance("30s")
        assert done() == ["book car"]  # nothing is undone while the hotel is not known
        await run.wait()
        assert DONE[:2] == ["book car", "book hotel"]
        assert sorted(DONE[2:]) == ["unbook car", "unbook hotel"]

    play(scenario)


def test_parallel_undo_starts_everything_at_once() -> None:
    async def slowly(what: str) -> str:
        await asyncio.sleep(60)
        return did(f"unbook {what}")

    async def scenario(env: Environment) -> None:
        env.stub(unbook, slowly)
        begin = env.now
        await (await env.start(together)).wait()
        assert (env.now - begin).total_seconds() == 60

    play(scenario)


@workflow
async def two_sagas() -> list[dict[str, Any]]:
    async with saga() as first:
        await first.step(book("car"), undo=unbook("car"))
    try:
        async with saga("second") as second:
            await second.step(book("hotel"), undo=unbook("hotel"))
            raise ValueError("enough")
    except ValueError:
        pass
    return [ledger(), ledger("second")]


def test_sagas_have_ledgers_of_their_own() -> None:
    async def scenario(env: Environment) -> None:
        assert await env.run(two_sagas) == [
            {"state": "completed", "steps": [{"step": "book", "state": "done"}]},
            {"state": "compensated", "steps": [{"step": "book", "state": "undone"}]},
        ]

    play(scenario)


@workflow
async def many_steps() -> None:
    async with saga() as s:
        for number in range(102):
            await s.step(book(str(number)), undo=unbook(str(number)))


def test_the_memo_lists_the_newest_steps_only() -> None:
    async def scenario(env: Environment) -> None:
        run = await env.start(many_steps)
        await run.wait()
        entries = (await run.show()).memo["saga"]["steps"]
        assert len(entries) == 100 and entries[-1]["step"] == "book#102"

    play(scenario)


# ---- mistakes ----------------------------------------------------------------------------------------------------------------


@workflow
async def mistaken(how: str) -> None:
    async with saga(on_undo_failure="wait" if how == "once" else "continue") as s:
        await s.step(book("car"), undo=unbook("car"))
        if how == "type":
            await s.step(book("hotel"), undo="unbook")  # type: ignore[arg-type]
        if how == "once":
            await s.step(book("hotel"), undo=by_hand())
        if how == "continue":
            continue_as_new()
    await s.step(book("hotel"), undo=unbook("hotel"))


async def by_hand() -> None:
    await unbook("hotel")


@pytest.mark.parametrize(
    ("how", "message", "undone"),
    [
        ("type", "undo is a str; it has to be", True),
        ("once", "give a callable", True),
        ("continue", "leave the `async with saga", True),
        ("after", "this saga is over", False),
    ],
)
def test_mistakes_are_named(how: str, message: str, undone: bool) -> None:
    async def scenario(env: Environment) -> None:
        run = await env.start(mistaken, how)
        with pytest.raises(RunFailed) as caught:
            await run.result()
        assert message in str(caught.value)
        assert done() == ["book car", *(["unbook car"] if undone else [])]

    play(scenario)


@workflow
async def not_repeatable() -> None:
    async with saga() as s:
        await s.step(book("car"), undo=unbook("car"))
        Path("/dev/null").read_text()


def test_a_run_that_is_suspended_undoes_nothing() -> None:
    async def scenario(env: Environment) -> None:
        run = await env.start(not_repeatable)
        await env.advance("1h")
        assert (await run.show()).state == "suspended"
        assert done() == ["book car"]

    play(scenario)


@workflow
async def misspells() -> None:
    async with saga(on_undo_failure="wait_for_a_person"):  # type: ignore[arg-type]
        pass


def test_an_answer_to_failed_undos_that_does_not_exist_is_refused() -> None:
    failure = CodeRig(misspells).run.failure
    assert failure is not None
    assert "on_undo_failure is one of continue, wait, not 'wait_for_a_person'" in failure.message
