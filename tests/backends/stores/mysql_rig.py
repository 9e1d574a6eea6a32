"""A database of its own for every test, with a clock that moves when told."""

import asyncio
import time
import uuid

import asyncmy
from mariadb_server import MariadbServer
from mysql_wire import MysqlWire

from headrace.backends.stores.mysql import MysqlStore
from headrace.backends.stores.mysql_connections import connect
from headrace.backends.stores.mysql_renewal import Renewal
from headrace.backends.stores.mysql_url import place_of_url

WAIT_SECONDS_MAX = 60.0


class MysqlHarness:
    """See :class:`headrace.testing.store_conformance.StoreHarness`. Its clock is a view in the database."""

    driver_error = asyncmy.errors.MySQLError

    def __init__(self, server: MariadbServer) -> None:
        self.server = server
        self._offset = 0.0
        self.database = f"t_{uuid.uuid4().hex[:12]}"
        self.url = self.url_through(server.port)

    def url_through(self, port: int, more: str = "") -> str:
        """The same database, reached through something that listens on that port."""
        return self.server.url(self.database, port=port, more=more)

    def handle(self) -> MysqlStore:
        return MysqlStore(self.url)

    def handle_through(self, port: int) -> MysqlStore:
        return MysqlStore(self.url_through(port))

    def renewal_through(self, port: int) -> Renewal:
        return Renewal(place_of_url(self.url_through(port)))

    def wire(self) -> MysqlWire:
        return MysqlWire()

    def counting(self, table: str) -> str:
        return f"SELECT COUNT(*) FROM {table}"

    async def claim_late(self, node: str, epoch: int) -> None:
        db = await connect(place_of_url(self.url))
        try:
            await db.run(b"CALL claim_1('%s', %d, 10, NULL, 1, 0)" % (node.encode(), epoch))
        finally:
            await db.close()

    def sql(self, text: str) -> str:
        """What the server's client prints, in the database of the test."""
        return self.server.sql(f"USE {self.database}; {text}")

    async def advance(self, seconds: float) -> None:
        self._offset += seconds
        clock = f"SELECT UNIX_TIMESTAMP(SYSDATE(6)) + {self._offset}e0 AS seconds"
        await asyncio.to_thread(self.sql, f"CREATE OR REPLACE SQL SECURITY INVOKER VIEW clock AS {clock}")

    async def until(self, text: str) -> None:
        """Wait until a query of one value says 1."""
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while await asyncio.to_thread(self.sql, text) != "1":
            assert time.monotonic() < deadline, text
            await asyncio.sleep(0.15)  # InnoDB's list of transactions stays as it is while it is read more often

    async def until_blocked(self, statement: str) -> None:
        """Wait until a statement that contains this waits for a lock."""
        await self.until(
            "SELECT COUNT(*) > 0 FROM information_schema.innodb_trx JOIN information_schema.processlist"
            " ON processlist.id = trx_mysql_thread_id WHERE trx_state = 'LOCK WAIT'"
            f" AND db = '{self.database}' AND trx_query LIKE '%{statement}%'"
        )
