"""What nodes under test carry out while they are disturbed: parts of a graph, and code. Whoever imports this says where a
task notes that it begins, which it does before anything else."""

import asyncio
from collections.abc import Callable
from typing import Any

from headrace import current_attempt, task, workflow

WORK_SECONDS = 0.3
TIMER_SECONDS = 0.5
note_begin: Callable[[str, int], None] | None = None
"""Is given the key of the attempt's unit and the attempt's number."""


async def work(value: Any) -> Any:
    attempt = current_attempt()
    assert note_begin is not None
    note_begin(attempt.idempotency_key, attempt.attempt)
    await asyncio.sleep(WORK_SECONDS)
    return value


@task
async def numbers() -> list[int]:
    return await work([1, 2, 3])


@task
async def square(n: int) -> int:
    return await work(n * n)


@task(queue="far", retries={"attempts": 3, "backoff": "fixed", "initial": 0.05, "jitter": "none"})
async def shaky(total: list[int]) -> int:
    """Served by two of three nodes; succeeds at its second attempt."""
    if current_attempt().attempt < 2:
        await work(None)
        raise ValueError("not at once")
    return await work(sum(total))


@task
async def add(total: int, more: int) -> int:
    return await work(total + more)


def grind() -> Any:
    """Five units of the graph that is being built: one, three beside each other, and one elsewhere, which is returned."""
    return shaky(square.map(n=numbers()))


@workflow
async def sums() -> int:
    """A step, a timer, steps beside each other, a step: five outcomes."""
    total = await add(0, 1)
    await asyncio.sleep(TIMER_SECONDS)
    parts = await asyncio.gather(*(add(total, more) for more in range(3)))
    return await add(sum(parts), 10)
