"""The raw limits of MySQL: bare statements over a connection of the driver, to a table like the engine's."""

from __future__ import annotations

import time

from headrace.backends.stores.mysql_connections import Connection, Connections
from headrace.backends.stores.mysql_text import placed
from headrace.bench.raw import COMMITS, EVENT, ROWS, ROWS_PER_TRANSACTION, Probe


class MysqlProbes:
    """Measured in a database of their own, which is made by the first probe. A connection is always awaited, so there is
    only one sort of commit."""

    def __init__(self, connections: Connections, database: str) -> None:
        self._connections = connections
        self._table = f"{database}.events"
        self._database = database
        self._made = False
        self._seq = 0
        self.by_name: dict[str, Probe] = {
            "commit_ms": lambda: connections.call(self._commit_ms),
            "rows_per_second": lambda: connections.call(self._rows),
        }

    async def _make(self, db: Connection) -> None:
        if not self._made:
            await db.run(f"CREATE DATABASE {self._database}".encode())  # a name made by us
            await db.run(
                f"CREATE TABLE {self._table} (run_id VARBINARY(255) NOT NULL, seq INT NOT NULL, data LONGBLOB NOT NULL,"
                " PRIMARY KEY (run_id, seq)) ENGINE=InnoDB".encode()
            )
            self._made = True

    async def _commit_ms(self, db: Connection) -> float:
        await self._make(db)
        text = f"INSERT INTO {self._table} VALUES (?, ?, ?)"  # noqa: S608 - the same name
        begun = time.perf_counter()
        for _ in range(COMMITS):
            self._seq += 1
            await db.run(placed(text, ("one", self._seq, EVENT)))
        return (time.perf_counter() - begun) / COMMITS * 1000

    async def _rows(self, db: Connection) -> float:
        await self._make(db)
        self._seq += 1
        row, run_id = "(?, ?, ?)", f"many-{self._seq}"
        text = f"INSERT INTO {self._table} VALUES {', '.join([row] * ROWS_PER_TRANSACTION)}"  # noqa: S608
        begun = time.perf_counter()
        for first in range(0, ROWS, ROWS_PER_TRANSACTION):
            rows = ((run_id, seq, EVENT) for seq in range(first, first + ROWS_PER_TRANSACTION))
            await db.run(placed(text, [value for row in rows for value in row]))
        return ROWS / (time.perf_counter() - begun)
