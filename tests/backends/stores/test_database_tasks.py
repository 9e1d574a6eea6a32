"""Database tasks on servers: rows and outcome in one transaction, whatever happens. On SQLite: ``tests/durable``."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from database_rigs import DatabaseRig, MysqlDatabase, PostgresDatabase, do, move
from mysql_wire import MysqlWire
from network import Network
from outages import CUTS
from postgres_wire import PostgresWire

from headrace import Headrace, InvalidDefinition, RetryPolicy, RunFailed, database_task, run_task, workflow
from headrace.backends.stores import open_store, task_transactions
from headrace.core.errors import StoreUnavailable
from headrace.testing.store_conformance.stage import Node, Stage, new_run, run_id

PROGRAM = Path(__file__).with_name("database_task_process.py")


@pytest.fixture(params=["postgres", "mariadb"])
def rig(request: pytest.FixtureRequest) -> DatabaseRig:
    server = request.getfixturevalue(request.param)
    rig: DatabaseRig = PostgresDatabase(server) if request.param == "postgres" else MysqlDatabase(server)

    async def make() -> None:
        store = rig.harness.handle()
        await store.open()
        await store.close()

    asyncio.run(make())
    rig.prepare()
    return rig


def run(rig: DatabaseRig, folder: Path, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """What a workflow of one database task gives."""

    @workflow
    async def code() -> Any:
        return await run_task(database_task(retries=RetryPolicy(attempts=2, initial=0.0))(function), *args)

    async def start() -> Any:
        async with Headrace(rig.harness.url, workflows=[code], data_dir=folder) as hr:
            return await (await hr.start(code)).result(50)

    return asyncio.run(start())


@pytest.mark.parametrize(("point", "times"), [("begun", 2), ("written", 2), ("committed", 1), ("recorded", 1)])
def test_after_a_crash_rows_and_outcome_are_both_there_or_both_not(
    point: str, times: int, rig: DatabaseRig, tmp_path: Path
) -> None:
    """The process dies in the first task; another one of the same name goes on."""
    ledger = tmp_path / "ledger"

    def start(where: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(PROGRAM), rig.harness.url, rig.table, where, str(ledger)]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)

    died = start(point)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert rig.rows() == (["alice -5"] if point in ("committed", "recorded") else [])
    assert len(rig.kept()) == (1 if point == "committed" else 0)
    finished = start("never")
    assert finished.stdout.strip() == "[95, 88]", finished.stderr
    assert rig.rows() == ["alice -5", "alice -7"]
    assert rig.kept() == []
    assert [line.split("/")[1] for line in ledger.read_text().split()] == ["debit"] * times + ["debit#2"]


def test_a_node_that_is_suspended_in_the_middle_writes_nothing(rig: DatabaseRig, tmp_path: Path) -> None:
    """The server gives its transaction up, another node does the work, and waking up it comes too late."""
    ledger = tmp_path / "ledger"
    command = [sys.executable, str(PROGRAM), rig.harness.url, rig.table]
    node = [str(ledger), "zombie", "2"]
    with subprocess.Popen([*command, "suspended", *node], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as zombie:
        try:
            os.waitid(os.P_PID, zombie.pid, os.WSTOPPED)
            heir = subprocess.run(
                [*command, "never", str(ledger), "heir", "60"], check=False, capture_output=True, text=True, timeout=100
            )
            assert heir.stdout.strip() == "[95, 88]", heir.stderr
            zombie.send_signal(signal.SIGCONT)
            assert zombie.communicate(timeout=60)[0].decode().strip() == "[95, 88]"  # what the heir has recorded
        finally:
            zombie.kill()
    assert (rig.rows(), rig.kept()) == (["alice -5", "alice -7"], [])
    assert [line.split("/")[1] for line in ledger.read_text().split()] == ["debit", "debit", "debit#2"]


def test_what_fails_leaves_nothing_and_is_told_as_it_was_raised(rig: DatabaseRig, tmp_path: Path) -> None:
    async def breaks_a_constraint(db: Any) -> None:
        await move(db, rig.table, "x", 1)
        await move(db, rig.table, "x", 0)

    with pytest.raises(RunFailed, match=r"CheckViolationError|OperationalError|IntegrityError|ProgrammingError"):
        run(rig, tmp_path, breaks_a_constraint)
    tries: list[int] = []

    async def fails_once(db: Any) -> str:
        await move(db, rig.table, "y", 1)
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("no")
        return "done"

    assert run(rig, tmp_path, fails_once) == "done"
    assert (rig.rows(), rig.kept()) == (["y 1"], [])


def test_savepoints_may_be_used(rig: DatabaseRig, tmp_path: Path) -> None:
    async def tries(db: Any) -> int:
        await do(db, "SAVEPOINT a")
        await move(db, rig.table, "no", 1)
        await do(db, "ROLLBACK TO SAVEPOINT a")
        if hasattr(db, "transaction"):
            async with db.transaction():
                return await move(db, rig.table, "yes", 1)
        return await move(db, rig.table, "yes", 1)

    assert run(rig, tmp_path, tries) == 1
    assert rig.rows() == ["yes 1"]


@pytest.mark.parametrize("statements", [("COMMIT",), ("COMMIT", "BEGIN"), ("ROLLBACK",), ("ROLLBACK", "BEGIN")])
def test_a_function_that_ends_its_transaction_is_found_out(
    statements: tuple[str, ...], rig: DatabaseRig, tmp_path: Path
) -> None:
    """It is told so, is never run again, and what it committed stays once."""
    tries: list[int] = []

    async def meddles(db: Any) -> None:
        tries.append(1)
        await move(db, rig.table, "x", 1)
        for statement in statements:
            await do(db, statement)
        if "BEGIN" in statements:
            await move(db, rig.table, "y", 1)

    with pytest.raises(RunFailed, match=r"forbidden_statement.*SAVEPOINT may be used"):
        run(rig, tmp_path, meddles)
    assert len(tries) == 1
    is_committed = "COMMIT" in statements
    assert rig.rows() == (["x 1"] if is_committed else [])
    assert rig.kept() == (["meddles -"] if is_committed else [])


def test_what_was_committed_without_an_outcome_is_not_done_again(rig: DatabaseRig, tmp_path: Path) -> None:
    """The first attempt commits by itself and fails; the second finds that out, and its message says what to do."""
    tries: list[int] = []

    async def commits_and_fails(db: Any) -> None:
        tries.append(1)
        await move(db, rig.table, "x", 1)
        await do(db, "COMMIT")
        raise ConnectionError("no")

    with pytest.raises(RunFailed, match=r"transaction_ended.*DELETE FROM task_outcomes.*headrace runs retry"):
        run(rig, tmp_path, commits_and_fails)
    assert (len(tries), rig.rows()) == (1, ["x 1"])


def test_commit_by_method_and_changes_of_tables_on_mysql(mariadb: Any, tmp_path: Path) -> None:
    """The habit is refused before it does harm; what commits by itself is found out."""
    rig = MysqlDatabase(mariadb)
    asyncio.run(_opened(rig))
    rig.prepare()

    async def commits(db: Any) -> None:
        await move(db, rig.table, "x", 1)
        await db.commit()

    async def makes_a_table(db: Any) -> None:
        await move(db, rig.table, "y", 1)
        await do(db, "CREATE TABLE other (id INT)")

    for function in (commits, makes_a_table):
        with pytest.raises(RunFailed, match="forbidden_statement"):
            run(rig, tmp_path, function)
    assert (rig.rows(), rig.kept()) == (["y 1"], ["makes_a_table -"])


async def _opened(rig: DatabaseRig) -> None:
    store = rig.harness.handle()
    await store.open()
    await store.close()


def test_a_failed_statement_that_was_swallowed_on_postgresql(postgres: Any, tmp_path: Path) -> None:
    rig = PostgresDatabase(postgres)
    asyncio.run(_opened(rig))
    rig.prepare()

    async def goes_on(db: Any) -> str:
        try:
            await move(db, rig.table, "x", 0)
        except Exception:
            return "well"
        return "?"

    with pytest.raises(RunFailed, match=r"transaction_failed.*savepoint"):
        run(rig, tmp_path, goes_on)


@pytest.mark.parametrize("swallows", [False, True])
def test_what_takes_too_long_is_rolled_back(
    swallows: bool, rig: DatabaseRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_transactions, "TRANSACTION_SECONDS_MAX", 1.0)

    async def slow(db: Any) -> None:
        await move(db, rig.table, "x", 1)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if not swallows:
                raise

    with pytest.raises(RunFailed, match="transaction_timeout"):
        run(rig, tmp_path, slow)
    assert (rig.rows(), rig.kept()) == ([], [])


def test_the_session_is_left_as_it_was(rig: DatabaseRig, tmp_path: Path) -> None:
    """What a function sets in its session, the next one does not meet."""
    is_postgres = isinstance(rig, PostgresDatabase)
    change = "SET TIME ZONE 'Asia/Tokyo'" if is_postgres else "SET SESSION time_zone = '+09:00', autocommit = 0"
    look = "SELECT current_setting('TimeZone')" if is_postgres else "SELECT @@time_zone"
    seen: list[Any] = []

    @database_task
    async def changes(db: Any) -> None:
        seen.append(await do(db, look))
        await do(db, change)

    @workflow
    async def code() -> None:
        await run_task(changes)
        await run_task(changes)

    async def start() -> None:
        async with Headrace(rig.harness.url, workflows=[code], data_dir=tmp_path) as hr:
            await (await hr.start(code)).result(50)

    asyncio.run(start())
    assert len(seen) == 2
    assert seen[0] == seen[1]


def test_plain_functions_are_refused_before_a_run_starts(rig: DatabaseRig, tmp_path: Path) -> None:
    @database_task
    def plain(db: Any) -> None: ...

    @workflow
    async def code() -> None:
        await run_task(plain)

    async def start() -> None:
        async with Headrace(rig.harness.url, workflows=[code], data_dir=tmp_path) as hr:
            await (await hr.start(code)).result(50)

    with pytest.raises((InvalidDefinition, RunFailed), match=r"(?s)plain function.*async def"):
        asyncio.run(start())


def test_with_encryption_too(rig: DatabaseRig, tmp_path: Path) -> None:
    from headrace import Encryption

    async def secret(db: Any) -> int:
        return await move(db, rig.table, "x", 3)

    @workflow
    async def code() -> int:
        return await run_task(database_task(secret))

    async def start() -> None:
        codec = Encryption({"k": bytes(32)})
        async with Headrace(rig.harness.url, workflows=[code], data_dir=tmp_path, codec=codec) as hr:
            assert await (await hr.start(code)).result(50) == 3

    asyncio.run(start())
    assert (rig.rows(), rig.kept()) == (["x 3"], [])


class _CommitOfPostgres(PostgresWire):
    def asks(self, data: bytes) -> bool:
        return data.startswith(b"Q") and b"COMMIT" in data


class _CommitOfMysql(MysqlWire):
    def asks(self, data: bytes) -> bool:
        return b"finish_task_1" in data


@pytest.mark.parametrize("how", CUTS)
def test_a_connection_that_breaks_during_the_commit(how: str, rig: DatabaseRig) -> None:
    """If it took place, its outcome is found without running the code again; if not, nothing of it is there."""
    wire = _CommitOfPostgres() if isinstance(rig, PostgresDatabase) else _CommitOfMysql()
    tries: list[int] = []

    async def test() -> None:
        async with Network(rig.harness.server.port, wire).listening() as network:
            store: Any = open_store(rig.harness.url_through(network.port))
            await store.open()
            try:
                node: Node = await Stage(rig.harness).node("a", store=store, lease_seconds=600.0)
                await node.start(new_run(1))

                async def pays(db: Any) -> bytes:
                    tries.append(1)
                    await move(db, rig.table, "x", 1)
                    network.cut = how if len(tries) == 1 else ""
                    return b'"paid"'

                async def pay() -> bytes:
                    return await store.transact(node.name, node.epoch, run_id(1), "pay", pays)

                try:
                    assert await pay() == b'"paid"'
                    assert how in ("answer", "sent")
                    assert tries == [1]
                except StoreUnavailable:
                    assert how != "answer"
                    assert await asyncio.to_thread(rig.rows) == []
                assert network.cuts == 1
                assert await pay() == b'"paid"'
            finally:
                await store.close()

    asyncio.run(test())
    assert rig.rows() == ["x 1"]
