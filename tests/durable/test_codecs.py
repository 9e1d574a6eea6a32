"""Payload codecs: what the store holds, who can read it, and that the engine does not notice."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from headrace import (
    Compression,
    Encryption,
    Headrace,
    InvalidParams,
    RunFailed,
    dag,
    task,
    update,
    wait_for_signal,
    workflow,
)
from headrace.backends.artifacts.files import FileArtifacts
from headrace.backends.stores.coded import CodedStore
from headrace.backends.stores.memory import MemoryDatabase, MemoryStore
from headrace.contracts.codec import Encoded, Seal, label_of
from headrace.core.errors import HeadraceError, NotFound, PayloadSealed, StoreCorrupt

from attempt_tasks import play  # isort: skip

SECRET = "the moon is made of basalt"
OLD, NEW = Encryption.new_key(), Encryption.new_key()


@task
async def repeat(text: str, times: int) -> str:
    return text * times


@task
async def fail(text: str) -> None:
    raise ValueError(f"cannot do {text}")


@workflow
async def secretive(text: str) -> dict[str, Any]:
    @update
    async def add(more: str) -> str:
        return more + text

    short = await repeat(text, 2)
    large = await repeat(text, 10_000)
    word = await wait_for_signal("word")
    return {"short": short, "large": len(large), "word": word}


def raw(tmp_path: Path) -> bytes:
    """Everything in the database and its files."""
    db = sqlite3.connect(tmp_path / "x.db")
    rows = b""
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        for row in db.execute(f"SELECT * FROM {name}").fetchall():
            rows += repr(row).encode()
    db.close()
    for file in (tmp_path / "x.db.files").rglob("*"):
        if file.is_file() and "logs" not in file.parts:
            rows += file.read_bytes()
    return rows


CHAIN = [Compression(bytes_min=64), Encryption({"2026-01": OLD})]


def test_nothing_of_a_users_data_is_readable_in_the_store(tmp_path: Path) -> None:
    @workflow
    async def failing(text: str) -> None:
        await fail(text)

    async def test() -> None:
        url = f"sqlite:///{tmp_path}/x.db"
        async with Headrace(url, workflows=[secretive, failing], codec=CHAIN) as hr:
            run = await hr.start(secretive, SECRET)
            assert await hr.update(run.id, "add", SECRET) == SECRET * 2
            async with Headrace(url, adopt=False, codec=CHAIN) as other:
                await other.signal(run.id, "word", SECRET)  # through the inbox
            assert await run.result() == {"short": SECRET * 2, "large": 10_000 * len(SECRET), "word": SECRET}
            failed = await hr.start(failing, SECRET)
            with pytest.raises(RunFailed, match=SECRET):
                await failed.result()
            rows = {row.run_id: row for row in await hr.runs()}
            assert rows[run.id].params == {"text": SECRET}
            assert SECRET in (rows[failed.id].error or "")
        stored = raw(tmp_path)
        for part in (SECRET, "moon", "basalt", "cannot do"):
            assert part.encode() not in stored
        for readable in (b"task.succeeded", b"aesgcm:2026-01", b"repeat#2", b"secretive"):
            assert readable in stored

    play(test)


def test_a_run_goes_on_after_its_engine_and_with_a_new_key(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"

    async def test() -> None:
        async with Headrace(url, workflows=[secretive], codec=Encryption({"old": OLD})) as hr:
            run = await hr.start(secretive, SECRET)
        async with Headrace(url, workflows=[secretive], codec=Encryption({"old": OLD, "new": NEW})) as hr:
            await hr.signal(run.id, "word", "w")
            assert (await (await hr.get(run.id)).result())["word"] == "w"
        stored = raw(tmp_path)
        assert b"aesgcm:old" in stored
        assert b"aesgcm:new" in stored
        async with Headrace(url, workflows=[secretive], codec=Encryption({"new": NEW})) as hr:
            with pytest.raises(PayloadSealed, match="key 'old', which is not among the keys: new"):
                await hr.show(run.id)

    play(test)


@workflow
async def joined(text: str) -> str:
    return f"{text} {await wait_for_signal('one')} {await wait_for_signal('two')}"


def test_a_missing_key_loses_nothing_and_keeps_nothing_else_from_going_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The run is left as it is, and says why; it goes on when the key is there."""
    url = f"sqlite:///{tmp_path}/x.db"

    async def test() -> None:
        async with Headrace(url, workflows=[joined], codec=Encryption({"old": OLD})) as hr:
            run = await hr.start(joined, SECRET)
            before = await hr.store.history(run.id)
        async with Headrace(url, workflows=[joined], codec=Encryption({"new": NEW})) as hr:
            other = await hr.start(joined, "b")
            for name in ("one", "two"):
                await hr.signal(other.id, name, name)
                with pytest.raises(PayloadSealed, match="key 'old', which is not among the keys: new"):
                    await hr.signal(run.id, name, "refused")
            assert await other.result() == "b one two"
            with pytest.raises(PayloadSealed, match="add that key"):
                await hr.show(run.id)
            rows = {row.run_id: row for row in await hr.runs()}
            assert rows[other.id].params == {"text": "b"}
            assert (rows[run.id].state, rows[run.id].owner) == ("running", None)
            assert SECRET not in str(rows[run.id].params)
        [error] = [record for record in caplog.records if record.levelname == "ERROR"]
        assert error.message.startswith(f"run {run.id} cannot be taken over: ")
        assert "key 'old'" in error.message
        assert error.exc_info is None, "nothing is broken: the reason is enough"
        async with Headrace(url, workflows=[joined], codec=Encryption({"old": OLD, "new": NEW})) as hr:
            assert await hr.store.history(run.id) == before
            for name in ("one", "two"):
                await hr.signal(run.id, name, name)
            assert await (await hr.get(run.id)).result() == f"{SECRET} one two"

    play(test)


def test_a_message_that_cannot_be_read_waits_for_its_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And the later ones of its run with it: their order counts. Those of other runs are read."""
    url = f"sqlite:///{tmp_path}/x.db"

    async def test() -> None:
        async with Headrace(url, workflows=[joined], codec=Encryption({"old": OLD}), poll_seconds=0.05) as hr:
            run, other = await hr.start(joined, "a"), await hr.start(joined, "b")
            async with Headrace(url, adopt=False, codec=Encryption({"old": OLD, "new": NEW})) as ahead:
                await ahead.signal(run.id, "one", "new")
            async with Headrace(url, adopt=False, codec=Encryption({"old": OLD})) as behind:
                for name in ("one", "two"):
                    await behind.signal(run.id, name, name)
                    await behind.signal(other.id, name, name)
            assert await other.result() == "b one two"
            assert len(await hr.store.history(run.id)) == 1
        told = [record for record in caplog.records if record.message == "a message waits for its key"]
        assert len(told) == 1
        async with Headrace(url, workflows=[joined], codec=Encryption({"new": NEW, "old": OLD})) as hr:
            assert await (await hr.get(run.id)).result() == "a new two"

    play(test)


def test_without_the_codec_the_reader_is_told_which(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"

    async def test() -> None:
        async with Headrace(url, workflows=[secretive], codec=CHAIN) as hr:
            run = await hr.start(secretive, SECRET)
        async with Headrace(url, workflows=[secretive]) as hr:
            with pytest.raises(PayloadSealed, match=r"aesgcm:2026-01") as refused:
                await hr.show(run.id)
            assert "HEADRACE_CODEC" in str(refused.value)
            assert (await hr.row(run.id)).state == "running"
        async with Headrace(url, workflows=[secretive], codec=CHAIN) as hr:  # and did no harm
            await hr.signal(run.id, "word", "w")
            assert (await (await hr.get(run.id)).result())["word"] == "w"

    play(test)


def test_what_was_written_before_there_was_a_codec_is_read(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"

    async def test() -> None:
        async with Headrace(url, workflows=[secretive]) as hr:
            run = await hr.start(secretive, SECRET)
            await hr.store.post(run.id, "signal", {"name": "word", "payload": "early"})  # type: ignore[arg-type]
        async with Headrace(url, workflows=[secretive], codec=CHAIN) as hr:
            assert (await (await hr.get(run.id)).result())["word"] == "early"

    play(test)


def test_graphs_too(tmp_path: Path) -> None:
    with dag("graph") as graph:
        first = repeat(SECRET, 10_000)
        repeat(first, 2)

    async def test() -> None:
        async with Headrace(f"sqlite:///{tmp_path}/x.db", workflows=[graph], codec=CHAIN) as hr:
            result = await (await hr.run(graph)).result()
            assert [len(part) for part in result.values()] == [20_000 * len(SECRET)]
            with pytest.raises(InvalidParams):
                await hr.run(graph, {"odd": 1})

    play(test)


class Unsteady:
    """A codec that gives other bytes each time."""

    name = "unsteady"

    def __init__(self) -> None:
        self.count = 0

    def encode(self, data: bytes, place: bytes) -> Encoded:
        self.count += 1
        return Encoded(f"unsteady:{self.count}", data[::-1])

    def decode(self, data: bytes, label: str, place: bytes) -> bytes:
        return data[::-1]


def test_a_commit_that_is_tried_again_stores_the_same_bytes(tmp_path: Path) -> None:
    """Its outcome was unknown; other bytes under the same number would be another writer's."""
    from headrace.contracts.store import Flush, RunRow

    async def test() -> None:
        store: Any = CodedStore(MemoryStore(MemoryDatabase()), Seal([Unsteady()]))  # type: ignore[arg-type]
        await store.open()
        epoch = await store.join("n", 10.0, "", {})
        row = RunRow(run_id="r", workflow="w", version="v", state="running", created_at=1.0, owner="n", params={"a": 1})  # type: ignore[arg-type]
        data = b'{"type":"signal.received","at":1.0,"name":"x","payload":"p"}'
        flush = Flush("n", epoch, [("r", 1, data)], [row], [], [])  # type: ignore[list-item,arg-type]
        await store.commit(flush)
        await store.commit(flush)
        assert await store.history("r") == [(1, data)]
        assert (await store.run("r")).params == {"a": 1}

    play(test)


# ---- the parts ---------------------------------------------------------------------------------------------------------


def test_sealing_gives_back_the_same_bytes() -> None:
    for codecs in ([], [Compression()], [Encryption({"k": OLD})], CHAIN):
        seal = Seal(codecs)
        for data in (b"", b"x", b"\x00\xff" * 10, b"compressible " * 1000):
            assert seal.open(seal.close(data, "r/1"), "r/1") == data
            assert seal.open_bytes(seal.close_bytes(data, "r/1"), "r/1") == data
            assert seal.open_bytes(data, "r/1") == data


def test_only_what_gains_by_it_is_compressed() -> None:
    seal = Seal([Compression(bytes_min=100)])
    assert seal.close(b"a" * 99, "p").startswith("|")
    assert seal.close(b"a" * 100, "p").startswith("zstd|")
    assert seal.close(Encryption.new_key() * 1 + bytes(range(256)), "p").startswith("|")


def test_a_sealed_payload_cannot_be_changed_or_moved() -> None:
    seal = Seal([Encryption({"k": OLD})])
    text = seal.close(b"data", "run/1")
    with pytest.raises(StoreCorrupt, match="run/2"):
        seal.open(text, "run/2")
    label, _, body = text.partition("|")
    changed = bytearray(base64.b64decode(body))
    changed[-1] ^= 1
    with pytest.raises(StoreCorrupt, match="cannot be decrypted"):
        seal.open(f"{label}|{base64.b64encode(changed).decode()}", "run/1")
    with pytest.raises(StoreCorrupt, match="damaged"):
        seal.open(text[:-3] + "!", "run/1")
    with pytest.raises(StoreCorrupt, match="cannot be decrypted"):
        Seal([Encryption({"k": NEW})]).open(text, "run/1")
    with pytest.raises(PayloadSealed, match="'aesgcm:k'"):
        Seal([Compression()]).open(text, "run/1")


def test_a_codec_that_breaks_its_word_is_caught() -> None:
    class Wrong(Unsteady):
        def encode(self, data: bytes, place: bytes) -> Encoded:
            return Encoded("other", data)

    with pytest.raises(ValueError, match="label"):
        Seal([Wrong()]).close(b"x", "p")
    with pytest.raises(ValueError, match="same name"):
        Seal([Unsteady(), Unsteady()])


def test_keys_are_checked_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="at least one key"):
        Encryption({})
    with pytest.raises(ValueError, match="has 5 bytes") as refused:
        Encryption({"k": b"short"})
    assert "short" not in str(refused.value)
    with pytest.raises(ValueError, match="there is no key 'x'"):
        Encryption({"k": OLD}, active="x")
    text = base64.b64encode(OLD).decode()
    monkeypatch.setenv("HEADRACE_KEYS", f"old:{text},new:{base64.b64encode(NEW).decode()}")
    sealed = Seal([Encryption.from_environment()]).close(b"x", "p")
    assert sealed.startswith("aesgcm:new|")
    monkeypatch.setenv("HEADRACE_KEYS", f"old{text}")
    with pytest.raises(ValueError, match="part 1 is not `id:base64`") as refused:
        Encryption.from_environment()
    assert text not in str(refused.value)


def test_artifacts_are_sealed_and_need_the_codec(tmp_path: Path) -> None:
    artifacts = FileArtifacts(tmp_path, Seal(CHAIN))
    plain = FileArtifacts(tmp_path)
    before = plain.put(b"before there was a codec")
    digest = artifacts.put(SECRET.encode() * 100)
    assert artifacts.get(digest) == SECRET.encode() * 100
    assert artifacts.get(before) == b"before there was a codec"
    (file,) = tmp_path.rglob(f"{digest}.zst")
    assert (label_of(file.read_bytes()) or "").endswith("aesgcm:2026-01")
    with pytest.raises(PayloadSealed, match="aesgcm:2026-01"):
        plain.get(digest)
    with pytest.raises(NotFound):
        artifacts.get("0" * 64)


def test_a_codec_is_taken_from_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headrace.config.codecs import codecs_of
    from headrace.config.load import load

    def codec_from_environment() -> Any:
        return codecs_of(load().settings)

    (tmp_path / "our_keys.py").write_text(
        "from headrace import Compression, Encryption\n"
        "def codec():\n    return [Compression(), Encryption({'k': b'x' * 32})]\n"
        "text = 'no codec'\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEADRACE_CODEC", raising=False)
    assert codec_from_environment() is None
    monkeypatch.setenv("HEADRACE_CODEC", "our_keys:codec")
    assert [codec.name for codec in codec_from_environment() or ()] == ["zstd", "aesgcm"]
    for wrong in ("our_keys:missing", "no_such_module:codec", "our_keys", "our_keys:text"):
        monkeypatch.setenv("HEADRACE_CODEC", wrong)
        with pytest.raises(HeadraceError, match="HEADRACE_CODEC"):
            codec_from_environment()


def test_events_without_payloads_stay_as_they_are() -> None:
    async def test() -> None:
        store: Any = CodedStore(MemoryStore(MemoryDatabase()), Seal(CHAIN))  # type: ignore[arg-type]
        data = b'{"type":"timer.set","at":1.0,"timer":1,"due":2.0}'
        assert store._close_event("r", 1, data) == data
        sealed = store._close_event("r", 2, b'{"type":"run.created","at":1.0,"run_id":"r","params":{"a":1}}')
        assert sealed.startswith(b'{"type":"sealed","event":"run.created","at":1.0,"run_id":"r","sealed":"')

    asyncio.run(test())
