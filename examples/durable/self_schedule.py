"""A run that does something at fixed times, for ever, and is one run of many in a chain.

Every round ends by beginning anew, with the time of the next round as a parameter: no history grows, no round is lost or
doubled, and a late start does not shift the following ones. The signal ``pace`` changes the interval.

python examples/durable/self_schedule.py [STORE]
"""

from __future__ import annotations

import asyncio
import sys
import time

from headrace import Headrace, continue_as_new, task, wait_for_signal, workflow

REPORTS: list[int] = []


@task(retries=10)
async def report(number: int) -> None:
    """Stands for the work of one round."""
    await asyncio.sleep(0)
    REPORTS.append(number)


@workflow
async def keep_reporting(
    interval_seconds: float, rounds: int, number: int = 1, due: float | None = None
) -> dict[str, float]:
    """Report ``rounds`` times, ``interval_seconds`` apart. A real one would have no end."""
    due = time.time() if due is None else due
    try:
        async with asyncio.timeout(max(0.0, due - time.time())):
            interval_seconds = float(await wait_for_signal("pace"))
            due = min(due, time.time() + interval_seconds)
            await asyncio.sleep(due - time.time())
    except TimeoutError:
        pass
    await report(number)
    if number == rounds:
        return {"rounds": number, "due": due}
    return continue_as_new(interval_seconds=interval_seconds, number=number + 1, due=due + interval_seconds)


async def main(store: str) -> None:
    """Five rounds, a fifth of a second apart."""
    async with Headrace(store) as headrace:
        run = await headrace.start(keep_reporting, 0.2, 5)
        print(await run.result())
    print(REPORTS)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "sqlite:///.headrace/headrace.db"))
