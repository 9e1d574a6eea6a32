"""An engine that dies at a chosen point of a database task: ``python database_process.py URL POINT LEDGER``.

LEDGER gets a line whenever the task's code runs. With the point ``never`` the run goes on to its end.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

from headrace import Headrace, current_attempt, database_task, run_task, workflow
from headrace.backends.stores.sqlite import SqliteStore
from headrace.contracts.store import Flush

URL, POINT, LEDGER = sys.argv[1:4]


def die(point: str) -> None:
    if point == POINT:
        os.kill(os.getpid(), signal.SIGKILL)


@database_task(retries=3)
def debit(db: sqlite3.Connection, account: str, amount: int) -> int:
    with Path(LEDGER).open("a") as ledger:
        ledger.write(f"{current_attempt().key}\n")
    die("begun")
    db.execute("INSERT INTO moves (account, amount) VALUES (?, ?)", (account, -amount))
    die("written")
    return db.execute("SELECT 100 + sum(amount) FROM moves WHERE account = ?", (account,)).fetchone()[0]


@workflow
async def pay() -> list[int]:
    return [await run_task(debit, "alice", 5), await run_task(debit, "alice", 7)]


class MortalStore(SqliteStore):
    async def transact(self, *given: Any) -> bytes:
        kept = await super().transact(*given)
        die("committed")
        return kept

    def commit_now(self, flush: Flush) -> bool:
        return False

    async def commit(self, flush: Flush) -> None:
        await super().commit(flush)
        if any(b"task.succeeded" in data for _, _, data in flush.events):
            die("recorded")


async def main() -> None:
    async with Headrace(MortalStore(URL), workflows=[pay]) as hr:
        runs = await hr.runs()
        run = await hr.get(runs[0].run_id) if runs else await hr.start(pay)
        print(await run.result(30))


if __name__ == "__main__":
    asyncio.run(main())
