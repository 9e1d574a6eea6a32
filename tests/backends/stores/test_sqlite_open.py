"""What happens at open: URLs, places, foreign, damaged, newer, locked and read-only databases. Each ends in a clear error."""

import asyncio
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headrace.backends.stores import open_store, sqlite_errors, sqlite_files, sqlite_schema
from headrace.backends.stores.memory import MemoryStore
from headrace.backends.stores.sqlite import SqliteStore
from headrace.core.errors import SchemaTooNew, StoreCorrupt, StoreError, StoreFull, StoreReadOnly, StoreUnavailable


def open_and_close(path: Path, **options: object) -> None:
    async def work() -> None:
        store = SqliteStore(f"sqlite:///{path}", **options)  # type: ignore[arg-type]
        await store.open()
        await store.close()

    asyncio.run(work())


def refused(path: Path, kind: type[StoreError], **options: object) -> str:
    """The message of the error that opening must raise, which must be exactly of that kind and name the file."""
    with pytest.raises(kind) as caught:
        open_and_close(path, **options)
    assert type(caught.value) is kind
    assert str(path) in str(caught.value)
    assert caught.value.hint
    return str(caught.value)


# ---- URLs -----------------------------------------------------------------------------------------------------------


def test_open_store_chooses_by_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    relative, absolute = open_store("sqlite:///x.db"), open_store(f"sqlite:///{tmp_path}/y.db")
    assert isinstance(relative, SqliteStore)
    assert isinstance(absolute, SqliteStore)
    monkeypatch.chdir("/")
    assert relative.path == tmp_path / "x.db"
    assert absolute.path == tmp_path / "y.db"
    assert isinstance(open_store("memory://"), MemoryStore)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("runs.db", 'did you mean "sqlite:///runs.db"'),
        ("/var/lib/runs.db", 'did you mean "sqlite:////var/lib/runs.db"'),
        ("sqlite:runs.db", 'did you mean "sqlite:///runs.db"'),
        ("", "sqlite:///relative.db"),
        ("redis://host/0", "there is no store for redis://"),
        ("sqlite://runs.db", "three slashes"),
        ("sqlite:///", "names no file"),
        ("sqlite:///folder/", "names no file"),
        ("sqlite:///x.db?mode=ro", "options"),
        ("sqlite:///:memory:", 'use "sqlite://"'),
        ("memory://name", "has no name"),
    ],
)
def test_urls_that_mean_nothing_are_explained(url: str, expected: str) -> None:
    with pytest.raises(StoreError) as caught:
        open_store(url)
    assert expected in str(caught.value)


def test_a_private_database_is_removed_at_the_end() -> None:
    async def work() -> Path:
        store = SqliteStore("sqlite://")
        await store.open()
        folder = store.path.parent
        assert store.path.exists()
        await store.close()
        await store.open()  # a new one
        assert store.path.parent != folder
        await store.close()
        return folder

    assert not asyncio.run(work()).exists()


def test_a_store_that_is_not_open_says_so(tmp_path: Path) -> None:
    async def work() -> None:
        store = SqliteStore(f"sqlite:///{tmp_path}/x.db")
        with pytest.raises(StoreError, match="not open"):
            await store.nodes()
        await store.open()
        await store.open()
        await store.close()
        with pytest.raises(StoreError, match="not open"):
            await store.nodes()
        await store.open()
        assert await store.nodes() == []
        await store.close()

    asyncio.run(work())


# ---- settings -------------------------------------------------------------------------------------------------------


def test_every_commit_reaches_the_disk(tmp_path: Path) -> None:
    """The settings that durability hangs on, asked of the connections in use."""

    async def work() -> None:
        store = SqliteStore(f"sqlite:///{tmp_path}/x.db")
        await store.open()
        opened = store._opened
        assert opened is not None
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "application_id", "user_version")

        def ask(db: sqlite3.Connection) -> list[object]:
            return [db.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas]

        full = 2
        known = len(sqlite_schema.migrations())
        assert await opened.writer.call(ask) == ["wal", full, 1, sqlite_schema.APPLICATION_ID, known]
        assert (await opened.reader.call(ask))[0] == "wal"
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            await opened.reader.call(lambda db: db.execute("DELETE FROM runs"))
        await store.close()

    asyncio.run(work())


# ---- places ---------------------------------------------------------------------------------------------------------


def test_missing_folders_are_made(tmp_path: Path) -> None:
    open_and_close(tmp_path / "a" / "b" / "x.db")
    assert (tmp_path / "a" / "b" / "x.db").exists()


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert "is a directory" in refused(tmp_path, StoreError)


def test_a_file_where_a_folder_is_needed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "a part of it is a file" in refused(tmp_path / "file" / "sub" / "x.db", StoreError)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_network_file_systems_are_refused(tmp_path: Path, kind: str) -> None:
    assert kind in refused(tmp_path / "x.db", StoreError, file_system=lambda _: kind)
    assert list(tmp_path.iterdir()) == []


def test_the_kernel_tells_the_file_system(tmp_path: Path) -> None:
    assert sqlite_files.file_system_of(Path("/proc/self")) == "proc"
    kind = sqlite_files.file_system_of(tmp_path / "not" / "there" / "x.db")
    assert kind
    assert kind not in sqlite_files.NETWORK_FILE_SYSTEMS


@contextmanager
def immutable(path: Path) -> Iterator[None]:
    """Make a path unwritable even for root, or skip."""
    if os.geteuid() != 0:
        mode = path.stat().st_mode
        path.chmod(0o500 if path.is_dir() else 0o400)
        try:
            yield
        finally:
            path.chmod(mode)
        return
    try:
        done = subprocess.run(["chattr", "+i", path], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        done = False
    if not done:
        pytest.skip("root may write everything here and there is no chattr")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", path], check=True)


def test_a_read_only_folder(tmp_path: Path) -> None:
    with immutable(tmp_path):
        assert "folder" in refused(tmp_path / "x.db", StoreReadOnly)
        refused(tmp_path / "sub" / "x.db", StoreReadOnly)


def test_a_read_only_file(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    open_and_close(path)
    with immutable(path):
        assert "x.db is read-only" in refused(path, StoreReadOnly)
    open_and_close(path)


# ---- what is in the file --------------------------------------------------------------------------------------------


def test_something_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"name: not a database\n" * 100)
    assert "is not an SQLite database" in refused(path, StoreCorrupt)
    assert path.read_bytes().startswith(b"name:")


def test_an_empty_file_is_a_new_database(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.touch()
    open_and_close(path)


def test_a_damaged_database(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    open_and_close(path)
    data = bytearray(path.read_bytes())
    data[100:4096] = os.urandom(3996)
    path.write_bytes(data)
    assert "is damaged" in refused(path, StoreCorrupt)


def test_a_database_of_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE customers (id INTEGER)")
    db.close()
    before = path.read_bytes()
    assert "customers" in refused(path, StoreCorrupt)
    assert path.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.db"]


def test_a_database_with_another_application_id(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA application_id = 1234")
    db.close()
    assert "0x4d2" in refused(path, StoreCorrupt)


def test_a_newer_schema(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    open_and_close(path)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 9999")
    db.close()
    message = refused(path, SchemaTooNew)
    assert "9999" in message
    assert "upgrade" in message


def test_a_locked_database(tmp_path: Path) -> None:
    """Waits its time, then tells; opens once the lock is gone."""
    path = tmp_path / "x.db"
    open_and_close(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    message = refused(path, StoreUnavailable, busy_seconds=0.2)
    assert "locked by another process" in message
    other.close()
    open_and_close(path)


# ---- migrations -----------------------------------------------------------------------------------------------------


def test_statements_are_split_where_they_end() -> None:
    script = "-- a; comment\nCREATE TABLE a (x TEXT DEFAULT ';');\nCREATE TRIGGER t AFTER INSERT ON a BEGIN\nDELETE FROM a;\nEND;\n-- end\n"
    found = list(sqlite_schema.statements(script))
    assert len(found) == 2
    assert found[1].startswith("CREATE TRIGGER")
    with pytest.raises(StoreError, match="middle of a statement"):
        list(sqlite_schema.statements("CREATE TABLE a (x)"))


def test_a_migration_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.db"
    open_and_close(path)
    first = sqlite_schema.migrations()
    with monkeypatch.context() as patch:
        patch.setattr(
            sqlite_schema, "migrations", lambda: (*first, ("0002_x.sql", "CREATE TABLE new_one (x);\nnonsense;\n"))
        )
        assert "nonsense" in refused(path, StoreError)
    open_and_close(path)
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(first),)
        assert not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'new_one'").fetchone()
    db.close()


# ---- translation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_BUSY, StoreUnavailable),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StoreUnavailable),
        (sqlite3.SQLITE_FULL, StoreFull),
        (sqlite3.SQLITE_READONLY_DIRECTORY, StoreReadOnly),
        (sqlite3.SQLITE_CORRUPT_INDEX, StoreCorrupt),
        (sqlite3.SQLITE_NOTADB, StoreCorrupt),
        (sqlite3.SQLITE_IOERR_FSYNC, StoreUnavailable),
        (sqlite3.SQLITE_CANTOPEN, StoreError),
        (sqlite3.SQLITE_NOMEM, StoreError),
    ],
)
def test_result_codes_become_errors(code: int, kind: type[StoreError]) -> None:
    error = sqlite3.OperationalError("what SQLite said")
    error.sqlite_errorcode = code
    translated = sqlite_errors.translated(error, "/data/x.db")
    assert type(translated) is kind
    assert "/data/x.db" in translated.message
