"""Artifacts: durable, whole, checked."""

import hashlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headrace.backends.artifacts.files import FileArtifacts
from headrace.core.errors import NotFound, StoreCorrupt, StoreError, StoreFull, StoreReadOnly


@pytest.fixture
def store(tmp_path: Path) -> FileArtifacts:
    return FileArtifacts(tmp_path / "artifacts")


def only_file(store: FileArtifacts) -> Path:
    [path] = [path for path in store.folder.rglob("*") if path.is_file()]
    return path


@pytest.mark.parametrize(
    "data", [b"", b"x", b"abc" * 1_000_000, os.urandom(300_000)], ids=["empty", "one", "soft", "hard"]
)
def test_what_was_put_comes_back_under_its_digest(store, data):
    digest = store.put(data)
    assert digest == hashlib.sha256(data).hexdigest()
    assert store.has(digest)
    assert store.get(digest) == data
    assert store.put(data) == digest
    assert only_file(store).parent == store.folder / digest[:2] / digest[2:4]


def test_text_takes_less_room_on_disk(store):
    store.put(b"the same line\n" * 10_000)
    assert only_file(store).stat().st_size < 2_000


def test_what_was_never_put_is_not_found(store):
    for digest in ("0" * 64, "../../etc/passwd", "", "0" * 63 + "\n"):
        with pytest.raises(NotFound):
            store.get(digest)
    assert not store.has("0" * 64)
    assert store.collect(set(), 0) == 0


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "other", "claims"])
def test_damage_is_noticed(store, harm):
    digest = store.put(b"precious" * 1000)
    path = only_file(store)
    packed = bytearray(path.read_bytes())
    if harm == "flip":
        packed[len(packed) // 2] ^= 0xFF
    elif harm == "cut":
        del packed[len(packed) // 2 :]
    elif harm == "empty":
        packed.clear()
    elif harm == "claims":  # a frame that says it holds an exabyte
        packed = bytearray(b"\x28\xb5\x2f\xfd\xe0" + (1 << 60).to_bytes(8, "little"))
    else:
        other = FileArtifacts(store.folder.parent / "other")
        other.put(b"forged")
        packed = bytearray(only_file(other).read_bytes())
    path.write_bytes(packed)
    with pytest.raises(StoreCorrupt, match=str(path)):
        store.get(digest)


def test_a_reader_never_sees_half_a_file(store):
    """Threads write the same and different values while others read whatever is there."""
    values = [bytes([n]) * 200_000 for n in range(8)]
    digests = [hashlib.sha256(value).hexdigest() for value in values]

    def read(n: int) -> bool:
        try:
            return store.get(digests[n % 8]) == values[n % 8]
        except NotFound:
            return True

    with ThreadPoolExecutor(8) as pool:
        puts = [pool.submit(store.put, values[n % 8]) for n in range(64)]
        gets = [pool.submit(read, n) for n in range(256)]
        assert {put.result() for put in puts} == set(digests)
        assert all(get.result() for get in gets)
    assert not list(store.folder.rglob(".tmp-*"))


def test_collecting_spares_what_is_kept_and_what_is_young(store):
    kept, old, young = (store.put(word) for word in (b"kept", b"old", b"young"))
    past = time.time() - 1000
    for digest in (kept, old):
        os.utime(store.folder / digest[:2] / digest[2:4] / f"{digest}.zst", (past, past))
    leftover = store.folder / old[:2] / old[2:4] / ".tmp-0123"
    leftover.touch()
    os.utime(leftover, (past, past))
    assert store.collect({kept}, 500) == 1
    assert (store.has(kept), store.has(old), store.has(young)) == (True, False, True)
    assert not leftover.exists()


def test_putting_again_makes_young_again(store):
    digest = store.put(b"again")
    os.utime(only_file(store), (1, 1))
    store.put(b"again")
    assert store.collect(set(), 500) == 0
    assert store.has(digest)


def test_a_file_is_synced_before_it_gets_its_name_and_its_folder_after(store, monkeypatch):
    steps: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def note_fsync(fd: int) -> None:
        steps.append("sync " + Path(f"/proc/self/fd/{fd}").readlink().name[:4])
        fsync(fd)

    def note_rename(self: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "rename", note_rename)
    digest = store.put(b"durable")
    assert steps[:3] == ["sync .tmp", "rename", f"sync {digest[2:4]}"]
    assert steps[3:] == [f"sync {digest[:2]}", "sync arti", f"sync {store.folder.parent.name[:4]}"]


def test_a_full_disk_is_said_and_leaves_nothing_behind(store, monkeypatch):
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreFull, match="no space left"):
            store.put(b"too much")
    assert not [path for path in store.folder.rglob("*") if path.is_file()]
    assert store.get(store.put(b"too much")) == b"too much"


def test_folders_that_cannot_be_used_are_said(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot be stored or read"):
        FileArtifacts(tmp_path / "file").put(b"x")
    with pytest.raises((StoreReadOnly, StoreError)):
        FileArtifacts("/proc/nowhere").put(b"x")


def test_importing_does_not_load_the_compressor():
    code = "import sys, headrace.backends.artifacts.files; assert 'zstandard' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
