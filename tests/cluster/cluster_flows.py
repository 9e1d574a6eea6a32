"""What a cluster under test carries out: a graph and code. Each task notes in ``ledger`` when it begins, before it does
anything else; lines outlive the process, and their order is that of the file."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from headrace import current_attempt, dag, task, workflow

FOLDER = Path(os.environ.get("CLUSTER_FOLDER", "."))
NODE = os.environ.get("CLUSTER_NODE", "")
WORK_SECONDS = float(os.environ.get("CLUSTER_WORK_SECONDS", "0.02"))


def note(file: str, line: str) -> None:
    handle = os.open(FOLDER / file, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o644)
    os.write(handle, f"{line}\n".encode())
    os.close(handle)


async def work(value: Any) -> Any:
    attempt = current_attempt()
    note("ledger", f"{attempt.idempotency_key} {attempt.attempt} {time.time():.6f} {NODE}")
    await asyncio.sleep(WORK_SECONDS)
    return value


@task
async def numbers() -> list[int]:
    return await work([1, 2, 3, 4])


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
async def breaks(total: int) -> int:
    await work(total)
    raise RuntimeError(f"{total} is not right")


@task
async def alarm() -> str:
    return await work("rung")


@task
async def add(total: int, more: int) -> int:
    return await work(total + more)


with dag("mill") as mill:
    found = numbers()
    squares = square.map(n=found)
    total = shaky(squares)
    broken = breaks(total)
    alarm.options(trigger="one_failed")().after(broken)


@workflow
async def sums() -> int:
    """Steps one after the other, a timer, and steps beside each other."""
    total = await add(0, 1)
    await asyncio.sleep(0.1)
    parts = await asyncio.gather(*(add(total, more) for more in range(3)))
    return await add(sum(parts), 10)


EXPECTED = {
    "mill": (
        "failed",
        {
            "numbers": "succeeded",
            **{f"square[{item}]": "succeeded" for item in range(4)},
            "shaky": "succeeded",
            "breaks": "failed",
            "alarm": "succeeded",
        },
    ),
    "sums": ("succeeded", None),
}
"""By workflow: the state of its run, and of each unit (None: all five succeeded)."""
