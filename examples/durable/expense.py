"""An expense claim: small ones are paid at once, others wait for a person, and lists show what waits and for how much.

python examples/durable/expense.py [STORE]
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys

from headrace import Headrace, query, set_attributes, task, wait_for_signal, workflow

SMALL = 50.0
PAID: dict[str, float] = {}


@dataclasses.dataclass
class Claim:
    """What somebody wants back."""

    claim_id: str
    amount: float
    what: str


@dataclasses.dataclass
class Verdict:
    """What somebody says to it."""

    approved: bool
    by: str
    comment: str = ""


@task(retries=5)
async def pay(claim: Claim) -> float:
    """Pay; the claim's id makes a repeated request harmless."""
    await asyncio.sleep(0)
    PAID[claim.claim_id] = claim.amount
    return claim.amount


@workflow
async def expense(claim: Claim, patience_seconds: float = 14 * 86_400.0) -> str:
    """Decide on a claim and pay it."""
    verdict: Verdict | None = None

    @query
    def decision() -> Verdict | None:
        return verdict

    set_attributes(amount=claim.amount, status="open")
    if claim.amount <= SMALL:
        verdict = Verdict(approved=True, by="rule", comment=f"at most {SMALL:g}")
    else:
        try:
            async with asyncio.timeout(patience_seconds):
                verdict = Verdict(**await wait_for_signal("verdict"))
        except TimeoutError:
            verdict = Verdict(approved=False, by="rule", comment="nobody decided in time")
    if not verdict.approved:
        set_attributes(status="refused")
        return f"refused by {verdict.by}: {verdict.comment}"
    await pay(claim)
    set_attributes(status="paid")
    return f"paid {claim.amount:g}, approved by {verdict.by}"


async def main(store: str) -> None:
    """A small claim and a large one."""
    async with Headrace(store) as headrace:
        small = await headrace.start(expense, Claim("e-1", 12.5, "lunch"))
        large = await headrace.start(expense, Claim("e-2", 980.0, "flight"))
        print(await small.result())
        await headrace.signal(large.id, "verdict", Verdict(approved=True, by="Grace"))
        print(await large.result())
    print(PAID)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "sqlite:///.headrace/headrace.db"))
