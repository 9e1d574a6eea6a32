"""The raw limits of PostgreSQL: bare statements over a connection of the driver, to a table like the engine's."""

from __future__ import annotations

import time

from headrace.backends.stores.postgres_connections import Connection, Connections
from headrace.bench.raw import COMMITS, EVENT, ROWS, ROWS_PER_TRANSACTION, Probe


class PostgresProbes:
    """Measured in a schema of their own, which is made by the first probe. A connection is always awaited, so there is
    only one sort of commit."""

    def __init__(self, connections: Connections, schema: str) -> None:
        self._connections = connections
        self._schema = schema
        self._made = False
        self._seq = 0
        self.by_name: dict[str, Probe] = {
            "commit_ms": lambda: connections.call(self._commit_ms),
            "rows_per_second": lambda: connections.call(self._rows),
        }

    async def _make(self, db: Connection) -> None:
        if not self._made:
            await db.execute(f"CREATE SCHEMA {self._schema}")  # a name made by us
            await db.execute(
                f'CREATE TABLE {self._schema}.events (run_id text COLLATE "C" NOT NULL, seq integer NOT NULL,'
                " data text NOT NULL, PRIMARY KEY (run_id, seq))"
            )
            self._made = True

    async def _commit_ms(self, db: Connection) -> float:
        await self._make(db)
        text = f"INSERT INTO {self._schema}.events VALUES ($1, $2, $3)"  # noqa: S608 - the same name
        begun = time.perf_counter()
        for _ in range(COMMITS):
            self._seq += 1
            await db.execute(text, "one", self._seq, EVENT)
        return (time.perf_counter() - begun) / COMMITS * 1000

    async def _rows(self, db: Connection) -> float:
        await self._make(db)
        self._seq += 1
        text = f"INSERT INTO {self._schema}.events SELECT * FROM unnest($1::text[], $2::integer[], $3::text[])"  # noqa: S608
        run_ids, data = [f"many-{self._seq}"] * ROWS_PER_TRANSACTION, [EVENT] * ROWS_PER_TRANSACTION
        begun = time.perf_counter()
        for first in range(0, ROWS, ROWS_PER_TRANSACTION):
            await db.execute(text, run_ids, list(range(first, first + ROWS_PER_TRANSACTION)), data)
        return ROWS / (time.perf_counter() - begun)
