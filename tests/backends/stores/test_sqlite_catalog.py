"""What the conformance suite cannot see: that lists use indexes, and that retention leaves nothing behind in any table."""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.backends.stores import sqlite_catalog, sqlite_inbox, sqlite_leases
from headrace.backends.stores.sqlite import SqliteStore
from headrace.contracts.store import RunFilter
from headrace.core.ids import NodeId
from headrace.testing.store_conformance.stage import Stage, event, new_run, run_id

# What is asked for, and the index that must lead: without the expectation a walk over all runs would do as well.
WHERE = {
    "everything": (RunFilter(before=run_id(9)), "runs USING PRIMARY KEY (run_id<?)"),
    "by workflow": (RunFilter(workflow="nightly", before=run_id(9)), "runs_by_workflow (workflow=? AND run_id<?)"),
    "by state": (RunFilter(states=("failed",), before=run_id(9)), "runs_by_state (state=? AND run_id<?)"),
    "by states": (RunFilter(states=("failed", "running")), "runs_by_state (state=?)"),
    "by workflow and state": (RunFilter(workflow="nightly", states=("failed",)), "runs_by_"),
    "by tag": (RunFilter(tags={"env": "prod"}, before=run_id(9)), "run_tags USING PRIMARY KEY (key=? AND value=?"),
    "by tags and workflow": (
        RunFilter(tags={"env": "prod", "team": "x"}, workflow="nightly"),
        "run_tags USING PRIMARY KEY",
    ),
}


@pytest.fixture
def database(tmp_path: Path) -> sqlite3.Connection:
    """A migrated, empty database."""

    async def make() -> None:
        store = SqliteStore(f"sqlite:///{tmp_path}/x.db")
        await store.open()
        await store.close()

    asyncio.run(make())
    return sqlite3.connect(tmp_path / "x.db", isolation_level=None)


def plans(db: sqlite3.Connection, work: Callable[[], object]) -> str:
    """How SQLite carries out every statement that ``work`` executes."""
    seen: list[str] = []
    db.set_trace_callback(seen.append)
    work()
    db.set_trace_callback(None)
    assert seen
    return "\n".join(str(row[3]) for statement in seen for row in db.execute(f"EXPLAIN QUERY PLAN {statement}"))


@pytest.mark.parametrize("name", WHERE)
def test_lists_walk_an_index_in_their_order(database: sqlite3.Connection, name: str) -> None:
    """Nothing is sorted and no table is read whole, so a page costs the same in a database of any size."""
    where, index = WHERE[name]
    plan = plans(database, lambda: sqlite_catalog.runs(database, where, 0.0))
    assert "TEMP B-TREE" not in plan, plan
    assert "SCAN" not in plan, plan
    assert index in plan, plan


def test_claims_and_searches_use_their_indexes(database: sqlite3.Connection) -> None:
    database.execute("INSERT INTO nodes (node, epoch, expires_at, bell, info) VALUES ('a', 1, 1e12, '', '{}')")
    work = {
        "claim": lambda: sqlite_leases.claim(database, NodeId("a"), 1, limit=5, run_ids=None, now=1.0),  # type: ignore[arg-type]
        "find": lambda: sqlite_catalog.find_runs(database, "01hz", 5),
        "retention": lambda: sqlite_catalog.delete_rows(database, 1.0, 5),
        "inbox": lambda: sqlite_inbox.inbox(database, [run_id(1)], NodeId("a"), 5),
    }
    for name, function in work.items():
        plan = plans(database, function)
        assert "SCAN runs" not in plan, (name, plan)
        assert "SCAN inbox" not in plan, (name, plan)
    assert "runs_claimable" in plans(database, work["claim"])
    assert "runs_ended" in plans(database, work["retention"])


def test_retention_leaves_nothing_behind(tmp_path: Path) -> None:
    """In no table, even if it is cut short after the rows have gone: the next call finishes it."""

    async def work() -> None:
        store = SqliteStore(f"sqlite:///{tmp_path}/x.db")
        await store.open()
        node = await Stage(None).node(store=store)  # type: ignore[arg-type]
        for number in (1, 2):
            await node.start(new_run(number, tags={"k": "v"}))
            await node.commit([event(run_id(number), seq) for seq in range(3, 20)])
            await node.finish(run_id(number))
            await store.post(run_id(number), "retry", {})
        assert await store._write(sqlite_catalog.delete_rows, 1000.0, 1) == [run_id(1)]
        assert await store.history(run_id(1)) != []  # cut short here
        await store.close()
        await store.open()
        assert await store.delete_runs(1000.0) == [run_id(2)]
        await store.close()

    asyncio.run(work())
    db = sqlite3.connect(tmp_path / "x.db")
    for table in ("runs", "run_tags", "events", "inbox", "deleted_runs"):
        assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    db.close()


def test_what_is_stored_can_be_read_with_the_sqlite_shell(tmp_path: Path) -> None:
    """Events are JSON text, not blobs."""

    async def work() -> None:
        store = SqliteStore(f"sqlite:///{tmp_path}/x.db")
        await store.open()
        node = await Stage(None).node(store=store)  # type: ignore[arg-type]
        await node.start(new_run(1))
        await store.close()

    asyncio.run(work())
    db = sqlite3.connect(tmp_path / "x.db")
    assert db.execute("SELECT typeof(data), json_extract(data, '$.task') FROM events").fetchall() == [
        ("text", "task-1")
    ]
    db.close()
