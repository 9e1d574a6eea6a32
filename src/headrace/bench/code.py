"""The code workflows that the workloads D1 to D4 run, as a user would write them."""

from __future__ import annotations

import asyncio

from headrace.bench.tasks import nothing
from headrace.durable.context import wait_for_signal
from headrace.durable.workflow import workflow

BATCH_CALLS = 500
"""Calls side by side in one round of :func:`busy`."""


@workflow
async def hops(count: int) -> None:
    """Calls one after another."""
    for _ in range(count):
        await nothing()


@workflow
async def three() -> None:
    """A short run."""
    await nothing()
    await nothing()
    await nothing()


@workflow
async def busy(calls: int) -> int:
    """A long history: ``calls`` calls, many at a time."""
    left = calls
    while left > 0:
        batch = min(left, BATCH_CALLS)
        await asyncio.gather(*(nothing() for _ in range(batch)))
        left -= batch
    return calls


@workflow
async def waits() -> None:
    """Waits for ever."""
    await wait_for_signal("never")
