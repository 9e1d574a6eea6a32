"""The SQLite store between processes: kill -9, suspension, opening at once, crash images, a full disk."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headrace.backends.stores import sqlite_locks
from headrace.backends.stores.sqlite import SqliteStore
from headrace.backends.stores.sqlite_connection import RenewalGate
from headrace.core.errors import Fenced, StoreFull
from headrace.testing.store_conformance.stage import Stage, event, new_run, run_id, update

PROGRAM = Path(__file__).with_name("sqlite_process.py")
R1 = run_id(1)


class Process:
    """A process under test. Its lines are read with a bound on time by pytest's own timeout."""

    def __init__(self, url: str, role: str, name: str = "victim", lease_seconds: float = 60.0) -> None:
        command = [sys.executable, str(PROGRAM), url, role, name, str(lease_seconds)]
        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def line(self) -> str:
        assert self.popen.stdout is not None
        return self.popen.stdout.readline().strip()

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)
        if number == signal.SIGSTOP:
            os.waitpid(self.popen.pid, os.WUNTRACED)  # until it really stands still

    def end(self) -> None:
        self.popen.kill()
        self.popen.communicate()


@contextmanager
def process(*arguments: object, **more: object) -> Iterator[Process]:
    started = Process(*arguments, **more)  # type: ignore[arg-type]
    try:
        yield started
    finally:
        started.end()


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder}/x.db"


async def opened(folder: Path, **options: object) -> SqliteStore:
    store = SqliteStore(url_of(folder), **options)  # type: ignore[arg-type]
    await store.open()
    return store


# ---- who is dead ----------------------------------------------------------------------------------------------------


def test_a_killed_process_is_recognised_at_once(tmp_path: Path) -> None:
    """Its lease has an hour to go; its lock is free."""

    async def work() -> None:
        store = await opened(tmp_path)
        heir = await Stage(None).node("heir", store=store)  # type: ignore[arg-type]
        with process(url_of(tmp_path), "wait", lease_seconds=3600.0) as victim:
            assert victim.line().startswith("joined")
            assert await store.expire_lost() == []
            assert await heir.claim() == []
            victim.signal(signal.SIGKILL)
            victim.popen.wait()
            assert await store.expire_lost() == ["victim"]
        assert await heir.claim() == [R1]
        # Only the heir's own lock file is left.
        assert [file.name for file in (tmp_path / "x.db-nodes").iterdir()] == [f"heir.{heir.epoch}.lock"]
        await store.leave(heir.name, heir.epoch)
        assert not (tmp_path / "x.db-nodes").exists()
        await store.close()

    asyncio.run(work())


def test_a_suspended_process_keeps_its_runs_until_its_lease_ends_and_is_fenced_then(tmp_path: Path) -> None:
    async def work() -> None:
        offset = 0.0
        store = await opened(tmp_path, clock=lambda: time.time() + offset)
        heir = await Stage(None).node("heir", lease_seconds=3600.0, store=store)  # type: ignore[arg-type]
        with process(url_of(tmp_path), "zombie", lease_seconds=60.0) as zombie:
            assert zombie.line().startswith("joined")
            zombie.signal(signal.SIGSTOP)
            assert await store.expire_lost() == []
            offset = 61.0
            assert await store.expire_lost() == ["victim"]
            assert await heir.claim() == [R1]
            await heir.go_on(R1, 2, state="paused")
            zombie.signal(signal.SIGCONT)
            assert zombie.popen.stdin is not None
            zombie.popen.stdin.write("go on\n")
            zombie.popen.stdin.flush()
            assert zombie.line() == "Fenced False"
        row = await store.run(R1)
        assert row is not None
        assert (row.owner, row.state) == ("heir", "paused")
        await store.close()

    asyncio.run(work())


def test_joining_under_the_name_of_a_living_process_fences_it(tmp_path: Path) -> None:
    async def work() -> None:
        store = await opened(tmp_path)
        with process(url_of(tmp_path), "zombie") as old:
            assert old.line().startswith("joined")
            new = await Stage(None).node("victim", store=store)  # type: ignore[arg-type]
            assert await store.expire_lost() == []
            assert await new.claim() == [R1]
            assert old.popen.stdin is not None
            old.popen.stdin.write("go on\n")
            old.popen.stdin.flush()
            assert old.line() == "Fenced False"
        assert await store.expire_lost() == []
        await store.close()

    asyncio.run(work())


def test_a_store_closed_without_leaving_counts_as_dead(tmp_path: Path) -> None:
    async def work() -> None:
        one, two = await opened(tmp_path), await opened(tmp_path)
        await Stage(None).node("a", lease_seconds=3600.0, store=one)  # type: ignore[arg-type]
        assert await two.expire_lost() == []
        await one.close()
        assert await two.expire_lost() == ["a"]
        await two.close()

    asyncio.run(work())


def test_a_missing_lock_file_says_nothing(tmp_path: Path) -> None:
    """A database copied from elsewhere: only time tells."""

    async def work() -> None:
        one, two = await opened(tmp_path), await opened(tmp_path)
        await Stage(None).node("a", lease_seconds=3600.0, store=one)  # type: ignore[arg-type]
        shutil.rmtree(tmp_path / "x.db-nodes")
        assert await two.expire_lost() == []
        await one.close()
        await two.close()

    asyncio.run(work())


def test_names_of_nodes_may_be_anything(tmp_path: Path) -> None:
    async def work() -> None:
        store = await opened(tmp_path)
        for name in ("../../etc/x", "a/b c", "n" * 500, "ü€.lock", ""):
            node = await Stage(None).node(name, store=store)  # type: ignore[arg-type]
            files = list((tmp_path / "x.db-nodes").iterdir())
            assert len(files) == 1
            await store.leave(node.name, node.epoch)
        assert sorted(file.name for file in tmp_path.iterdir()) == ["x.db", "x.db-shm", "x.db-wal"]
        await store.close()

    asyncio.run(work())


def test_a_forked_child_does_not_keep_its_parent_alive(tmp_path: Path) -> None:
    """The lock belongs to the node's process, not to the pool it has forked."""
    locks = sqlite_locks.NodeLocks(tmp_path / "x.db")
    lock = locks.take("a", 1)
    ready, go_on = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(ready[1], b"x")
        os.read(go_on[0], 1)
        os._exit(0)
    try:
        os.read(ready[0], 1)
        assert not locks.is_dead("a", 1)
        lock.release(remove=False)  # as the parent's death would
        assert locks.is_dead("a", 1)
    finally:
        os.write(go_on[1], b"x")
        os.waitpid(child, 0)
        for end in (*ready, *go_on):
            os.close(end)


# ---- several processes ----------------------------------------------------------------------------------------------


def test_processes_that_open_a_new_database_at_once_do_not_collide(tmp_path: Path) -> None:
    processes = [Process(url_of(tmp_path), "open") for _ in range(4)]
    try:
        assert [each.line() for each in processes] == ["opened"] * 4
        assert [each.popen.wait() for each in processes] == [0] * 4
    finally:
        for each in processes:
            each.end()


def test_threads_that_open_a_new_database_at_once_do_not_collide(tmp_path: Path) -> None:
    """The same, closer together: they start at one barrier."""
    barrier, errors = threading.Barrier(8), []

    def work() -> None:
        async def once() -> None:
            store = await opened(tmp_path)
            await store.close()

        barrier.wait()
        try:
            asyncio.run(once())
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_flood_of_commits_does_not_starve_the_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Renewals go before the next commit of the same process, and reach the lock under another process's flood."""
    monkeypatch.setattr(RenewalGate, "GRACE_SECONDS", 3600.0)  # however long the other process keeps us waiting

    async def work() -> None:
        store = await opened(tmp_path)
        node = await Stage(None).node("mine", store=store)  # type: ignore[arg-type]
        await node.start(new_run(2))
        stop = False
        done = 0

        async def flood() -> None:
            nonlocal done
            seq = 1
            while not stop:
                await node.commit([event(run_id(2), seq + n, "x" * 200) for n in range(1, 201)])
                seq += 200
                done += 1

        with process(url_of(tmp_path), "write") as other:
            assert other.line().startswith("joined")
            drain = threading.Thread(target=lambda: [None for _ in iter(other.line, "")])
            drain.start()
            task = asyncio.create_task(flood())
            overtaken = []
            for _ in range(20):
                before = done
                assert await asyncio.to_thread(store.renew, node.name, node.epoch, 15.0)
                overtaken.append(done - before)
            stop = True
            await task
            other.popen.kill()
            drain.join()
        assert max(overtaken) <= 3, overtaken  # the commit under way, and those of the turns until we hear of it
        await store.close()

    asyncio.run(work())


# ---- commit on the event loop ---------------------------------------------------------------------------------------


def test_small_commits_are_done_at_once_while_the_disk_is_quick(tmp_path: Path) -> None:
    """And only then: not large ones, not while another writes, not when commits have become slow."""

    async def work() -> None:
        store = await opened(tmp_path, busy_seconds=3600.0)  # whoever waits for the other waits for ever
        node = await Stage(None).node(store=store)  # type: ignore[arg-type]
        await node.start(new_run(1))
        flush = node.flush([event(R1, 2)], updates=[update(R1, 2)])
        assert not store.commit_now(flush)  # the pace is not known yet
        for _ in range(50):
            store._pace.saw(0.0001)
        assert not store.commit_now(node.flush([event(R1, seq) for seq in range(2, 100)]))
        other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert not store.commit_now(flush)
        other.execute("COMMIT")
        other.close()
        assert store.commit_now(flush)
        assert [seq for seq, _ in await store.history(R1)] == [1, 2]
        for _ in range(50):
            store._pace.saw(0.01)
        assert not store.commit_now(node.flush([event(R1, 3)]))
        await store.close()
        with pytest.raises(Fenced):
            later = await opened(tmp_path)
            for _ in range(50):
                later._pace.saw(0.0001)
            try:
                await later.join(node.name, 1.0, "", {})
                later.commit_now(flush)
            finally:
                await later.close()

    asyncio.run(work())


# ---- power cuts -----------------------------------------------------------------------------------------------------


def check_image(image: Path, acknowledged: int) -> None:
    """A crash image must be sound and hold everything acknowledged, without gaps."""
    db = sqlite3.connect(image / "x.db")
    try:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        seqs = [seq for (seq,) in db.execute("SELECT seq FROM events WHERE run_id = ? ORDER BY seq", (R1,))]
        assert seqs == list(range(1, len(seqs) + 1))
        assert len(seqs) >= acknowledged
        # Whole flushes only: the projection agrees with the events.
        assert db.execute("SELECT last_seq FROM runs WHERE run_id = ?", (R1,)).fetchone() == (len(seqs),)
    finally:
        db.close()

    async def read() -> None:
        store = await opened(image)
        assert len(await store.history(R1)) == len(seqs)
        await store.close()

    asyncio.run(read())


def test_crash_images_hold_every_acknowledged_flush(tmp_path: Path) -> None:
    """The process is frozen wherever it happens to be, its files are copied, and the copy is opened. In half of the images
    the WAL's tail past what was acknowledged is lost or garbage, as after a power cut."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with process(url_of(tmp_path / "live"), "write") as writer:
        assert writer.line().startswith("joined")
        for number in range(16):
            acknowledged = 1
            for _ in range(chance.randrange(1, 120)):
                acknowledged = int(writer.line().split()[1])
            # What was in the WAL when the last flush was acknowledged has been synced; the writer may be further by now.
            synced = (tmp_path / "live" / "x.db-wal").stat().st_size if number % 2 else None
            deadline = time.perf_counter() + chance.random() * 0.002
            while time.perf_counter() < deadline:
                pass
            writer.signal(signal.SIGSTOP)
            image = tmp_path / f"image-{number}"
            image.mkdir()
            for name in ("x.db", "x.db-wal"):
                shutil.copyfile(tmp_path / "live" / name, image / name)
            writer.signal(signal.SIGCONT)
            if synced is not None:
                tear(image / "x.db-wal", synced, chance)
            check_image(image, acknowledged)


def tear(wal: Path, synced: int, chance: random.Random) -> None:
    """Lose or spoil what was written to the end of the file after it had ``synced`` bytes."""
    size = wal.stat().st_size
    if size > synced:
        keep = chance.randrange(synced, size)
        with wal.open("r+b") as file:
            file.truncate(keep)
            if chance.random() < 0.5:
                file.seek(0, os.SEEK_END)
                file.write(chance.randbytes(size - keep))


# ---- a full disk ----------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 2 MB, or skip."""
    folder.mkdir()
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def full_disk_story(store: SqliteStore, make_room: object) -> None:
    async def work() -> None:
        await store.open()
        node = await Stage(None).node(store=store)  # type: ignore[arg-type]
        await node.start(new_run(1))
        seq = 1
        with pytest.raises(StoreFull) as caught:
            for _ in range(400):
                await node.commit([event(R1, seq + 1, "x" * 20_000)], updates=[update(R1, seq + 1)])
                seq += 1
        assert "free some" in str(caught.value)
        assert not caught.value.retryable
        assert seq > 10
        # Nothing acknowledged is lost, nothing refused is there.
        assert [number for number, _ in await store.history(R1)] == list(range(1, seq + 1))
        row = await store.run(R1)
        assert row is not None
        assert row.last_seq == seq
        make_room()  # type: ignore[operator]
        await node.commit([event(R1, seq + 1, "x" * 20_000)], updates=[update(R1, seq + 1)])
        assert len(await store.history(R1)) == seq + 1
        await store.close()

    asyncio.run(work())


def test_a_full_disk_loses_nothing_and_work_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * 800_000)
        full_disk_story(SqliteStore(url_of(disk)), ballast.unlink)


def test_a_node_that_could_not_leave_a_full_disk_is_known_to_be_gone(tmp_path: Path) -> None:
    """Its runs can be taken over at once, not when its lease ends."""

    async def work(disk: Path) -> None:
        store = SqliteStore(url_of(disk))
        await store.open()
        node = await Stage(None).node(store=store)  # type: ignore[arg-type]
        await node.start(new_run(1))
        ballast = disk / "ballast"
        with pytest.raises(OSError, match="No space left"), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 512)
        with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute(
                "SELECT count(*) FROM runs"
            ).fetchone()  # a snapshot: the log cannot begin anew, it has to grow
            with pytest.raises(StoreFull):  # the smallest of all writes: one page
                for number in range(10_000):
                    await store.describe_node(node.name, node.epoch, {"number": number})
            with pytest.raises(StoreFull):
                await store.leave(node.name, node.epoch)
        await store.close()
        ballast.unlink()
        other = SqliteStore(url_of(disk))
        await other.open()
        row = await other.run(R1)
        assert row is not None
        assert not row.live
        await other.close()

    with small_disk(tmp_path / "disk") as disk:
        asyncio.run(work(disk))


def test_a_full_database_loses_nothing(tmp_path: Path) -> None:
    """The same with SQLite's own bound, where nothing can be mounted."""

    class Bounded(SqliteStore):
        async def open(self) -> None:
            await super().open()
            assert self._opened is not None
            await self._opened.writer.call(lambda db: db.execute("PRAGMA max_page_count = 200"))

    bounded = Bounded(url_of(tmp_path))

    def make_room() -> None:
        assert bounded._opened is not None
        bounded._opened.writer.give(lambda db: db.execute("PRAGMA max_page_count = 100000"))

    full_disk_story(bounded, make_room)
