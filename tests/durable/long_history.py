"""One engine in the life of a run with a long history: ``python long_history.py STORE CALLS PHASE``. Prints figures as JSON.

``born``: starts the run and is killed in the middle of it. ``heir``: takes it over, does the rest and ends in an orderly
way. ``last``: takes it over, brings the signal it waits for and replays what is stored.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
import time
from typing import Any

from headrace import Headrace, query, task, wait_for_signal, workflow

STORE, CALLS, PHASE = sys.argv[1], int(sys.argv[2]), sys.argv[3]
"""A call is one event, or two if it outlives a commit."""
AT_ONCE = 500
LOOK_SECONDS = 0.1


@task
async def echo(n: int) -> int:
    if PHASE == "born" and n >= CALLS // 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


@task
async def short() -> int:
    return 1


@workflow
async def other() -> int:
    return await short()


@workflow
async def long(calls: int) -> int:
    total = done = 0

    @query
    def so_far() -> int:
        return done

    for first in range(0, calls, AT_ONCE):
        total += sum(await asyncio.gather(*(echo(n) for n in range(first, min(first + AT_ONCE, calls)))))
        done = min(first + AT_ONCE, calls)
    return total + int(await wait_for_signal("more"))


def memory_mib() -> int:
    """The most that this process has had."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


async def main() -> dict[str, Any]:
    begun = time.perf_counter()
    figures: dict[str, Any] = {}

    def lap(name: str) -> None:
        nonlocal begun
        figures[name] = round(time.perf_counter() - begun, 3)
        begun = time.perf_counter()

    async with Headrace(STORE, workflows=[long, other]) as headrace:
        if PHASE == "born":
            await (await headrace.start(long, CALLS)).wait()
        (row,) = await headrace.runs(where="workflow = 'long'")
        run = await headrace.get(row.run_id)
        if PHASE == "heir":
            figures["found"] = await headrace.query(run.id, "so_far")
            lap("takeover_seconds")
            while await headrace.query(run.id, "so_far") < CALLS:
                await asyncio.sleep(LOOK_SECONDS)
            lap("rest_seconds")
        if PHASE == "last":
            await headrace.signal(run.id, "more", 1)
            figures["result"] = await run.result()
            lap("takeover_and_end_seconds")
            figures["takeover_memory_mib"] = memory_mib()
            del run  # which holds on to the run
            replayed = await headrace.replay(row.run_id)
            lap("replay_seconds")
            figures |= {"events": replayed.events, "difference": replayed.difference}
            replay = asyncio.create_task(headrace.replay(row.run_id))
            longest = 0.0
            while not replay.done():
                at = time.perf_counter()
                assert await (await headrace.start(other)).result() == 1
                longest = max(longest, time.perf_counter() - at)
                await asyncio.sleep(LOOK_SECONDS)
            await replay
            figures["other_run_seconds_max"] = round(longest, 3)
    figures["memory_mib"] = memory_mib()
    return figures


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main())))
