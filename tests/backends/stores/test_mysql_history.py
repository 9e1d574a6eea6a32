"""Flushes that are more than one packet, and what is written into statements."""

import asyncio
import contextlib
from typing import Any

import msgspec
import pytest
from mariadb_server import MariadbServer
from mysql_rig import MysqlHarness

from headrace.backends.stores import mysql_connections
from headrace.backends.stores.mysql_connections import connect
from headrace.backends.stores.mysql_history import _statements
from headrace.backends.stores.mysql_text import Room, chunks_of, inserts, literal, packets, placed
from headrace.backends.stores.mysql_url import place_of_url
from headrace.contracts.store import Flush
from headrace.core.errors import Fenced, HistoryConflict, StoreError, StoreUnavailable
from headrace.core.ids import Epoch, NodeId
from headrace.testing.store_conformance.stage import Stage, event, new_run, run_id, scenario, update

R1 = run_id(1)
ODD = "quote ' backslash \\ both \\' double \" nul \0 newline \n percent %s question ? semicolon ; comment -- /* ü € 𝄞"


@pytest.fixture
def harness(mariadb: MariadbServer) -> MysqlHarness:
    return MysqlHarness(mariadb)


# ---- text -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [ODD, ODD.encode(), bytes(range(256)), "", b"", 1.1, -(2**40), 5e-324, True, None])
def test_values_come_back_as_they_were(harness: MysqlHarness, value: Any) -> None:
    async def work() -> None:
        harness.server.sql(f"CREATE DATABASE {harness.database}")
        db = await connect(place_of_url(harness.url))
        (row,) = await db.rows(placed("SELECT ?, ? + 0e0", (value, value if isinstance(value, float) else 0)))
        expected = value.encode() if isinstance(value, str) else int(value) if isinstance(value, bool) else value
        assert row[1 if isinstance(value, float) else 0] == expected
        await db.close()

    asyncio.run(work())


def test_statements_are_cut_where_packets_end() -> None:
    rows = [("r", number, b"x" * 10) for number in range(10)]
    texts = list(inserts("INSERT INTO t", rows, "TAIL", Room(120, 120)))
    assert all(len(text) <= 120 for text in texts)
    assert len(texts) > 1
    assert b"".join(texts).count(b"xxxxxxxxxx") == 10
    assert packets([b"aaa", b"bbb", b"ccc"], 8) == [b"aaa;bbb", b"ccc"]
    assert [list(group) for group in chunks_of(["a", "b", "c"], 14)] == [["a", "b"], ["c"]]
    assert literal("it's \\") == b"_binary'it\\'s \\\\'"


# ---- flushes --------------------------------------------------------------------------------------------------------


class TestManyPackets:
    """The server takes little at once: flushes are several packets in one transaction."""

    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mysql_connections, "PACKET_BYTES_MAX", 2000)

    @pytest.fixture
    def harness(self, mariadb: MariadbServer) -> MysqlHarness:
        return MysqlHarness(mariadb)

    @scenario
    async def test_everything_of_it_is_written_once(self, stage: Stage) -> None:
        node = await stage.node()
        runs = [run_id(number) for number in range(1, 60)]
        rows = [
            new_run(number, owner=node.name, last_seq=1, tags={"n": str(number)}, key=f"k{number}", attributes={"n": 0})
            for number in range(1, 60)
        ]
        flush = node.flush(
            [event(run, seq) for run in runs for seq in (1, 2, 3)],
            new_runs=rows,
            updates=[
                update(run, 3, attributes={"n": 1, "list": ["a", "b"]}, error=ODD, state="failed", ended_at=1.5)
                for run in runs
            ],
        )
        for _ in range(2):  # repeated, it changes nothing
            await node.store.commit(flush)
            for number, run in enumerate(runs, 1):
                assert [seq for seq, _ in await node.store.history(run)] == [1, 2, 3]
                row = await node.store.run(run)
                assert row is not None
                assert (row.tags, row.key, row.attributes) == (
                    {"n": str(number)},
                    f"k{number}",
                    {"n": 1, "list": ["a", "b"]},
                )
                assert (row.error, row.state, row.ended_at, row.last_seq) == (ODD, "failed", 1.5, 3)
        harness: MysqlHarness = stage._harness  # type: ignore[assignment]
        assert await asyncio.to_thread(harness.sql, "SELECT COUNT(*) FROM run_tags") == "59"
        assert await asyncio.to_thread(harness.sql, "SELECT COUNT(*) FROM run_attributes") == str(59 * 3)

    @scenario
    async def test_a_part_that_fails_undoes_the_rest(self, stage: Stage) -> None:
        """The conflict is found at the end, the fence at the beginning, a value that is too large in between."""
        node = await stage.node()
        await node.start(new_run(1))
        await node.go_on(R1, 50)
        with pytest.raises(HistoryConflict, match="another event 50"):
            await node.commit([event(R1, seq, "x" * 20) for seq in range(2, 80)])
        with pytest.raises(StoreError, match="max_allowed_packet"):
            await node.commit([*(event(R1, seq) for seq in range(60, 90)), event(R1, 90, "x" * (17 << 20))])
        again = await stage.node()
        with pytest.raises(Fenced):
            await node.commit([event(R1, seq) for seq in range(60, 90)])
        assert [seq for seq, _ in await again.store.history(R1)] == [1, 50]
        await again.claim()
        await again.go_on(R1, 51)

    @scenario
    async def test_a_node_that_stops_in_between_holds_its_locks_for_a_moment(self, stage: Stage) -> None:
        """Suspended between two packets, it loses the transaction: others need not wait for it for ever."""
        node = await stage.node()
        await node.start(new_run(1))
        sent = asyncio.Event()
        real = mysql_connections.Connection.run

        async def suspended(self: Any, text: bytes, **more: Any) -> Any:
            found = await real(self, text, **more)
            if b"begin_1" in text:
                sent.set()
                await asyncio.Event().wait()
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mysql_connections.Connection, "run", suspended)
            patch.setattr("headrace.backends.stores.mysql_history.IDLE_SECONDS_MAX", 1)
            task = asyncio.create_task(node.commit([event(R1, seq) for seq in range(2, 80)]))
            await sent.wait()
            patch.setattr(mysql_connections.Connection, "run", real)
            other = await stage.store()
            for _ in range(20):  # the lock on the node is waited for, up to its bound each time
                with contextlib.suppress(StoreUnavailable):
                    await other.leave(node.name, node.epoch)
                    break
            else:
                raise AssertionError("its locks outlived it")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert [seq for seq, _ in await other.history(R1)] == [1]


def test_runs_of_one_flush_that_differ_in_every_column(harness: MysqlHarness) -> None:
    """A column that one run leaves open and another fills belongs to its run alone; equal values are not mixed up."""
    full: dict[str, Any] = {
        "ended_at": 1.0,
        "trigger": "1",
        "parent": "True",
        "error": "None",
        "tasks_total": 1,
        "tasks_done": 1,
        "tasks_failed": 1,
        "wake_at": 1.5,
        "key": "1.0",
        "tags": {"n": "1"},
        "params": {"n": 1.0, "flag": True},
        "attributes": {"n": 1},
    }

    async def work() -> None:
        stage = Stage(harness)
        node = await stage.node()
        rows = [new_run(number, created_at=1.0, last_seq=1, owner=node.name) for number in range(1, len(full) + 3)]
        rows = [rows[0], rows[1]] + [
            msgspec.structs.replace(row, **{name: value})
            for row, (name, value) in zip(rows[2:], full.items(), strict=True)
        ]
        rows[1] = msgspec.structs.replace(rows[1], **full)
        await node.commit([event(row.run_id, 1) for row in rows], new_runs=rows)
        for row in rows:
            found = await node.store.run(row.run_id)
            assert found is not None
            assert msgspec.structs.replace(found, live=False) == row
        await stage.close()

    asyncio.run(work())


def test_columns_without_values_are_not_sent() -> None:
    flush = Flush(NodeId("n"), Epoch(1), [], [new_run(1), new_run(2, parent="p")], [], [])
    text = b";".join(_statements(flush, flush.events, flush.new_runs, Room(1 << 20, 1 << 20)))
    assert b"parent" in text
    assert b"ended_at" not in text
    assert text.count(b"NULL") == 1


@pytest.mark.parametrize("text", [ODD.replace("\0", ""), "\0", "trailing ", "Case"])
def test_texts_are_kept_found_and_told_apart(harness: MysqlHarness, text: str) -> None:
    """Byte by byte, whatever the collation of the server says: 'k' and 'k ' and 'K' are different."""

    async def work() -> None:
        stage = Stage(harness)
        node = await stage.node()
        values: dict[str, Any] = {"tags": {text: text}, "attributes": {"t": text}, "params": {text: [text]}}
        await node.start(new_run(1, workflow=text[:100], key=text, parent=text, error=text, **values))
        for other in (text.rstrip() + ("" if text.endswith(" ") else " "), text.swapcase()):
            if other != text:
                assert await node.store.key_holder(text[:100], other) is None
        row = await node.store.run(R1)
        assert row is not None
        assert {"tags": row.tags, "attributes": row.attributes, "params": row.params} == values
        assert (row.workflow, row.key, row.parent, row.error) == (text[:100], text, text, text)
        await node.go_on(R1, 2, error=text, attributes={"t": text, "u": [text]})
        await node.store.post(R1, "signal", {text: text})
        assert [message.payload for message in await node.store.inbox(None, node.name)] == [{text: text}]
        data = msgspec.json.encode({text: text})
        await node.commit([(R1, 3, data)], updates=[update(R1, 3)])
        assert (await node.store.history(R1))[2] == (3, data)
        found = await node.store._rows("SELECT name FROM run_attributes WHERE text = ?", text)
        assert sorted(found) == [(b"t",), (b"u",)]
        await stage.close()

    asyncio.run(work())


def test_an_event_larger_than_the_server_takes(harness: MysqlHarness) -> None:
    """Is refused before anything is sent, and nothing is broken by it; 16 MB less a little is no problem."""

    async def work() -> None:
        stage = Stage(harness)
        node = await stage.node()
        await node.start(new_run(1))
        with pytest.raises(StoreError, match="max_allowed_packet"):
            await node.commit([event(R1, 2, "x" * (17 << 20))])
        await node.commit([event(R1, 2, "x" * (15 << 20))], updates=[update(R1, 2)])
        assert len((await node.store.history(R1))[1][1]) > 15 << 20
        await stage.close()

    asyncio.run(work())
