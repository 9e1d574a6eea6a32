"""Why a run is where it is: each thing it can wait for is named, and what is stuck says what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from headrace import Headrace, dag, saga, task, wait_for_signal, workflow
from headrace.client.why import Reason


def play(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(bounded())


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    while not (found := await condition()):
        await asyncio.sleep(0.01)
    return found


def texts(reasons: list[Reason]) -> dict[str, str]:
    return {reason.subject: reason.why for reason in reasons}


@task(queue="gpu", needs_labels={"zone": "a"})
async def far() -> int:
    return 1


@task
async def after(_number: int) -> None: ...


@task(retries={"attempts": 3, "initial": "1h", "jitter": "none"})
async def flaky() -> None:
    raise ValueError("no luck")


with dag("spread") as spread:
    after(far())

with dag("choosy") as choosy:
    far.options(needs_labels={}, sticky=True, prefer_labels={"zone": "a"}, prefer_for="1h")()

with dag("flaky") as again:
    flaky()


@workflow
async def patient() -> None:
    await wait_for_signal("never")


@workflow
async def sleepy() -> None:
    await asyncio.sleep(86_400)


def test_a_queue_that_nobody_serves_is_stuck_until_somebody_does(tmp_path: Path) -> None:
    async def test() -> None:
        url = f"sqlite:///{tmp_path}/x.db"
        async with Headrace(url, node="owner", workflows=[spread]) as hr:
            run = await hr.run(spread)
            found = await until(lambda: stuck(hr, run.id))
            assert found == [
                Reason(
                    subject="far",
                    why="attempt 1 waits in queue gpu with zone=a, which nobody serves",
                    stuck=True,
                    hint="headrace worker --queue gpu --label zone=a",
                )
            ]
            assert texts(await hr.why(run.id))["after"] == "it waits for far"
            async with Headrace(url, node="wrong", adopt=False, pull=True, queues=["gpu"], labels={"zone": "b"}):
                assert await stuck(hr, run.id) == found
            async with Headrace(url, node="right", adopt=False, pull=True, queues=["gpu"], labels={"zone": "a"}):
                await run.result()
                assert await hr.why(run.id) == []

    play(test)


def test_what_waits_for_a_preferred_process_says_so(tmp_path: Path) -> None:
    async def test() -> None:
        url = f"sqlite:///{tmp_path}/x.db"
        async with (
            Headrace(url, node="owner", workflows=[choosy]) as hr,
            Headrace(url, node="full", adopt=False, pull=True, queues=["gpu"], labels={"zone": "a"}) as full,
        ):
            full._node.planner.gatekeeper.open = False
            run = await hr.run(choosy)
            [reason] = await until(lambda: waits(hr, run.id))
            assert reason.why == (
                "attempt 1 waits in queue gpu for a slot of full; for 1h it prefers the process of the task before it, "
                "then zone=a"
            )
            await run.cancel()

    play(test)


@workflow
async def calls_far() -> int:
    async with asyncio.timeout(86_400):
        await asyncio.sleep(0)
    return await far()


def test_a_call_of_code_that_nobody_serves_is_stuck_too(tmp_path: Path) -> None:
    async def test() -> None:
        url = f"sqlite:///{tmp_path}/x.db"
        async with Headrace(url, node="owner") as hr, Headrace(url, node="other", adopt=False) as other:
            run = await hr.start(calls_far)
            await until(hr.queues)
            [reason] = await hr.why(run.id)
            assert reason.why == "attempt 1 waits in queue gpu with zone=a, which nobody serves"
            assert (reason.subject, reason.stuck) == ("far", True)
            [told] = [reason for reason in await other.why(run.id) if reason.subject != "run"]
            assert told.subject == "far"
            assert told.why.startswith("attempt 1 waits in its queue")
            assert "it waits for a signal, an update or its cancellation" not in texts(await other.why(run.id)).values()

    play(test)


async def waits(hr: Headrace, run_id: str) -> list[Reason]:
    return [reason for reason in await hr.why(run_id) if "waits in queue" in reason.why]


async def stuck(hr: Headrace, run_id: str) -> list[Reason]:
    return [reason for reason in await hr.why(run_id) if reason.stuck]


def test_a_retry_says_what_failed_and_when_it_is_due(tmp_path: Path) -> None:
    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db", workflows=[again]) as hr:
            run = await hr.run(again)

            async def retrying() -> list[Reason]:
                return [reason for reason in await hr.why(run.id) if "failed" in reason.why]

            [reason] = await until(retrying)
            assert (reason.subject, reason.why) == ("flaky", "attempt 1 failed: no luck; attempt 2 is due")
            assert reason.until is not None
            assert not reason.stuck
            await hr.pause(run.id, "the mill stands still")
            [paused] = await stuck(hr, run.id)
            assert paused.why == "it is paused: the mill stands still"
            assert paused.hint == f"headrace runs resume {run.id}"

    play(test)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (patient, "it waits for a signal, an update or its cancellation"),
        (sleepy, "it waits for a timer, or for a message that comes before"),
    ],
)
def test_code_says_what_it_waits_for(tmp_path: Path, code: Any, why: str) -> None:
    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db") as hr:
            run = await hr.start(code)
            [reason] = await until(lambda: hr.why(run.id))
            assert (reason.subject, reason.why, reason.stuck) == ("run", why, False)

    play(test)


@task
async def book() -> str:
    return "seat 1"


@task
async def unbook() -> None:
    raise RuntimeError("the office is closed")


@workflow
async def trip() -> None:
    async with saga("trip", undo_retries=1, on_undo_failure="wait") as s:
        await s.step(book(), undo=unbook)
        raise ValueError("no money")


def test_a_saga_that_waits_for_a_person_names_the_signal(tmp_path: Path) -> None:
    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db") as hr:
            run = await hr.start(trip)
            [reason] = await until(lambda: stuck(hr, run.id))
            assert reason == Reason(
                subject="book",
                why="undoing it failed: task unbook failed: RuntimeError: the office is closed; "
                "it waits for signal saga:trip:book",
                stuck=True,
                hint=f"headrace runs signal {run.id} saga:trip:book retry (or done, once it is settled)",
            )
            await hr.signal(run.id, "saga:trip:book", "done")
            await run.wait()
            assert await hr.why(run.id) == []

    play(test)


def test_a_run_without_a_node_is_stuck_unless_one_takes_runs_over(tmp_path: Path) -> None:
    async def test() -> None:
        url = f"sqlite:///{tmp_path}/x.db"
        async with Headrace(url, node="gone", workflows=[again]) as hr:
            run = await hr.run(again)
            await until(lambda: hr.why(run.id))
        async with Headrace(url, node="guest", adopt=False) as guest:
            [reason] = await stuck(guest, run.id)
            assert reason.why == "no node has it, and no node is up that takes runs over"
            assert "headrace up" in (reason.hint or "")

    play(test)
