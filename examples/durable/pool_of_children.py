"""A long list of items, a child run for each, a few at a time.

A semaphore bounds how many children live at once. Every so many items the parent continues as a new run, so that no
history grows with the list.

python examples/durable/pool_of_children.py [STORE]
"""

from __future__ import annotations

import asyncio
import sys

from headrace import ChildFailed, Headrace, PermanentError, continue_as_new, task, workflow

ITEMS_PER_RUN = 20


@task(retries=3)
async def square(item: int) -> int:
    """Stands for the work on one item; it cannot be done for 13."""
    await asyncio.sleep(0)
    if item == 13:
        raise PermanentError("13 brings bad luck")
    return item * item


@workflow
async def one_item(item: int) -> int:
    """All that has to be done for one item; it has a history of its own."""
    return await square(item)


@workflow
async def all_items(count: int, at_once: int = 5, begin: int = 0, total: int = 0, failed: int = 0) -> dict[str, int]:
    """Work through ``count`` items, ``at_once`` at a time; one that fails does not hold up the others."""
    slots = asyncio.Semaphore(at_once)

    async def work(item: int) -> int | None:
        async with slots:
            try:
                return await one_item(item)
            except ChildFailed:
                return None

    end = min(begin + ITEMS_PER_RUN, count)
    results = await asyncio.gather(*(work(item) for item in range(begin, end)))
    total += sum(result for result in results if result is not None)
    failed += results.count(None)
    if end < count:
        continue_as_new(begin=end, total=total, failed=failed)
    return {"total": total, "failed": failed}


async def main(store: str) -> None:
    """Fifty items, in three runs."""
    async with Headrace(store) as headrace:
        run = await headrace.start(all_items, 50)
        print(await run.result())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "sqlite:///.headrace/headrace.db"))
