"""A run that manages a thing for as long as it lives, and answers requests about it safely.

Requests come at any time and take their time, so they interleave: a lock keeps two of them from giving out the same
machine, a validator refuses what cannot be, and the run ends only when every request has its answer.

python examples/durable/cluster_manager.py [STORE]
"""

from __future__ import annotations

import asyncio
import sys

from headrace import Headrace, UpdateRejected, query, task, update, wait_for_signal, wait_until, workflow

ASSIGNED: list[str] = []
"""What was asked of the machines, in order."""


@task(retries=3)
async def assign(job: str, machines: list[str]) -> None:
    """Stands for a slow request to the machines."""
    await asyncio.sleep(0)
    ASSIGNED.append(f"{job}: {' '.join(machines)}")


@task(retries=3)
async def clear(machines: list[str]) -> None:
    """Make machines free again."""
    await asyncio.sleep(0)
    ASSIGNED.append(f"free: {' '.join(machines)}")


@workflow
async def manage_cluster(size: int) -> dict[str, str]:
    """Give machines to jobs until the signal ``shut down``; returns who had which."""
    jobs: dict[str, str] = {}
    lock = asyncio.Lock()
    open_requests = 0
    closing = False

    def free() -> list[str]:
        return [machine for number in range(size) if (machine := f"m{number}") not in jobs]

    @query
    def status() -> dict[str, str]:
        return dict(jobs)

    @update
    async def allocate(job: str, count: int) -> list[str]:
        nonlocal open_requests
        open_requests += 1
        try:
            async with lock:  # between the look and the booking somebody else's request could run
                chosen = free()[:count]
                if len(chosen) < count:
                    raise ValueError(f"{count} machines were asked for, {len(chosen)} are free")
                await assign(job, chosen)
                jobs.update(dict.fromkeys(chosen, job))
            return chosen
        finally:
            open_requests -= 1

    @allocate.validator
    def _(job: str, count: int) -> None:
        if not 0 < count <= size:
            raise ValueError(f"count is 1 to {size}, not {count}")
        if closing:
            raise ValueError("the cluster is being shut down")

    @update
    async def release(job: str) -> int:
        nonlocal open_requests
        open_requests += 1
        try:
            async with lock:
                mine = [machine for machine, owner in jobs.items() if owner == job]
                if mine:
                    await clear(mine)
                for machine in mine:
                    del jobs[machine]
            return len(mine)
        finally:
            open_requests -= 1

    await wait_for_signal("shut down")
    closing = True
    await wait_until(lambda: open_requests == 0)
    return jobs


async def main(store: str) -> None:
    """Requests at the same time, one too many, one refused."""
    async with Headrace(store) as headrace:
        run = await headrace.start(manage_cluster, 5)
        both = await asyncio.gather(
            headrace.update(run.id, "allocate", "index", 2), headrace.update(run.id, "allocate", "train", 3)
        )
        print(both)
        for count in (1, 9):
            try:
                await headrace.update(run.id, "allocate", "more", count)
            except UpdateRejected as refused:
                print(refused)
        await headrace.update(run.id, "release", "index")
        print(await headrace.query(run.id, "status"))
        await headrace.signal(run.id, "shut down")
        print(await run.result())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "sqlite:///.headrace/headrace.db"))
