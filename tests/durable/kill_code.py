"""An engine in a process of its own that runs orders, to be killed at any time. Usage: ``kill_code.py FOLDER ORDERS``.

Tasks write a line to ``ledger`` when they begin and when they have done their work.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from headrace import (
    Headrace,
    TaskFailed,
    continue_as_new,
    current_attempt,
    start_child,
    task,
    wait_for_signal,
    workflow,
)
from headrace.core.errors import InvalidCommand, PermanentError

FOLDER = Path(sys.argv[1])


def note(line: str) -> None:
    """Append a line that outlives this process (the page cache does)."""
    handle = os.open(FOLDER / "ledger", os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o644)
    os.write(handle, f"{line}\n".encode())
    os.close(handle)


async def work(value: Any) -> Any:
    name = current_attempt().idempotency_key
    note(f"begun {name}")
    await asyncio.sleep(0.002)
    note(f"done {name}")
    return value


@task
async def reserve(n: int) -> str:
    return await work(f"reserved {n}")


@task
async def charge(n: int) -> str:
    await work(n)
    if n % 3 == 0:
        raise PermanentError("no money")
    return f"charged {n}"


@task
async def release(what: str) -> str:
    return await work(f"released {what}")


@workflow
async def parcel(n: int, left: int) -> str:
    await asyncio.sleep(0.01)
    await reserve(n)
    if left:
        continue_as_new(left=left - 1)
    return f"parcel {n}"


@workflow
async def order(n: int) -> list[str]:
    log = [await reserve(n)]
    try:
        log.append(await charge(n))
    except TaskFailed:
        log.append(await release(log[0]))
        return log
    parcels = [start_child(parcel, {"n": n, "left": part}) for part in range(2)]
    log += [await one for one in parcels]
    await asyncio.sleep(0.02)
    log.append(await wait_for_signal("paid"))
    return log


async def main() -> None:
    async with Headrace(f"sqlite:///{FOLDER}/headrace.db", lease_seconds=2.0) as headrace:
        note("up")
        orders = int(sys.argv[2])
        for n in range(orders):
            run_id = f"{n:026d}"
            if await headrace.store.run(run_id) is None:
                await headrace.run(order, {"n": n}, run_id=run_id)
            try:
                await headrace.signal(run_id, "paid", f"paid {n}", key="client")
            except InvalidCommand:  # the order failed, and has ended
                if n % 3 != 0:
                    raise
        for n in range(orders):
            await (await headrace.get(f"{n:026d}")).wait(60)
        for row in await headrace.runs(limit=1000):
            await (await headrace.get(row.run_id)).wait(60)
    note("finished")


if __name__ == "__main__":
    asyncio.run(main())
