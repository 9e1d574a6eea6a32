"""Workload D4, a process of its own: ``python -m headrace.bench.parked URL RUNS`` prints its figures as JSON.

Code workflows are started and wait for a signal that never comes, until all of them have left the memory. What is kept of
them is the growth, from before the first was started (a tenth of them have come and gone by then, so that what the engine
keeps for good is there) to when the last was parked, of the blocks that Python has handed out: any object left over
counts several. The growth of the process is given beside it: it has in it what the runs under way needed at once and the
allocators have kept for next time, and SQLite's cache. The database is measured after it was checkpointed.
"""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import msgspec

from headrace.assembly import Headrace
from headrace.backends.stores.sqlite_files import path_of_url
from headrace.bench.code import waits
from headrace.bench.huge import rss_bytes
from headrace.cli.runtime import run

STARTED_AT_ONCE = 500
IN_MEMORY_MAX = 5_000
"""More are not started before others have been parked: what a process once had in memory it does not give back."""


async def park(engine: Headrace, count: int) -> None:
    """Start runs and wait until all of them are parked."""
    for first in range(0, count, STARTED_AT_ONCE):
        await at_most_in_memory(engine, IN_MEMORY_MAX - 1)
        await asyncio.gather(*(engine.start(waits) for _ in range(min(STARTED_AT_ONCE, count - first))))
    await at_most_in_memory(engine, 0)


async def at_most_in_memory(engine: Headrace, count: int) -> None:
    """Wait until that few runs are left in memory."""
    while engine.runs_in_memory > count:  # noqa: ASYNC110 - nobody tells of parking: that is the point of it
        await asyncio.sleep(0.01)


def database_bytes(path: Path) -> int:
    """What the file holds, with its log folded in."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.stat().st_size


async def measure(url: str, count: int) -> dict[str, float]:
    """All figures of one pass."""
    path = path_of_url(url) if url.startswith("sqlite") else None
    async with Headrace(url) as engine:
        await park(engine, max(2, count // 10))
        gc.collect()
        memory, blocks = rss_bytes(), sys.getallocatedblocks()
        disk = 0 if path is None else database_bytes(path)
        begun = time.perf_counter()
        await park(engine, count)
        seconds = time.perf_counter() - begun
        gc.collect()
        figures = {
            "runs_per_second": count / seconds,
            "blocks_kept_per_run": max(0, sys.getallocatedblocks() - blocks) / count,
            "memory_bytes_per_run": max(0, rss_bytes() - memory) / count,
        }
        if path is not None:
            figures["database_bytes_per_run"] = (database_bytes(path) - disk) / count
    return figures


def main(arguments: list[str]) -> None:
    """Measure and print."""
    figures = run(measure(arguments[0], int(arguments[1])))
    sys.stdout.write(msgspec.json.encode(figures).decode() + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
