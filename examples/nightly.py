"""The ETL example every night, by a schedule: when it will run, two nights made up for, and what became of them.

python examples/nightly.py [STORE [FOLDER]]

``headrace schedules list`` shows the schedule afterwards; it fires while this program or ``headrace up`` runs.
Every night has a database of its own: a run knows the time it stands for, whenever it happens to run.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from headrace import Headrace
from headrace.contracts.store import RunRow

ETL = Path(__file__).with_name("etl.py")


async def main(store: str, folder: str) -> None:
    """Add the schedule, run it for the last two nights, and print what came of it."""
    async with Headrace(store) as headrace:
        view = await headrace.schedules.add(
            "etl-nightly",
            ETL,
            cron="30 2 * * *",
            zone="Europe/Berlin",
            params={"database": folder + "/{{ schedule.date }}.db"},
            jitter="10m",
            catch_up="2d",
            replace=True,
        )
        print(f"the next of {len(view.next)}: {datetime.fromtimestamp(view.next[0], UTC):%Y-%m-%d %H:%M} UTC")
        now = datetime.now(UTC)
        _, count = await headrace.schedules.backfill("etl-nightly", now - timedelta(days=2), now)
        rows: list[RunRow] = []
        while len(rows) < count:
            await asyncio.sleep(0.05)
            rows = await headrace.runs(tags={"schedule": "etl-nightly"}, states=("succeeded",))
        for row in reversed(rows):
            result = await (await headrace.get(row.run_id)).result()
            print(f"{row.tags['schedule_time']}: {result['report']}")


if __name__ == "__main__":
    given = dict(enumerate(sys.argv[1:]))
    asyncio.run(main(given.get(0, "sqlite:///.headrace/headrace.db"), given.get(1, "build/nights")))
