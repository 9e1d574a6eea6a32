"""A table of the user's beside the engine's, on each server, and how a database task writes into it."""

from __future__ import annotations

from typing import Any, Protocol

from mariadb_server import MariadbServer
from mysql_rig import MysqlHarness
from postgres_rig import PostgresHarness
from postgres_server import PostgresServer


class DatabaseRig(Protocol):
    """One database of the engine's with a table ``moves`` of the user's."""

    harness: PostgresHarness | MysqlHarness
    table: str

    def prepare(self) -> None:
        """Make the table; the store has been opened."""
        ...

    def rows(self) -> list[str]:
        """Its rows, as ``account amount``."""
        ...

    def kept(self) -> list[str]:
        """Outcomes that are kept: ``task``, with `` -`` behind it if there is no output."""
        ...


class PostgresDatabase:
    def __init__(self, server: PostgresServer) -> None:
        self.harness = PostgresHarness(server)
        self.table = f"{self.harness.schema}.moves"

    def prepare(self) -> None:
        self.harness.sql(f"CREATE TABLE {self.table} (account text, amount integer CHECK (amount <> 0))")

    def rows(self) -> list[str]:
        return self.harness.sql(f"SELECT account || ' ' || amount FROM {self.table} ORDER BY 1").splitlines()

    def kept(self) -> list[str]:
        text = "SELECT task || CASE WHEN output IS NULL THEN ' -' ELSE '' END FROM {schema}.task_outcomes ORDER BY 1"
        return self.harness.sql(text).splitlines()


class MysqlDatabase:
    def __init__(self, server: MariadbServer) -> None:
        self.harness = MysqlHarness(server)
        self.table = "moves"

    def prepare(self) -> None:
        self.harness.sql("CREATE TABLE moves (account VARCHAR(50), amount INT CHECK (amount <> 0)) ENGINE=InnoDB")

    def rows(self) -> list[str]:
        return self.harness.sql("SELECT CONCAT(account, ' ', amount) FROM moves ORDER BY 1").splitlines()

    def kept(self) -> list[str]:
        return self.harness.sql("SELECT CONCAT(task, IF(output IS NULL, ' -', '')) FROM task_outcomes").splitlines()


async def do(db: Any, statement: str, *values: Any) -> Any:
    """Run a statement with ``%s`` for its values, with whichever driver; the first value of its first row, if any."""
    if hasattr(db, "fetchval"):
        for number in range(1, len(values) + 1):
            statement = statement.replace("%s", f"${number}", 1)
        return await db.fetchval(statement, *values)
    async with db.cursor() as cursor:
        await cursor.execute(statement, values or None)
        row = await cursor.fetchone()
        return row[0] if row else None


async def move(db: Any, table: str, account: str, amount: int) -> int:
    """Write a row; the sum of that account's."""
    await do(db, f"INSERT INTO {table} (account, amount) VALUES (%s, %s)", account, amount)
    return int(await do(db, f"SELECT SUM(amount) FROM {table} WHERE account = %s", account))
