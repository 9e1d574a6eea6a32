"""A workflow of three tasks, and a node that carries it out: ``postgres_flow.py URL NODE LEASE_SECONDS FOLDER``.

Its second task never ends on the node named ``victim``; the node says on stdout when it has begun.
"""

import asyncio
import sys
from pathlib import Path

from headrace import Headrace, dag, task

NODE = sys.argv[2] if len(sys.argv) == 5 else ""


@task
async def first() -> int:
    return 20


@task
async def second(number: int) -> int:
    if NODE == "victim":
        print("begun", flush=True)
        await asyncio.Event().wait()
    return number + 1


@task
async def third(number: int) -> int:
    return number * 2


with dag("postgres-flow") as flow:
    third(second(first()))


async def main(url: str, lease_seconds: float, folder: str) -> None:
    async with Headrace(
        url, workflows=[flow], node=NODE, lease_seconds=lease_seconds, data_dir=Path(folder) / NODE
    ) as headrace:
        run = await headrace.run(flow)
        print("started", run.id, flush=True)
        await run.result()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[3]), sys.argv[4]))
