"""The test environment: time passes when it should, and only then; what crashes is gone, and what was stored is not."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from headrace import (
    Headrace,
    HeadraceError,
    InvalidCommand,
    RunFailed,
    current_attempt,
    dag,
    query,
    signal,
    start_child,
    task,
    update,
    wait_for_signal,
    wait_until,
    workflow,
)
from headrace.engine.parker import Parker
from headrace.testing import Environment, EnvironmentRun

BOTH_STORES = pytest.mark.parametrize("store", ["memory://", "sqlite://"])


def play(scenario: Callable[[Environment], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        async with Environment(**options) as env:
            await scenario(env)

    asyncio.run(main())


@task
async def double(n: int) -> int:
    return 2 * n


@task(retries=5, timeout="10s")
async def stubborn(n: int) -> int:
    return n


@workflow
async def monthly(months: int) -> list[int]:
    found = []
    for month in range(months):
        await asyncio.sleep(30 * 86_400)
        found.append(await double(month))
    return found


@workflow
async def hesitant() -> str:
    @query
    def mood() -> str:
        return "waiting"

    try:
        async with asyncio.timeout(86_400):
            return str(await wait_for_signal("go"))
    except TimeoutError:
        return "late"


# ---- time ----------------------------------------------------------------------------------------------------------------


@BOTH_STORES
def test_months_pass_in_no_time(store: str) -> None:
    async def scenario(env: Environment) -> None:
        assert await env.run(monthly, 12) == [2 * month for month in range(12)]
        assert env.now == datetime(2030, 12, 27, tzinfo=UTC)

    play(scenario, store=store, always_replay=True)


def test_time_stands_still_while_the_test_does_not_wait() -> None:
    async def scenario(env: Environment) -> None:
        run = await env.start(hesitant)
        for _ in range(100):
            await asyncio.sleep(0)
        assert await run.query("mood") == "waiting"
        assert env.now == datetime(2030, 1, 1, tzinfo=UTC)
        await env.advance("23h 59m 59s")
        await run.signal("go", "went")
        assert await run.result() == "went"

    play(scenario)


def test_advance_lets_everything_happen_that_is_due_by_then() -> None:
    async def scenario(env: Environment) -> None:
        run = await env.start(hesitant)
        await env.advance("1d")
        assert (await run.show()).output == "late"

    play(scenario)


def test_time_begins_where_the_test_says() -> None:
    async def scenario(env: Environment) -> None:
        await env.advance(60)
        assert env.now == datetime(2024, 2, 29, 23, 1, tzinfo=UTC)

    play(scenario, now="2024-02-29T23:00:00+00:00")


def test_what_a_task_sleeps_is_virtual_too() -> None:
    async def slowly(n: int) -> int:
        await asyncio.sleep(3_600)
        return n

    async def scenario(env: Environment) -> None:
        env.stub(double, slowly)
        assert await env.run(monthly, 1) == [0]
        assert env.now == datetime(2030, 1, 31, 1, tzinfo=UTC)

    play(scenario)


RELEASED = threading.Event()


@task
def in_a_thread() -> str:
    assert RELEASED.wait(20)
    return "released"


@workflow
async def with_a_thread() -> str:
    async with asyncio.timeout(1):
        return await in_a_thread()


def test_time_stands_still_while_a_thread_is_at_work() -> None:
    async def scenario(env: Environment) -> None:
        RELEASED.clear()
        run = await env.start(with_a_thread)
        threading.Timer(0.2, RELEASED.set).start()
        assert await run.result() == "released"
        assert env.now == datetime(2030, 1, 1, tzinfo=UTC)

    play(scenario)


def test_a_run_that_never_ends_is_told_with_what_it_waits_for() -> None:
    @workflow
    async def endless() -> None:
        await double(1)
        await wait_for_signal("never sent")

    async def scenario(env: Environment) -> None:
        run = await env.start(endless)
        with pytest.raises(AssertionError, match=r"30 days of virtual time.*waits for signal never sent") as caught:
            await run.wait()
        assert "task.succeeded double" in str(caught.value)

    play(scenario, horizon="30d")


def test_the_loop_gets_its_own_clock_back() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        begun = time.monotonic()
        handle = loop.call_later(1e6, print)

        def left(seconds: float) -> bool:
            """So many are left of its wait, give or take what this test itself took."""
            return abs(handle.when() - loop.time() - seconds) < time.monotonic() - begun + 1

        async with Environment() as env:
            assert left(1e6)
            await env.advance(6e5)
        assert left(4e5)
        before = time.monotonic()
        assert before <= loop.time() <= time.monotonic()
        handle.cancel()

    asyncio.run(main())


def test_two_environments_on_one_loop_are_refused() -> None:
    async def scenario(env: Environment) -> None:
        with pytest.raises(HeadraceError, match="one Environment at a time"):
            async with Environment():
                pass

    play(scenario)


def test_another_event_loop_is_refused() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        with pytest.raises(HeadraceError, match="asyncio's own event loop, not uvloop"):
            async with Environment():
                pass

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


# ---- stand-ins -------------------------------------------------------------------------------------------------------------


@workflow
async def once(n: int) -> int:
    return await stubborn(n)


def test_stand_ins_take_arguments_by_name_or_in_order() -> None:
    async def scenario(env: Environment) -> None:
        env.stub(stubborn, lambda n: n + 10)
        assert await env.run(once, 1) == 11
        env.stub(stubborn, lambda number: number + 20)
        assert await env.run(once, 1) == 21
        env.stub(stubborn, lambda n: current_attempt().attempt)
        assert await env.run(once, 7) == 1
        assert [call.args for call in env.calls(stubborn)] == [{"n": 1}, {"n": 1}, {"n": 7}]

    play(scenario)


def test_failures_are_retried_as_they_would_be() -> None:
    async def scenario(env: Environment) -> None:
        env.fail(stubborn, times=2, error=ConnectionError("no route"))
        run = await env.start(once, 3)
        assert await run.result() == 3
        await env.assert_history(
            run,
            [
                "run.created",
                "attempt.failed stubborn",
                "attempt.failed stubborn",
                "task.succeeded stubborn",
                "run.finished succeeded",
            ],
            exact=True,
        )
        assert env.time > env.calls()[0].at  # the delays have passed
        env.fail(stubborn, times=None)
        with pytest.raises(RunFailed, match="failed by the test"):
            await env.run(once, 3)

    play(scenario)


def test_a_call_that_hangs_meets_its_timeout() -> None:
    async def scenario(env: Environment) -> None:
        env.hang(stubborn)
        run = await env.start(once, 3)
        assert await run.result() == 3
        first, second = env.calls()
        assert 10 <= second.at - first.at <= 12

    play(scenario)


def test_a_call_that_hangs_for_ten_years_is_passed_in_few_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    look = Parker._park_idle

    def counted(parker: Parker) -> None:
        nonlocal looks
        looks += 1
        look(parker)

    monkeypatch.setattr(Parker, "_park_idle", counted)

    @task
    async def endless() -> None: ...

    @workflow
    async def patient() -> None:
        await endless()

    async def scenario(env: Environment) -> None:
        env.hang(endless)
        run = await env.start(patient)
        with pytest.raises(AssertionError, match=r"3650 days of virtual time.*waits for endless"):
            await run.result()

    play(scenario)
    assert 10 < looks < 100_000


def test_no_calls_at_all_cannot_be_planned() -> None:
    async def scenario(env: Environment) -> None:
        with pytest.raises(ValueError, match="from 1"):
            env.fail(stubborn, times=0)

    play(scenario)


@pytest.mark.parametrize("stranger", [print, hesitant])
def test_what_is_no_task_has_no_stand_in(stranger: Any) -> None:
    async def scenario(env: Environment) -> None:
        for call in (lambda: env.stub(stranger, print), lambda: env.calls(stranger)):
            with pytest.raises(TypeError, match="is no task: stand-ins are for @task functions"):
                call()

    play(scenario)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        (f"{__name__}:stubbornn", "did you mean 'stubborn'"),
        ("stubbornn", f"did you mean '{__name__}:stubborn'"),
        (f"{__name__}:", "write 'module:function'"),
    ],
)
def test_a_name_that_no_task_has_is_refused(name: str, meant: str) -> None:
    async def test() -> None:
        async with Environment() as env:
            for use in (lambda: env.stub(name, len), lambda: env.fail(name), lambda: env.hang(name)):
                with pytest.raises(ValueError, match=meant):
                    use()
            with pytest.raises(ValueError, match=meant):
                env.calls(name)
            env.stub(f"{__name__}:stubborn", len)

    asyncio.run(test())


def test_a_name_that_only_runs_can_tell_is_judged_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text("def load() -> int:\n    return 1\n")
    (tmp_path / "w.yaml").write_text("name: w\ntasks: {a: {python: 'steps.py:load'}}\n")

    async def test(name: str) -> object:
        async with Environment() as env:
            env.stub(name, lambda: 2)
            run = await env.start_graph(str(tmp_path / "w.yaml"))
            await run.result()
            return len(env.calls("steps.py:load"))

    assert asyncio.run(test("steps.py:load")) == 1
    assert asyncio.run(test("other.py:quite_different")) == 1
    with pytest.raises(AssertionError, match=r"no task 'steps.py:laod' was called: did you mean 'steps.py:load'"):
        asyncio.run(test("steps.py:laod"))


def test_graphs_have_stand_ins_too() -> None:
    async def scenario(env: Environment) -> None:
        with dag("g") as graph:
            double(21)
        env.stub(double, lambda n: -n)
        assert await (await env.start_graph(graph)).result() == {"double": -21}

    play(scenario)


# ---- histories -------------------------------------------------------------------------------------------------------------


def test_a_history_that_differs_is_shown() -> None:
    async def scenario(env: Environment) -> None:
        run = await env.start(monthly, 1)
        await run.wait()
        await env.assert_history(run, ["timer.set", "task.succeeded double", "run.finished"])
        with pytest.raises(AssertionError, match=r"'timer.set' does not come here") as caught:
            await env.assert_history(run, ["task.succeeded double", "timer.set"])
        assert "2  timer.set 1" in str(caught.value)
        with pytest.raises(AssertionError, match=r"does not come here, but 'timer.set 1'"):
            await env.assert_history(run, ["run.created", "timer.fired"], exact=True)
        with pytest.raises(AssertionError, match=r"'timer.set 1' was not expected"):
            await env.assert_history(run, ["run.created"], exact=True)
        with pytest.raises(AssertionError, match=r"task.succeeded dou"):
            await env.assert_history(run, ["task.succeeded dou"])

    play(scenario)


COUNTER = iter(range(1_000_000))


@workflow
async def unrepeatable() -> None:
    if next(COUNTER) % 2 == 0:
        await double(1)
    await asyncio.sleep(60)


def test_code_that_does_not_repeat_itself_is_found_by_always_replaying() -> None:
    async def scenario(env: Environment) -> None:
        run = await env.start(unrepeatable)
        with pytest.raises(AssertionError, match=r"does not fit its own history: event|its history does not have it"):
            await run.wait()
        env._witness.problems.clear()

    play(scenario, always_replay=True)


def test_a_task_that_ran_again_is_told_of() -> None:
    async def scenario(env: Environment) -> None:
        await env.run(monthly, 1)
        env.check()
        env._witness.call_begins(env.calls()[0])  # what a defect of the engine would do
        with pytest.raises(AssertionError, match=r"task double of run .* ran again"):
            env.check()
        env._witness.problems.clear()

    play(scenario)


# ---- crashes ---------------------------------------------------------------------------------------------------------------


@BOTH_STORES
def test_what_was_under_way_is_begun_again_after_a_crash(store: str) -> None:
    ends: list[str] = []

    async def slowly(n: int) -> int:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            ends.append("cut off")
            raise
        ends.append("ended")
        return n

    async def scenario(env: Environment) -> None:
        env.stub(stubborn, slowly)
        run = await env.start(once, 4)
        await env.advance(2)
        first = env.headrace
        await env.crash()
        assert env.headrace is not first
        assert await run.result() == 4
        assert ends == ["cut off", "ended"]
        assert len(env.calls()) == 2

    play(scenario, store=store)


def test_a_dead_engine_takes_nothing_and_says_nothing() -> None:
    async def scenario(env: Environment) -> None:
        run = await env.start(hesitant)
        dead = env.headrace
        await env.crash()
        with pytest.raises((HeadraceError, TimeoutError, asyncio.CancelledError)):
            async with asyncio.timeout(60):
                await dead.signal(run.id, "go", "ghost")
        assert await run.result() == "late"

    play(scenario)


def test_a_crash_is_no_news_of_a_lost_election(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(env: Environment) -> None:
        await env.settle()
        assert env.headrace._node.leader.term() is not None
        await env.crash()

    play(scenario)
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == []


@workflow
async def parent() -> str:
    return str(await start_child(hesitant))


def test_parked_runs_are_woken_by_the_next_engine() -> None:
    async def scenario(env: Environment) -> None:
        run = await env.start(parent)
        await env.advance("1h")
        assert not env.headrace._node.live
        await env.crash()
        assert await run.result() == "late"
        assert env.now < datetime(2030, 1, 3, tzinfo=UTC)

    play(scenario)


APPLIED: list[str] = []


@task
async def apply(what: str) -> None:
    APPLIED.append(what)


@workflow
async def basket() -> list[str]:
    items: list[str] = []

    @update
    async def add(item: str) -> int:
        await apply(item)
        items.append(item)
        return len(items)

    await wait_until(lambda: len(items) == 2)
    items.append(str(await wait_for_signal("pay")))
    return items


@BOTH_STORES
def test_a_crash_anywhere_changes_nothing(store: str) -> None:
    async def drive(env: Environment, run: EnvironmentRun) -> None:
        assert await run.update("add", "apple") == 1
        await run.signal("pay", "cash")
        assert await run.update("add", "pear") == 2

    async def scenario(env: Environment) -> None:
        report = await env.crash_everywhere(lambda env: env.start(basket), drive, reset=APPLIED.clear)
        assert report.view.output == ["apple", "pear", "cash"]
        assert report.scenarios == 2 * report.flushes + 2
        assert report.crashes >= 2 * report.flushes

    play(scenario, store=store)


def test_a_crash_that_changes_something_is_named() -> None:
    results = iter(range(1_000_000))

    async def scenario(env: Environment) -> None:
        env.stub(stubborn, lambda n: next(results))
        with pytest.raises(AssertionError, match=r"crash before flush 1: the run ended as .* without a crash as"):
            await env.run_with_crashes(once, 1)

    play(scenario)


def test_an_attempt_that_ran_once_too_often_is_named() -> None:
    async def drive(env: Environment, run: EnvironmentRun) -> None:
        await run.wait()
        env._stubs.calls.append(env.calls()[0])  # what a defect of the engine would do

    async def scenario(env: Environment) -> None:
        with pytest.raises(AssertionError, match=r"ran 2 times, but was lost only 0 times"):
            await env.crash_everywhere(lambda env: env.start(once, 1), drive)

    play(scenario)


def test_what_a_run_refuses_is_refused_here_too() -> None:
    async def scenario(env: Environment) -> None:
        run = await env.start(once, 1)
        await run.wait()
        with pytest.raises(InvalidCommand, match="takes no signals"):
            await run.signal("too late")

    play(scenario)


@workflow
async def waits_for_word() -> str:
    return await wait_for_signal("word")


@workflow
async def writes_to_its_child_at_once() -> str:
    child = start_child(waits_for_word)
    await child.signal("word", "early")
    return await child


@BOTH_STORES
def test_a_child_can_be_written_to_as_soon_as_it_is_asked_for(store: str) -> None:
    """The message waits until the child is there; it used to be refused: there was no such run yet."""

    async def scenario(env: Environment) -> None:
        report = await env.run_with_crashes(writes_to_its_child_at_once)
        assert report.scenarios > 5

    play(scenario, store=store)


@workflow
async def guest_list() -> list[str]:
    guests: list[str] = []

    @query
    def has(name: str, run_id: str = "") -> bool:
        return name in guests

    @update
    async def invite(name: str) -> int:
        guests.append(name)
        return len(guests)

    @signal
    def uninvite(name: str) -> None:
        guests.remove(name)

    await wait_for_signal("end")
    return guests


def test_messages_of_a_test_may_be_repeated_and_name_their_arguments() -> None:
    async def scenario(env: Environment) -> None:
        run = await env.start(guest_list)
        assert [await run.update("invite", name="Ada", update_id="u-1") for _ in range(2)] == [1, 1]
        assert await run.update("invite", "Ada", update_id="u-2") == 2
        for _ in range(2):
            await run.signal("uninvite", "Ada", key="s-1")
        assert await run.query("has", name="Ada", run_id="x")
        async with Headrace("memory://") as hr:
            real = await hr.start(guest_list)
            assert not await hr.query(real.id, "has", name="Ada", run_id="x")
            assert not await real.query("has", name="Ada")
        await run.signal("end")
        assert await run.result() == ["Ada"]

    play(scenario)
