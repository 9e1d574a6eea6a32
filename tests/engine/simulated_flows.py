"""What simulated nodes carry out: a graph and code. Each task notes when it begins, before it does anything else."""

import asyncio
import time
from typing import Any

from headrace import current_attempt, dag, task, workflow

NODE = ""
"""Whose turn it is."""
LEDGER: list[tuple[str, int, float, str]] = []
now = time.monotonic
WORK_SECONDS = 0.3


async def work(value: Any) -> Any:
    attempt = current_attempt()
    LEDGER.append((attempt.idempotency_key, attempt.attempt, now(), NODE))
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


with dag("mill") as mill:
    found = numbers()
    squares = square.map(n=found)
    shaky(squares)


@workflow
async def sums() -> int:
    """A step, a timer, steps beside each other, a step."""
    total = await add(0, 1)
    await asyncio.sleep(0.5)
    parts = await asyncio.gather(*(add(total, more) for more in range(3)))
    return await add(sum(parts), 10)


EXPECTED = {"mill": ("succeeded", 5), "sums": ("succeeded", 5)}
"""By workflow: the state of its run, and how many outcomes of tasks it has."""
