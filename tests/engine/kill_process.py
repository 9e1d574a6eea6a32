"""An engine in a process of its own, to be killed at any time. Usage: ``kill_process.py FOLDER RUNS``.

Starts runs until there are RUNS, one line in ``acknowledged`` for each that ``run()`` returned, and works until all have
ended. Tasks write a line to ``ledger`` when they begin and when they have done their work, before they return.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from headrace import Headrace, current_attempt, dag, task

FOLDER = Path(sys.argv[1])


def note(file: str, line: str) -> None:
    """Append a line that outlives this process (the page cache does)."""
    handle = os.open(FOLDER / file, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o644)
    os.write(handle, f"{line}\n".encode())
    os.close(handle)


async def work(value: Any) -> Any:
    name = current_attempt().idempotency_key
    note("ledger", f"begun {name}")
    await asyncio.sleep(0.002)
    note("ledger", f"done {name}")
    return value


@task
async def numbers() -> list[int]:
    return await work([1, 2, 3, 4])


@task
async def square(n: int) -> int:
    return await work(n * n)


@task(retries={"attempts": 3, "backoff": "fixed", "initial": 0.005, "jitter": "none"})
async def shaky(total: list[int]) -> int:
    if current_attempt().attempt < 2:
        raise ValueError("not at once")
    return await work(sum(total))


@task
async def breaks(total: int) -> int:
    raise RuntimeError(f"{total} is not right")


@task
async def alarm() -> str:
    return await work("rung")


with dag("killed") as killed:
    found = numbers()
    squares = square.map(n=found)
    total = shaky(squares)
    broken = breaks(total)
    alarm.options(trigger="one_failed")().after(broken)


async def main() -> None:
    async with Headrace(f"sqlite:///{FOLDER}/headrace.db", workflows=[killed], lease_seconds=2.0) as headrace:
        note("ledger", "up")
        there = len(await headrace.runs(limit=1000))
        for _ in range(int(sys.argv[2]) - there):
            run = await headrace.run(killed)
            note("acknowledged", run.id)
        for row in await headrace.runs(limit=1000):
            await (await headrace.get(row.run_id)).wait(60)
    note("ledger", "finished")


asyncio.run(main())
