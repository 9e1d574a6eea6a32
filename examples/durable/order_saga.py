"""An order in three steps, each of which can be undone: either all of them stand in the end, or none.

python examples/durable/order_saga.py [STORE]

It orders four times: once with every step failing in turn, once with none.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

from headrace import Headrace, PermanentError, RunFailed, saga, task, workflow

BOOKS: dict[str, set[str]] = {"stock": set(), "payments": set(), "parcels": set()}
"""What other services hold for us, by order. Every task may run again after a crash, so all of them are idempotent."""

DONE: Counter[str] = Counter()
"""How often each task's code has run to its end."""


async def change(book: str, order: str, action: str, *, add: bool, broken: str | None = None) -> str:
    """Stands for a request to a service."""
    await asyncio.sleep(0)
    if action == broken:
        raise PermanentError(f"the service refused to {action} {order}")
    (BOOKS[book].add if add else BOOKS[book].discard)(order)
    DONE[action] += 1
    return f"{action} {order}"


@task(retries=3, timeout="10s")
async def reserve(order: str, broken: str | None) -> str:
    """Keep the goods for this order."""
    return await change("stock", order, "reserve", add=True, broken=broken)


@task
async def release(order: str) -> str:
    """Give the goods back."""
    return await change("stock", order, "release", add=False)


@task(retries=3, timeout="10s")
async def charge(order: str, broken: str | None) -> str:
    """Take the money; returns the receipt."""
    return await change("payments", order, "charge", add=True, broken=broken)


@task
async def refund(receipt: str) -> str:
    """Give the money back."""
    return await change("payments", receipt.removeprefix("charge "), "refund", add=False)


@task(retries=3, timeout="10s")
async def ship(order: str, broken: str | None) -> str:
    """Send the parcel."""
    return await change("parcels", order, "ship", add=True, broken=broken)


@workflow
async def place_order(order: str, broken: str | None = None) -> str:
    """Reserve, charge, ship. ``broken`` is the step that fails."""
    async with saga() as s:
        await s.step(reserve(order, broken), undo=release(order))
        receipt = await s.step(charge(order, broken), undo=refund)
        await s.step(ship(order, broken))
    return receipt


async def main(store: str) -> None:
    """Every step fails in turn; the books are balanced every time."""
    async with Headrace(store) as headrace:
        for broken in ("reserve", "charge", "ship", None):
            run = await headrace.start(place_order, f"order-{broken or 'good'}", broken)
            try:
                outcome = await run.result()
            except RunFailed:
                outcome = f"failed at {broken}"
            steps = (await run.show()).memo["saga"]["steps"]
            print(f"{outcome}:", ", ".join(f"{entry['step']} {entry['state']}" for entry in steps))
    print({book: sorted(orders) for book, orders in BOOKS.items()})


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "sqlite:///.headrace/headrace.db"))
