"""Ask for an approval, remind, escalate, and give up in the end: people take days, and nothing may be forgotten.

python examples/durable/approval.py [STORE]
"""

from __future__ import annotations

import asyncio
import sys

from headrace import Headrace, query, set_details, task, wait_for_signal, workflow

SENT: list[str] = []
"""Messages that were sent, in order."""


@task(retries=5)
async def notify(person: str, text: str) -> None:
    """Stands for an e-mail."""
    await asyncio.sleep(0)
    SENT.append(f"{person}: {text}")


@workflow
async def approve(document: str, reminders: int = 2, patience_seconds: float = 86_400.0) -> str:
    """Ask the owner, remind them, then ask the manager; both may decide by the signal ``decision``."""
    asked: list[str] = []

    @query
    def waiting_for() -> list[str]:
        return asked

    for person in ("owner", "manager"):
        asked.append(person)
        set_details(f"waiting for the {person}")
        await notify(person, f"please decide on {document}")
        for reminder in range(reminders + 1):
            try:
                async with asyncio.timeout(patience_seconds):
                    decision = await wait_for_signal("decision")
            except TimeoutError:
                if reminder < reminders:
                    await notify(person, f"reminder {reminder + 1}: {document}")
                continue
            await notify("author", f"{document}: {decision}")
            return str(decision)
    await notify("author", f"{document}: nobody answered")
    return "nobody answered"


async def main(store: str) -> None:
    """The owner says nothing, the manager decides."""
    async with Headrace(store) as headrace:
        run = await headrace.start(approve, "budget.pdf", 1, 0.2)
        async for view in run.watch():
            if view.details == "waiting for the manager":
                break
        await headrace.signal(run.id, "decision", "approved")
        print(await run.result())
    print("\n".join(SENT))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "sqlite:///.headrace/headrace.db"))
