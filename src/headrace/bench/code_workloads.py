"""Workloads of code workflows: hops, many short runs, replay. D4 is in :mod:`headrace.bench.parked`."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from headrace.bench import code

if TYPE_CHECKING:
    from headrace.bench.workloads import Figures, Stage

RUNS_AT_ONCE = 1_000
REPLAYED_HOPS = 5_000
REPLAYED_CALLS = 20_000
REPLAYS = 3


async def hops(stage: Stage) -> Figures:
    """D1: calls one after another."""
    count = stage.count(200)
    begun = time.perf_counter()
    await (await stage.engine.start(code.hops, count)).result()
    return {"hop_ms": (time.perf_counter() - begun) / count * 1000}


async def short_runs(stage: Stage) -> Figures:
    """D2: many runs of three calls."""

    async def complete() -> None:
        await (await stage.engine.start(code.three)).result()

    count = stage.count(RUNS_AT_ONCE)
    begun = time.perf_counter()
    await asyncio.gather(*(complete() for _ in range(count)))
    return {"runs_per_second": count / (time.perf_counter() - begun)}


async def replay(stage: Stage) -> Figures:
    """D3: runs of many calls, one after another and side by side, are replayed from the store. Making their histories is
    not part of it."""
    hops = await stage.engine.start(code.hops, stage.count(REPLAYED_HOPS))
    await hops.result()
    busy = await stage.engine.start(code.busy, stage.count(REPLAYED_CALLS))
    await busy.result()
    return {
        "events_per_second": await _events_per_second(stage, hops.id),
        "gathered_events_per_second": await _events_per_second(stage, busy.id),
    }


async def _events_per_second(stage: Stage, run_id: str) -> float:
    events = 0
    begun = time.perf_counter()
    for _ in range(REPLAYS):
        replayed = await stage.engine.replay(run_id)
        assert replayed.difference is None
        events += replayed.events
    return events / (time.perf_counter() - begun)
