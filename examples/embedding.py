"""Headrace inside a program of your own: no server, no files but the store.

python examples/embedding.py [STORE]

The engine lives as long as the ``async with`` block. STORE is by default that of the command line, so
``headrace runs list`` shows the run afterwards; kill the program half-way and the next start finishes what was begun.
"""

from __future__ import annotations

import asyncio
import sys

from headrace import Headrace, dag, task


@task
async def price(item: str) -> int:
    """Asynchronous functions run on the program's own event loop; this one stands for a call to a service."""
    await asyncio.sleep(0)
    return len(item) * 10


@task
def total(prices: list[int], discount: float) -> float:
    """Ordinary functions run in a thread, so that they never hold up the loop."""
    return round(sum(prices) * (1 - discount), 2)


with dag("order", params={"items": ["wheel", "axle", "sluice"], "discount": 0.0}) as order:
    total(price.map(item=order.params.items), order.params.discount)


async def main(store: str) -> None:
    """Start one run, wait for it, and print its result."""
    async with Headrace(store) as headrace:
        run = await headrace.run(order, {"discount": 0.1})
        result = await run.result()
        print(f"run {run.id}: {result['total']}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "sqlite:///.headrace/headrace.db"))
