"""An engine on a server that dies at a chosen point of a database task:
``python database_task_process.py URL TABLE POINT LEDGER [NODE LEASE_SECONDS]``.

LEDGER gets a line whenever the task's code runs. With the point ``never`` the run goes on to its end; at ``suspended`` the
process stands still in the middle of the transaction instead of dying.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from database_rigs import move

from headrace import Headrace, current_attempt, database_task, run_task, workflow
from headrace.backends.stores import open_store, task_transactions
from headrace.contracts.store import Flush

URL, TABLE, POINT, LEDGER = sys.argv[1:5]
NODE, LEASE_SECONDS = sys.argv[5:] or ("n", "15")
task_transactions.TRANSACTION_SECONDS_MAX = 3.0


def die(point: str) -> None:
    if point == POINT:
        os.kill(os.getpid(), signal.SIGKILL)


@database_task(retries=3)
async def debit(db: Any, account: str, amount: int) -> int:
    with Path(LEDGER).open("a") as ledger:
        ledger.write(f"{current_attempt().key}\n")
    die("begun")
    left = 100 + await move(db, TABLE, account, -amount)
    die("written")
    if POINT == "suspended":
        os.kill(os.getpid(), signal.SIGSTOP)
    return left


@workflow
async def pay() -> list[int]:
    return [await run_task(debit, "alice", 5), await run_task(debit, "alice", 7)]


class Mortal:
    """A store whose process dies after a transaction, or after the flush that tells of it."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def transact(self, *given: Any) -> bytes:
        kept = await self._inner.transact(*given)
        die("committed")
        return kept

    async def commit(self, flush: Flush) -> None:
        await self._inner.commit(flush)
        if any(b"task.succeeded" in data for _, _, data in flush.events):
            die("recorded")


async def main() -> None:
    store: Any = Mortal(open_store(URL))
    async with Headrace(
        store, workflows=[pay], node=NODE, data_dir=Path(LEDGER).parent, lease_seconds=float(LEASE_SECONDS)
    ) as hr:
        runs = await hr.runs()
        run = await hr.get(runs[0].run_id) if runs else await hr.start(pay)
        print(await run.result(40))


if __name__ == "__main__":
    asyncio.run(main())
