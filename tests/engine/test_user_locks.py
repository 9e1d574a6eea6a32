"""Locks for users' tasks and programs: one holder at a time on all nodes, rising tokens, clear ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from headrace import (
    Headrace,
    HeldLock,
    LockLost,
    LockMisused,
    LockNotFree,
    RetryPolicy,
    RunCancelled,
    RunFailed,
    current_attempt,
    dag,
    lock,
    task,
    workflow,
)
from headrace.sync import Headrace as SyncHeadrace
from headrace.telemetry.metrics import flat

WAIT_SECONDS_MAX = 100.0


def play(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            await test

    asyncio.run(bounded())


@asynccontextmanager
async def engine(folder: Path, *workflows: Any, name: str = "n", **options: Any) -> AsyncIterator[Headrace]:
    url = f"sqlite:///{folder / 'x.db'}"
    async with Headrace(url, workflows=workflows, node=name, data_dir=folder / name, **options) as headrace:
        yield headrace


async def until(ready: Callable[[], Any]) -> None:
    while not ready():
        await asyncio.sleep(0.001)


async def held_by(headrace: Headrace) -> dict[str, int]:
    """The locks of users, and how many wait for each."""
    return {row.name: row.waiting for row in await headrace.locks() if row.name != "headrace.leader"}


async def take_away(headrace: Headrace, name: str) -> None:
    """The lock falls free under the hands of its holder, and the keeper hears of it when it renews."""
    row = next(row for row in await headrace.locks() if row.name == name)
    await headrace.store.release_lock(name, row.holder)
    node = headrace._node
    await asyncio.to_thread(node.holding.renew, node.id, node.epoch)


# ---- one at a time -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["coroutines", "threads", "coroutines in threads"])
def test_one_attempt_at_a_time_over_two_nodes(kind: str, tmp_path: Path) -> None:
    """And under rising tokens."""
    inside: list[int] = []
    tokens: list[int] = []

    def enter(held: HeldLock) -> None:
        assert held.is_held
        held.check()
        inside.append(1)
        assert len(inside) == 1
        tokens.append(held.token)

    async def waits() -> None:
        async with lock("door") as held:
            enter(held)
            await asyncio.sleep(0)
            inside.pop()

    def blocks() -> None:
        with lock("door") as held:
            enter(held)
            inside.pop()

    one = task(blocks if kind == "threads" else waits)
    if kind == "coroutines in threads":
        one = one.options(executor="thread")
    with dag("many") as many:
        for number in range(6):
            one.options(id=f"t{number}")()

    async def test() -> None:
        async with engine(tmp_path, many, name="a") as a, engine(tmp_path, many, name="b", pull=False) as b:
            runs = [await a.run(many), await b.run(many)]
            for run in runs:
                await run.result()
            assert len(tokens) == 12
            assert tokens == sorted(set(tokens))
            assert await held_by(a) == {}

    play(test())


def test_programs_and_tasks_share_the_same_locks(tmp_path: Path) -> None:
    begun = asyncio.Event()

    @task
    async def wants() -> int:
        begun.set()
        async with lock("door") as held:
            return held.token

    with dag("wanting") as wanting:
        wants()

    async def test() -> None:
        async with engine(tmp_path, wanting, name="a") as a, engine(tmp_path, name="b", pull=False) as b:
            async with b.lock("door") as held:
                run = await a.run(wanting)
                await begun.wait()
                while await held_by(b) != {"door": 1}:
                    await asyncio.sleep(0.001)
            assert (await run.result())["wants"] > held.token

    play(test())


def test_the_synchronous_twin(tmp_path: Path) -> None:
    with SyncHeadrace(f"sqlite:///{tmp_path / 'x.db'}") as headrace:
        with headrace.lock("door") as first:
            assert first.is_held
            message = r"lock 'door' did not become free within 0 s: node .* has it"
            with pytest.raises(LockNotFree, match=message), headrace.lock("door", timeout=0):
                raise AssertionError
        with headrace.lock("door", timeout="1s") as second:
            assert second.token > first.token
        with pytest.raises(LockLost, match="token"):
            first.check()


def test_who_waits_too_long_is_told_who_has_it_and_leaves_the_line(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path) as headrace, headrace.lock("door"):
            with pytest.raises(LockNotFree, match=r"within 0\.01 s: node n has it") as caught:
                async with headrace.lock("door", timeout=0.01):
                    raise AssertionError
            assert (caught.value.name, caught.value.node) == ("door", "n")
            while await held_by(headrace) != {"door": 0}:
                await asyncio.sleep(0.001)

    play(test())


def test_who_is_cancelled_leaves_the_line(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path) as headrace:

            async def wait() -> None:
                async with headrace.lock("door"):
                    raise AssertionError

            async with headrace.lock("door"):
                waiting = asyncio.create_task(wait())
                while await held_by(headrace) != {"door": 1}:
                    await asyncio.sleep(0.001)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                while await held_by(headrace) != {"door": 0}:
                    await asyncio.sleep(0.001)
            assert await held_by(headrace) == {}

    play(test())


# ---- the end of an attempt -----------------------------------------------------------------------------------------


def test_a_cancelled_attempt_gives_its_lock_back(tmp_path: Path) -> None:
    begun = asyncio.Event()

    @task
    async def stays() -> None:
        async with lock("door"):
            begun.set()
            await asyncio.Event().wait()

    with dag("staying") as staying:
        stays()

    async def test() -> None:
        async with engine(tmp_path, staying) as headrace:
            run = await headrace.run(staying)
            await begun.wait()
            await headrace.cancel(run.id)
            with pytest.raises(RunCancelled):
                await run.result()
            async with headrace.lock("door", timeout="10s"):
                pass

    play(test())


@pytest.mark.parametrize("has_it", [True, False], ids=["holds it", "waits for it"])
def test_a_thread_that_was_left_behind_has_nothing_and_wants_nothing(has_it: bool, tmp_path: Path) -> None:
    """The thread runs on, its attempt is over."""
    has, go, ended = threading.Event(), threading.Event(), threading.Event()
    seen: list[object] = []

    @task
    def stays() -> None:
        try:
            with lock("door") as held:
                has.set()
                go.wait(WAIT_SECONDS_MAX)
                seen.append(held.is_held)
        except Exception as error:
            seen.append(type(error).__name__)
            raise
        finally:
            ended.set()

    with dag("staying") as staying:
        stays()

    async def test() -> None:
        async with engine(tmp_path, staying) as headrace:
            mine = headrace.lock("door")
            if not has_it:
                await mine.__aenter__()
            run = await headrace.run(staying)
            if has_it:
                await until(has.is_set)
            else:
                while await held_by(headrace) != {"door": 1}:
                    await asyncio.sleep(0.001)
            await run.cancel()
            with pytest.raises(RunCancelled):
                await run.result()
            if has_it:
                await mine.__aenter__()
                go.set()
            assert await asyncio.to_thread(ended.wait, WAIT_SECONDS_MAX)
            await mine.__aexit__(None, None, None)
            assert seen == ([False, "LockLost"] if has_it else ["EngineStopped"])
            assert headrace._node.locker.owners == {}

    play(test())


# ---- losing it -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["coroutine", "thread", "coroutine in a thread"])
def test_an_attempt_that_loses_its_lock_fails(kind: str, tmp_path: Path) -> None:
    begun, go = threading.Event(), threading.Event()
    cleaned: list[bool] = []

    async def waits() -> None:
        async with lock("door"):
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                cleaned.append(True)

    def blocks() -> None:
        with lock("door"):
            begun.set()
            go.wait(WAIT_SECONDS_MAX)

    one = task(blocks if kind == "thread" else waits)
    if kind == "coroutine in a thread":
        one = one.options(executor="thread")
    with dag("losing") as losing:
        one()

    async def test() -> None:
        async with engine(tmp_path, losing) as headrace:
            run = await headrace.run(losing)
            await asyncio.to_thread(begun.wait, WAIT_SECONDS_MAX)
            await take_away(headrace, "door")
            with pytest.raises(RunFailed, match=r"lock 'door' \(token \d+\) was lost while it was held"):
                await run.result()
            view = await run.show()
            assert view.error is not None
            assert view.error.type == "LockLost"
            assert cleaned == ([] if kind == "thread" else [True])
            assert flat(headrace.metrics())["headrace_locks_lost_total"] == 1
            go.set()

    play(test())


def test_the_next_attempt_may_have_it_again(tmp_path: Path) -> None:
    """Losing a lock is retryable."""
    begun: list[int] = []

    @task(retries=RetryPolicy(attempts=2, initial=0.001))
    async def waits() -> int:
        async with lock("door") as held:
            begun.append(held.token)
            if len(begun) == 1:
                await asyncio.Event().wait()
            return held.token

    with dag("retrying") as retrying:
        waits()

    async def test() -> None:
        async with engine(tmp_path, retrying) as headrace:
            run = await headrace.run(retrying)
            await until(lambda: begun)
            await take_away(headrace, "door")
            assert (await run.result())["waits"] > begun[0]

    play(test())


def test_a_program_that_loses_its_lock_hears_of_it(tmp_path: Path) -> None:
    """Waiting or not; and it is not cancelled later for what is over."""

    async def test() -> None:
        async with engine(tmp_path) as headrace:
            with pytest.raises(LockLost) as caught:
                async with headrace.lock("door") as held:
                    await take_away(headrace, "door")
                    await asyncio.Event().wait()
            assert (caught.value.name, caught.value.token) == ("door", held.token)
            with pytest.raises(LockLost):
                async with headrace.lock("door") as held:
                    await take_away(headrace, "door")
                    while held.is_held:
                        await asyncio.sleep(0)
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
            await asyncio.sleep(0.001)
            with pytest.raises(ValueError, match="mine"):
                async with headrace.lock("door"):
                    try:
                        await take_away(headrace, "door")
                        await asyncio.Event().wait()
                    except asyncio.CancelledError:
                        raise ValueError("mine") from None
            assert task.cancelling() == 0
            assert await held_by(headrace) == {}

    play(test())


def test_a_node_that_loses_its_lease_loses_its_locks(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path) as headrace:
            with pytest.raises(LockLost, match="node n lost its lease"):
                async with headrace.lock("door"):
                    headrace._node.membership.lost("for the test")
                    await asyncio.Event().wait()

    play(test())


def test_an_attempt_on_another_node_takes_locks_there(tmp_path: Path) -> None:
    """It fails there if it loses one; the owner of its run hears of that."""
    begun = threading.Event()

    @task(queue="far")
    def loses() -> None:
        with lock("gate"):
            begun.set()
            while not current_attempt().cancelled:
                threading.Event().wait(0.001)

    with dag("far") as far:
        loses()

    async def test() -> None:
        async with (
            engine(tmp_path, far, name="owner") as owner,
            engine(tmp_path, far, name="worker", adopt=False, pull=True, queues=["far"]) as worker,
        ):
            run = await owner.run(far)
            assert await asyncio.to_thread(begun.wait, WAIT_SECONDS_MAX)
            rows = {row.name: row.node for row in await owner.locks()}
            assert rows == {"headrace.leader": "owner", "gate": "worker"}
            await take_away(worker, "gate")
            with pytest.raises(RunFailed, match=r"lock 'gate' \(token \d+\) was lost"):
                await run.result()

    play(test())


def test_a_program_whose_engine_stops_holds_nothing_any_more(tmp_path: Path) -> None:
    async def test() -> None:
        async with engine(tmp_path) as headrace:
            with pytest.raises(LockLost, match="the engine stopped"):
                async with headrace.lock("door"):
                    stopping = asyncio.create_task(headrace.close())
                    await asyncio.Event().wait()
            await stopping

    play(test())


# ---- what cannot be ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lock(""), "'' is no name of a lock"),
        (lambda: lock("x" * 201), "is no name of a lock"),
        (lambda: lock(7), "7 is no name of a lock"),  # type: ignore[arg-type]
        (lambda: lock("headrace.leader"), "Headrace's own"),
        (lambda: lock("door", timeout="soon"), r"lock\('door'\): timeout: expected a duration"),
    ],
)
def test_bad_names_and_times(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(LockMisused, match=message):
        make()


def test_where_no_lock_can_be_taken(tmp_path: Path) -> None:
    """Each says what to do."""

    @task
    async def nested() -> None:
        async with lock("door"), lock("door"):
            raise AssertionError

    @task
    async def blocking() -> None:
        with lock("door"):
            raise AssertionError

    @task
    async def twice() -> None:
        one = lock("door")
        async with one:
            pass
        async with one:
            raise AssertionError

    def failing(name: str, function: Any) -> Any:
        with dag(name) as made:
            function()
        return made

    @workflow
    async def code() -> None:
        async with lock("door"):
            raise AssertionError

    cases = [
        (failing("nested", nested), "held by this attempt already"),
        (failing("blocking", blocking), "in a coroutine would block it"),
        (failing("twice", twice), "good for one `with`"),
        (code, "used outside a task"),
    ]

    async def test() -> None:
        with pytest.raises(LockMisused, match="used outside a task"):
            async with lock("door"):
                raise AssertionError
        async with engine(tmp_path, *(made for made, _ in cases)) as headrace:
            for made, message in cases:
                run = await headrace.run(made)
                with pytest.raises(RunFailed, match=message):
                    await run.result()
            assert await held_by(headrace) == {}

    play(test())
