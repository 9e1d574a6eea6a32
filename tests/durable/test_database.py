"""Database tasks: rows and outcome in one transaction, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from headrace import (
    Headrace,
    InvalidDefinition,
    RetryPolicy,
    RunFailed,
    current_attempt,
    dag,
    database_task,
    run_task,
    task,
    workflow,
)
from headrace.backends.stores import sqlite_transact
from headrace.backends.stores.memory import MemoryDatabase, MemoryStore
from headrace.backends.stores.sqlite import SqliteStore
from headrace.contracts.database import using_connection
from headrace.core.errors import Fenced

from attempt_tasks import play  # isort: skip

PROGRAM = Path(__file__).with_name("database_process.py")


def prepare(path: Path) -> None:
    """Headrace's file with a table of the user's."""

    async def make() -> None:
        store = SqliteStore(f"sqlite:///{path}")
        await store.open()
        await store.close()

    asyncio.run(make())
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE moves (account TEXT, amount INTEGER)")


def rows(path: Path, table: str = "moves") -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(f"SELECT * FROM {table}").fetchall()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "x.db"
    prepare(path)
    return path


@pytest.mark.parametrize(("point", "times"), [("begun", 2), ("written", 2), ("committed", 1), ("recorded", 1)])
def test_after_a_crash_rows_and_outcome_are_both_there_or_both_not(point: str, times: int, path: Path) -> None:
    """The process dies in the first task; another one goes on."""
    ledger = path.with_name("ledger")

    def start(where: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(PROGRAM), f"sqlite:///{path}", where, str(ledger)]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)

    died = start(point)
    assert died.returncode == -signal.SIGKILL, died.stderr
    moves, outcomes = rows(path), rows(path, "task_outcomes")
    assert len(moves) == (1 if point in ("committed", "recorded") else 0)
    assert len(outcomes) == (1 if point == "committed" else 0)
    finished = start("never")
    assert finished.stdout.strip() == "[95, 88]", finished.stderr
    assert rows(path) == [("alice", -5), ("alice", -7)]
    assert rows(path, "task_outcomes") == []
    assert [line.split("/")[1] for line in ledger.read_text().split()] == ["debit"] * times + ["debit#2"]


@database_task
def move(db: sqlite3.Connection, account: str, amount: int) -> int:
    db.execute("INSERT INTO moves VALUES (?, ?)", (account, amount))
    return amount


def test_graphs_maps_and_threads_of_others(path: Path) -> None:
    with dag("moves") as moves:
        move.map(account=["a", "b", "c"], amount=4)

    async def test() -> None:
        async with Headrace(f"sqlite:///{path}", workflows=[moves]) as hr:
            run = await hr.run(moves)
            assert (await run.wait()).state == "succeeded"

    play(test)
    assert sorted(rows(path)) == [("a", 4), ("b", 4), ("c", 4)]
    assert rows(path, "task_outcomes") == []


def test_what_fails_leaves_nothing(path: Path) -> None:
    tries: list[int] = []

    @database_task(retries=RetryPolicy(attempts=2, initial=0.0))
    def fails_once(db: sqlite3.Connection) -> str:
        db.execute("INSERT INTO moves VALUES ('x', 1)")
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("no")
        return "done"

    @workflow
    async def code() -> str:
        return await run_task(fails_once)

    async def test() -> None:
        async with Headrace(f"sqlite:///{path}", workflows=[code]) as hr:
            assert await (await hr.start(code)).result() == "done"

    play(test)
    assert rows(path) == [("x", 1)]


@pytest.mark.parametrize(
    "statement",
    [
        "COMMIT",
        "ROLLBACK",
        "INSERT INTO events VALUES ('r', 1, 'x')",
        "UPDATE runs SET state = 'succeeded'",
        "DELETE FROM task_outcomes",
        "DROP TABLE runs",
        "DROP INDEX runs_by_state",
        "CREATE TEMP TRIGGER t AFTER INSERT ON events BEGIN SELECT 1; END",
        "ALTER TABLE runs ADD COLUMN x",
        "ATTACH ':memory:' AS other",
        "PRAGMA synchronous = OFF",
    ],
)
def test_the_transaction_and_our_tables_are_out_of_reach(statement: str, path: Path) -> None:
    @database_task
    def meddles(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO moves VALUES ('x', 1)")
        db.execute(statement)

    @workflow
    async def code() -> None:
        await run_task(meddles)

    async def test() -> None:
        async with Headrace(f"sqlite:///{path}", workflows=[code]) as hr:
            with pytest.raises(RunFailed, match=r"forbidden_statement.*SAVEPOINT may be used"):
                await (await hr.start(code)).result()

    play(test)
    assert rows(path) == []


def test_commit_by_method_and_by_with_is_refused_and_savepoints_are_not(path: Path) -> None:
    @database_task
    def commits(db: sqlite3.Connection, how: str) -> str:
        if how == "savepoint":
            db.execute("SAVEPOINT a")
            db.execute("INSERT INTO moves VALUES ('no', 1)")
            db.execute("ROLLBACK TO a")
            db.execute("INSERT INTO moves VALUES ('yes', 1)")
            return db.execute("PRAGMA table_info(moves)").fetchall()[0][1]
        if how == "with":
            with db:
                db.execute("INSERT INTO moves VALUES ('x', 1)")
        db.execute("INSERT INTO moves VALUES ('x', 1)")
        db.commit()
        return how

    @workflow
    async def code(how: str) -> str:
        return await run_task(commits, how)

    async def test() -> None:
        async with Headrace(f"sqlite:///{path}", workflows=[code]) as hr:
            for how in ("with", "method"):
                with pytest.raises(RunFailed, match="forbidden_statement"):
                    await (await hr.start(code, how)).result()
            assert await (await hr.start(code, "savepoint")).result() == "account"

    play(test)
    assert rows(path) == [("yes", 1)]


def _leave(db: sqlite3.Connection, what: str, kept: list[Any]) -> None:
    """Leave something behind."""
    match what:
        case "rows as dicts":
            db.row_factory = lambda cursor, row: {column[0]: value for column, value in zip(cursor.description, row)}
        case "texts as bytes":
            db.text_factory = bytes
        case "isolation":
            db.isolation_level = "IMMEDIATE"
        case "temporary table":
            db.execute("CREATE TEMP TABLE scratch (x)")
        case "open cursor":
            db.executemany("INSERT INTO moves VALUES (?, 1)", [("a",), ("b",)])
            kept.append(db.execute("SELECT * FROM moves"))
            kept[-1].fetchone()
        case _:
            kept.append(db)


LEFT = ["rows as dicts", "texts as bytes", "isolation", "temporary table", "open cursor", "connection"]


@pytest.mark.parametrize("what", LEFT)
def test_what_a_function_leaves_behind_nobody_finds(what: str, path: Path) -> None:
    kept: list[Any] = []

    @database_task
    def leaves(db: sqlite3.Connection) -> None:
        _leave(db, what, kept)

    @database_task
    def looks(db: sqlite3.Connection) -> list[Any]:
        db.execute("CREATE TEMP TABLE scratch (x)")
        db.execute("INSERT INTO moves VALUES ('last', 2)")
        return [db.isolation_level, *db.execute("SELECT account FROM moves WHERE amount = 2").fetchone()]

    @workflow
    async def code() -> list[Any]:
        await run_task(leaves)
        return await run_task(looks)

    async def test() -> None:
        async with Headrace(f"sqlite:///{path}", workflows=[code]) as hr:
            assert await (await hr.start(code)).result() == [None, "last"]
            for thing in kept:  # is closed: nothing is read or written outside of the transaction
                with pytest.raises(sqlite3.ProgrammingError, match="closed"):
                    thing.execute("DELETE FROM moves")

    play(test)
    with closing(sqlite3.connect(path)) as db:
        db.execute("INSERT INTO moves VALUES ('later', 3)")
        db.commit()
        assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0, "something holds an old snapshot"


@pytest.mark.parametrize(
    ("how", "told"),
    [("close", "closed its connection.*leave out close"), ("or rollback", "was over before it returned.*OR ROLLBACK")],
)
def test_a_function_that_ends_its_transaction_by_the_way_is_told_so(how: str, told: str, path: Path) -> None:
    @database_task(retries=3)
    def ends(db: sqlite3.Connection) -> None:
        db.execute("CREATE UNIQUE INDEX one ON moves (account)")
        db.execute("INSERT INTO moves VALUES ('x', 1)")
        if how == "close":
            with closing(db):
                return
        with contextlib.suppress(sqlite3.IntegrityError):
            db.execute("INSERT OR ROLLBACK INTO moves VALUES ('x', 2)")

    @workflow
    async def code() -> None:
        await run_task(ends)

    async def test() -> None:
        async with Headrace(f"sqlite:///{path}", workflows=[code]) as hr:
            with pytest.raises(RunFailed, match=f"forbidden_statement.*{told}"):
                await (await hr.start(code)).result()

    play(test)
    assert rows(path) == []


def test_what_takes_too_long_is_rolled_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_transact, "TRANSACTION_SECONDS_MAX", 0.1)

    @database_task
    def slow(db: sqlite3.Connection, how: str) -> None:
        db.execute("INSERT INTO moves VALUES ('x', 1)")
        if how == "python":
            time.sleep(0.15)
        else:
            endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
            db.execute(endless).fetchone()

    @workflow
    async def code(how: str) -> None:
        await run_task(slow, how)

    async def test() -> None:
        async with Headrace(f"sqlite:///{path}", workflows=[code]) as hr:
            for how in ("python", "sql"):
                with pytest.raises(RunFailed, match="transaction_timeout"):
                    await (await hr.start(code, how)).result()

    play(test)
    assert rows(path) == []


def test_an_attempt_that_times_out_while_it_writes_is_not_doubled(path: Path) -> None:
    """The first attempt's thread cannot be killed; whichever transaction is first, there is one row."""
    held: list[int] = []

    @database_task(timeout=0.2, retries=RetryPolicy(attempts=20, initial=0.0))
    def hangs(db: sqlite3.Connection) -> str:
        db.execute("INSERT INTO moves VALUES ('x', 1)")
        held.append(current_attempt().attempt)
        while len(held) == 1 and not current_attempt().cancelled:
            time.sleep(0.005)
        return "done"

    @workflow
    async def code() -> str:
        return await run_task(hangs)

    async def test() -> None:
        async with Headrace(f"sqlite:///{path}", workflows=[code]) as hr:
            assert await (await hr.start(code)).result() == "done"

    play(test)
    assert rows(path) == [("x", 1)]


def test_a_task_that_is_retried_by_command_runs_again(path: Path) -> None:
    with dag("again") as again:
        move("a", 1)

    async def test() -> None:
        async with Headrace(f"sqlite:///{path}", workflows=[again]) as hr:
            run = await hr.run(again)
            await run.result()
            await run.retry(("move",))
            await run.result()

    play(test)
    assert rows(path) == [("a", 1), ("a", 1)]


def test_a_node_that_lost_its_lease_writes_nothing(path: Path) -> None:
    async def test() -> None:
        store = SqliteStore(f"sqlite:///{path}")
        await store.open()
        try:
            epoch = await store.join("n", 10.0, "", {})  # type: ignore[arg-type]
            await store.join("n", 10.0, "", {})  # type: ignore[arg-type]
            ran: list[int] = []
            with pytest.raises(Fenced):
                await store.transact("n", epoch, "r", "t", lambda db: ran.append(1) or b"1")  # type: ignore[arg-type,func-returns-value,return-value]
            assert not ran
        finally:
            await store.close()

    play(test)


def test_other_stores_and_other_executors_say_so(path: Path) -> None:
    with dag("moves") as moves:
        move("a", 1)
    with dag("threads") as threads:
        move.options(executor="thread")("a", 1)

    @task(executor="database")
    def ordinary() -> None: ...

    with dag("ordinary") as ordinaries:
        ordinary()

    async def test() -> None:
        async with Headrace(MemoryStore(MemoryDatabase()), data_dir=path.parent) as hr:
            with pytest.raises(InvalidDefinition, match="this store cannot run any"):
                await hr.run(moves)
        async with Headrace(f"sqlite:///{path}") as hr:
            for graph in (threads, ordinaries):
                with pytest.raises(InvalidDefinition, match="only database tasks run on 'database'"):
                    await hr.run(graph)

    play(test)


def test_coroutine_functions_are_for_servers(path: Path) -> None:
    @database_task
    async def waits(db: Any, account: str) -> str:
        return f"{db} {account}"

    with dag("waiting") as waiting:
        waits("a")

    async def test() -> None:
        async with Headrace(f"sqlite:///{path}") as hr:
            with pytest.raises(InvalidDefinition, match=r"(?s)is a coroutine function.*a plain function: `def`"):
                await hr.run(waiting)
        with pytest.raises(RuntimeError, match="using_connection"):
            await waits("a")
        with using_connection("db"):
            assert await waits("a") == "db a"

    play(test)


def test_it_is_a_function_to_test_by_hand(path: Path) -> None:
    with pytest.raises(RuntimeError, match="using_connection"):
        move("a", 1)
    with closing(sqlite3.connect(path)) as db, using_connection(db):
        assert move("a", 1) == 1
        assert db.execute("SELECT * FROM moves").fetchall() == [("a", 1)]
    assert rows(path) == []
    with pytest.raises(TypeError, match="the first parameter"):

        @database_task  # type: ignore[arg-type]
        def bare() -> None: ...


def test_with_encryption_too(path: Path) -> None:
    from headrace import Encryption

    @workflow
    async def code() -> int:
        return await run_task(move, "a", 3)

    async def test() -> None:
        async with Headrace(f"sqlite:///{path}", workflows=[code], codec=Encryption({"k": bytes(32)})) as hr:
            assert await (await hr.start(code)).result() == 3

    play(test)
    assert rows(path) == [("a", 3)]
    assert json.dumps(rows(path, "task_outcomes")) == "[]"
