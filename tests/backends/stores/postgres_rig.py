"""A schema of its own for every test, with a clock that moves when told."""

import asyncio
import time
import uuid

import asyncpg
from postgres_server import PostgresServer
from postgres_wire import PostgresWire

from headrace.backends.stores.postgres import PostgresStore
from headrace.backends.stores.postgres_renewal import Renewal
from headrace.backends.stores.postgres_url import place_of_url

WAIT_SECONDS_MAX = 60.0


class PostgresHarness:
    """See :class:`headrace.testing.store_conformance.StoreHarness`. Its clock is a function in the schema."""

    driver_error = asyncpg.PostgresError

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self._offset = 0.0
        self.schema = f"t_{uuid.uuid4().hex[:12]}"
        self.url = self.url_through(server.port)

    def url_through(self, port: int, more: str = "") -> str:
        """The same database, reached through something that listens on that port."""
        return self.server.url(port=port, more=f"?schema={self.schema}{more}")

    def handle(self) -> PostgresStore:
        return PostgresStore(self.url)

    def handle_through(self, port: int) -> PostgresStore:
        return PostgresStore(self.url_through(port))

    def renewal_through(self, port: int) -> Renewal:
        return Renewal(place_of_url(self.url_through(port)))

    def wire(self) -> PostgresWire:
        return PostgresWire()

    def counting(self, table: str) -> str:
        return f"SELECT count(*) FROM {self.schema}.{table}"

    async def claim_late(self, node: str, epoch: int) -> None:
        db = await asyncpg.connect(self.url.partition("?")[0])
        try:
            await db.execute(f"SELECT {self.schema}.claim_1('{node}', {epoch}, 10, NULL, 1, 0)")
        finally:
            await db.close()

    def sql(self, text: str) -> str:
        """What psql prints; {schema} is replaced."""
        return self.server.sql("postgres", text.replace("{schema}", self.schema))

    async def advance(self, seconds: float) -> None:
        self._offset += seconds
        clock = f"SELECT extract(epoch FROM clock_timestamp())::double precision + {self._offset}"
        text = f"CREATE OR REPLACE FUNCTION {{schema}}.clock_seconds() RETURNS double precision LANGUAGE sql AS $${clock}$$"
        await asyncio.to_thread(self.sql, text)

    async def until(self, text: str) -> None:
        """Wait until a query of one value says true."""
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while await asyncio.to_thread(self.sql, text) != "t":
            assert time.monotonic() < deadline, text

    async def until_blocked(self, function: str) -> None:
        """Wait until a call of one of our functions waits for a lock."""
        await self.until(
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND state = 'active'"
            f" AND query LIKE '%{self.schema}.{function}%' AND pid <> pg_backend_pid()"
        )
