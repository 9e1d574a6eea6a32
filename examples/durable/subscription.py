"""A subscription that lives for a year: a trial, monthly payments, changes of plan, reminders for unpaid bills.

python examples/durable/subscription.py

It runs on virtual time, so the year is over in a moment; with ``Headrace`` in place of ``Environment`` it takes one.
"""

from __future__ import annotations

import asyncio

from headrace import TaskFailed, query, set_attributes, signal, task, update, wait_until, workflow
from headrace.testing import Environment

DAY = 86_400.0
PRICES = {"basic": 5, "pro": 20}
DUNNING_DAYS = (3, 7, 14)
"""After so many more days an unpaid bill is tried again."""

LEDGER: list[str] = []


@task(retries=3)
async def bill(customer: str, month: int, amount: int) -> int:
    """Stands for a payment."""
    await asyncio.sleep(0)
    LEDGER.append(f"{customer} month {month}: {amount}")
    return amount


@task(retries=3)
async def send(customer: str, text: str) -> None:
    """Stands for an e-mail."""
    await asyncio.sleep(0)
    LEDGER.append(f"{customer} <- {text}")


@workflow
async def subscription(customer: str, plan: str = "basic", months: int = 12, trial_days: int = 30) -> dict[str, int]:
    """One customer's year."""
    paid = 0
    month = 0
    cancelled = False

    @query
    def status() -> dict[str, object]:
        return {"plan": plan, "month": month, "paid": paid, "cancelled": cancelled}

    @signal
    def cancel() -> None:
        nonlocal cancelled
        cancelled = True

    @update
    async def change_plan(to: str) -> int:
        nonlocal plan
        plan = to
        set_attributes(plan=to)
        await send(customer, f"your plan is {to} now")
        return PRICES[to]

    @change_plan.validator
    def _(to: str) -> None:
        if to not in PRICES:
            raise ValueError(f"there is no plan {to!r}; there are: {', '.join(PRICES)}")

    async def leaves_within(days: float) -> bool:
        try:
            async with asyncio.timeout(days * DAY):
                await wait_until(lambda: cancelled)
        except TimeoutError:
            return False
        return True

    async def collect() -> bool:
        nonlocal paid
        for days in (0, *DUNNING_DAYS):
            if days and (await send(customer, "your payment failed") or await leaves_within(days)):
                return False
            try:
                paid += await bill(customer, month, PRICES[plan])
            except TaskFailed:
                continue
            return True
        return False

    set_attributes(plan=plan)
    await send(customer, "welcome")
    if not await leaves_within(trial_days):
        for number in range(1, months + 1):
            month = number
            if not await collect() or await leaves_within(30):
                break
    await send(customer, "goodbye")
    return {"months": month, "paid": paid}


async def main() -> None:
    """A year in which the customer changes the plan once and misses a payment."""
    async with Environment() as env:
        run = await env.start(subscription, "Ada")
        await env.advance("100d")
        print(env.now.date(), await run.query("status"))
        await run.update("change_plan", "pro")
        env.fail(bill, times=3, error=ConnectionError("the bank is closed"))
        print(await run.result())
        print(env.now.date(), len(LEDGER), "entries")
    print("\n".join(LEDGER))


if __name__ == "__main__":
    asyncio.run(main())
