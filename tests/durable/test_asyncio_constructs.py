"""Plain asyncio in workflow code: every construct, with outcomes in varied order, replayed after every event."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from asyncio import as_completed as imported_as_completed
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from headrace import TaskFailed, task, workflow
from headrace.durable.workflow import WorkflowFunction

from code_rig import CodeRig  # isort: skip

SEEDS = range(6)


@task
async def double(n: int) -> int:
    return 2 * n


@task
async def breaks(n: int) -> int:
    raise ValueError(f"{n} breaks")


@workflow
async def sleeps() -> list[int]:
    found = [await double(1)]
    await asyncio.sleep(0)
    await asyncio.sleep(3600)
    found.append(await double(2))
    await asyncio.sleep(0.001, "result")
    return found


@workflow
async def gathers() -> list[Any]:
    first = await asyncio.gather(*(double(n) for n in range(5)))
    second = await asyncio.gather(double(7), breaks(8), asyncio.sleep(60, "slept"), return_exceptions=True)
    try:
        await asyncio.gather(double(1), breaks(2), double(3))
    except TaskFailed as error:
        return [first, [value if not isinstance(value, Exception) else "failed" for value in second], error.task]
    return []


@workflow
async def waits() -> list[Any]:
    tasks = {asyncio.create_task(double(n), name=f"d{n}") for n in range(6)}
    order: list[int] = []
    while tasks:
        done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        order += [one.result() for one in done]
    failing = [asyncio.create_task(breaks(1)), asyncio.create_task(asyncio.sleep(1000))]
    done, pending = await asyncio.wait(failing, return_when=asyncio.FIRST_EXCEPTION)
    for one in pending:
        one.cancel()
    done, pending = await asyncio.wait(pending, timeout=10)
    return [sorted(order), len(done), len(pending)]


@workflow
async def completes() -> list[int]:
    found = [await one for one in asyncio.as_completed([double(n) for n in range(12)])]
    found += [await one for one in imported_as_completed([double(n) for n in range(20, 26)], timeout=1e6)]
    await double(found[0])
    return sorted(found)


@workflow
async def waits_for() -> list[Any]:
    found: list[Any] = [await asyncio.wait_for(double(4), 10_000)]
    for seconds in (5, 0):
        try:
            await asyncio.wait_for(asyncio.sleep(3600), seconds)
        except TimeoutError:
            found.append("late")
    try:
        async with asyncio.timeout(1) as bound:
            bound.reschedule(asyncio.get_running_loop().time() + 50)
            await asyncio.sleep(100)
    except TimeoutError:
        found.append(bound.expired())
    async with asyncio.timeout(1e6):
        found.append(await double(5))
    return found


@workflow
async def groups() -> list[Any]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(double(n)) for n in range(4)]
        inner = group.create_task(asyncio.sleep(5, "slept"))
    found: list[Any] = [*(one.result() for one in tasks), inner.result()]
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(1e9))
            group.create_task(breaks(1))
            group.create_task(double(9))
    except* TaskFailed as failed:
        found.append(len(failed.exceptions))
    return found


@workflow
async def primitives() -> list[Any]:
    log: list[Any] = []
    ready, lock, two = asyncio.Event(), asyncio.Lock(), asyncio.Semaphore(2)
    queue: asyncio.Queue[int | None] = asyncio.Queue(maxsize=2)
    condition = asyncio.Condition()

    async def producer() -> None:
        for n in range(5):
            await queue.put(await double(n))
        await queue.put(None)

    async def consumer() -> int:
        total = 0
        while (item := await queue.get()) is not None:
            async with lock:
                total += item
                await asyncio.sleep(0.5)
        ready.set()
        async with condition:
            condition.notify_all()
        return total

    async def limited(n: int) -> int:
        await ready.wait()
        async with two:
            return await double(n)

    async def notified() -> str:
        async with condition:
            await condition.wait()
        return "notified"

    _, total, *rest = await asyncio.gather(producer(), consumer(), *(limited(n) for n in range(4)), notified())
    log += [total, *rest]
    barrier = asyncio.Barrier(3)

    async def meets(n: int) -> int:
        await asyncio.sleep(n)
        await barrier.wait()
        return n

    return [*log, *await asyncio.gather(meets(1), meets(2), meets(3))]


@workflow
async def shields() -> list[Any]:
    work = asyncio.create_task(double(21))
    try:
        await asyncio.wait_for(asyncio.shield(work), 0.5)
    except TimeoutError:
        return ["late", await work]
    return ["early", work.result()]


async def numbers(count: int, log: list[str]) -> AsyncIterator[int]:
    try:
        for n in range(count):
            yield await double(n)
    finally:
        await asyncio.sleep(1)
        log.append("closed")


@workflow
async def generators() -> list[Any]:
    log: list[str] = []
    found = [n async for n in numbers(3, log)]
    async with contextlib.aclosing(numbers(10, log)) as some:
        async for n in some:
            found.append(n)
            if n > 2:
                break
    async for n in numbers(10, log):  # left to the collector: closed by the loop, as asyncio does
        if n > 2:
            break
    await asyncio.sleep(10)
    return [found, log]


@workflow
async def stacks() -> list[str]:
    log: list[str] = []

    @contextlib.asynccontextmanager
    async def resource(name: str) -> AsyncIterator[str]:
        log.append(f"open {name} {await double(len(log))}")
        try:
            yield name
        finally:
            log.append(f"close {name} {await double(len(log))}")

    with contextlib.suppress(TaskFailed):
        async with contextlib.AsyncExitStack() as stack:
            for name in "abc":
                await stack.enter_async_context(resource(name))
            stack.push_async_callback(asyncio.sleep, 5)
            await breaks(1)
    return log


@workflow
async def sets() -> list[int]:
    order: list[int] = []

    async def one(n: int) -> None:
        order.append(await double(n))

    tasks = {asyncio.create_task(one(n)) for n in range(30)}
    futures = {asyncio.get_running_loop().create_future() for _ in range(10)}
    for number, future in enumerate(futures):
        future.set_result(number)
        order.append(await double(future.result()))
    for waiting in tasks:
        await waiting
    return sorted(order)


ALL: dict[str, tuple[WorkflowFunction[..., Any], Any]] = {
    "sleep": (sleeps, [2, 4]),
    "gather": (gathers, [[0, 2, 4, 6, 8], [14, "failed", "slept"], "breaks#2"]),
    "wait": (waits, [[0, 2, 4, 6, 8, 10], 1, 0]),
    "as_completed": (completes, sorted([2 * n for n in range(12)] + [2 * n for n in range(20, 26)])),
    "wait_for": (waits_for, [8, "late", "late", True, 10]),
    "TaskGroup": (groups, [0, 2, 4, 6, "slept", 1]),
    "primitives": (primitives, [20, 0, 2, 4, 6, "notified", 1, 2, 3]),
    "shield": (shields, None),
    "async generator": (generators, [[0, 2, 4, 0, 2, 4], ["closed", "closed", "closed"]]),
    "AsyncExitStack": (stacks, ["open a 0", "open b 2", "open c 4", "close c 6", "close b 8", "close a 10"]),
    "sets": (sets, sorted([2 * n for n in range(30)] + [2 * n for n in range(10)])),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ALL)
def test_replays_the_same(name: str, seed: int) -> None:
    code, expected = ALL[name]
    rig = CodeRig(code)
    output = rig.finish(seed)
    assert str(rig.run.state) == "succeeded", rig.run.failure
    if expected is not None:
        assert output == expected


def test_shield_goes_on_after_the_wait_was_given_up() -> None:
    rig = CodeRig(shields)
    rig.fire(1)
    rig.perform("double")
    assert rig.run.output == ["late", 42]


@workflow
async def waits_for_ever() -> str:
    never = [asyncio.create_task(asyncio.sleep(seconds)) for seconds in (float("inf"), 1e300)]
    async with asyncio.timeout(float("inf")):
        await asyncio.sleep(3600)
    try:
        asyncio.get_running_loop().call_later(float("nan"), never.clear)  # asyncio.sleep refuses it from Python 3.13 on
    except ValueError as error:
        return f"{[one.done() for one in never]} {error}"
    return ""


def test_what_is_never_due_is_not_stored() -> None:
    """JSON has no infinity: an event with one could not be read again."""
    rig = CodeRig(waits_for_ever)
    rig.fire(1)
    assert str(rig.run.output).startswith("[False, False] a timer cannot be due")
    assert rig.kinds() == ["run.created", "timer.set 1", "timer.fired 1", "run.finished succeeded"]


SCRIPT = """
import sys
sys.path[:0] = [{here!r}]
import test_asyncio_constructs as tests
from code_rig import CodeRig
for name, (code, _) in tests.ALL.items():
    rig = CodeRig(code)
    rig.finish(3)
    print(name, *(data.decode() for data in rig.stored))
"""


def test_histories_do_not_depend_on_hash_seeds() -> None:
    """Sets of strings may iterate in another order; nothing of the loop's own may."""
    histories = set()
    for seed in ("0", "1", "4242"):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT.format(here=str(Path(__file__).parent))],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        histories.add(done.stdout)
    assert len(histories) == 1
