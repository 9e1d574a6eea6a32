"""Three ways to wait for a slow service that cannot call back.

Often (every second or so): inside of one attempt, which tells by heartbeats that it lives. Rarely (every few minutes):
one attempt per look, and the retry policy as the pause. For ever: a loop with a durable timer, which begins anew from
time to time so that its history stays short.

python examples/durable/polling.py [STORE]
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

from headrace import Headrace, RetryableError, continue_as_new, current_attempt, task, workflow

LOOKS: Counter[str] = Counter()
"""How often each job has been looked at."""

LOOKS_PER_RUN = 50
"""Rounds of the periodic loop before it begins anew."""


async def is_ready(job: str, after: int) -> bool:
    """Stands for a request: the job is ready at the look number ``after``."""
    await asyncio.sleep(0)
    LOOKS[job] += 1
    return LOOKS[job] >= after


@task(retries=3, timeout={"attempt": "1h", "heartbeat": "30s"})
async def wait_often(job: str, after: int, pause_seconds: float) -> str:
    """Look again and again within one attempt. A crash loses the attempt, not the job: the next one looks on."""
    looks = 0
    while not await is_ready(job, after):
        looks += 1
        current_attempt().heartbeat({"looks": looks})
        await asyncio.sleep(pause_seconds)
    return f"{job} is ready"


@task(retries=1_000)
async def wait_rarely(job: str, after: int, pause_seconds: float) -> str:
    """Look once; if it is too early, say when to try again. Nothing runs in between."""
    if not await is_ready(job, after):
        raise RetryableError(f"{job} is not ready", after=pause_seconds)
    return f"{job} is ready"


@task(retries=3)
async def look(job: str, after: int) -> bool:
    """One look."""
    return await is_ready(job, after)


@workflow
async def often(job: str, after: int, pause_seconds: float = 1.0) -> str:
    """Poll inside of a task."""
    return await wait_often(job, after, pause_seconds)


@workflow
async def rarely(job: str, after: int, pause_seconds: float = 300.0) -> str:
    """Poll by retries."""
    return await wait_rarely(job, after, pause_seconds)


@workflow
async def periodically(job: str, after: int, pause_seconds: float = 3_600.0) -> str:
    """Poll by a timer, for as long as it takes."""
    for _ in range(LOOKS_PER_RUN):
        if await look(job, after):
            return f"{job} is ready"
        await asyncio.sleep(pause_seconds)
    return continue_as_new()


async def main(store: str) -> None:
    """All three, with short pauses."""
    async with Headrace(store) as headrace:
        for poll in (often, rarely, periodically):
            job = f"what is polled {poll.spec.name}"
            run = await headrace.start(poll, job, 5, 0.02)
            print(f"{await run.result()} after {LOOKS[job]} looks")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "sqlite:///.headrace/headrace.db"))
