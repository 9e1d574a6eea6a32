"""Artifacts in a folder: ``<folder>/ab/cd/<digest>.zst``.

A file is written under a temporary name, synced, renamed, and its folder synced: a reader or a crash never sees half of
it. The same bytes have the same name, so two writers of one value do no harm.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.contracts.codec import Seal, label_of, sealed_by
from headrace.core.errors import NotFound, StoreCorrupt, StoreError, StoreFull, StoreReadOnly

if TYPE_CHECKING:
    import zstandard

ARTIFACT_BYTES_MAX = 4 * 1024 * 1024 * 1024
"""The largest value taken, and the most a stored file may unpack to."""

LEVEL = 3
"""zstd's own default: hundreds of MB/s, most of the gain."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_TEMPORARY = ".tmp-"


class FileArtifacts:
    """Implements :class:`headrace.contracts.artifacts.ArtifactStore` over a folder, which is made on the first put.

    ``seal`` encodes what the files hold; their names stay the digests of the values. Several processes may share the
    folder. Raises :class:`StoreFull`, :class:`StoreReadOnly` or :class:`StoreError`
    when the file system refuses.
    """

    def __init__(self, folder: str | Path, seal: Seal | None = None) -> None:
        self.folder = Path(folder)
        self._seal = seal
        self._local = threading.local()

    def put(self, data: bytes) -> str:
        """Store bytes; durable on return, idempotent. Equal bytes that are stored already are not written again, but
        their age starts anew, so that :meth:`collect` leaves them to whoever put them last."""
        if len(data) > ARTIFACT_BYTES_MAX:
            raise StoreError(f"an artifact of {len(data):,} bytes is over the bound of {ARTIFACT_BYTES_MAX:,}")
        digest = hashlib.sha256(data).hexdigest()
        path = self._path(digest)
        try:
            os.utime(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise _translate(error, path) from error
        else:
            return digest
        try:
            packed = self._compressor().compress(data)
            self._write(path, packed if self._seal is None else self._seal.close_bytes(packed, digest))
        except OSError as error:
            raise _translate(error, path) from error
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes, checked against their digest."""
        import zstandard  # noqa: PLC0415 - 10 ms that most programs never need

        path = self._path(digest)
        try:
            packed = path.read_bytes()
        except FileNotFoundError:
            raise NotFound(f"there is no artifact {digest}", hint=f"looked for {path}") from None
        except OSError as error:
            raise _translate(error, path) from error
        if self._seal is not None:
            packed = self._seal.open_bytes(packed, digest)
        elif (label := label_of(packed)) is not None:
            raise sealed_by(label)
        try:
            size = zstandard.frame_content_size(packed)
            if not 0 <= size <= ARTIFACT_BYTES_MAX:
                raise _corrupt(path, f"it says it holds {size:,} bytes")
            data = self._decompressor().decompress(packed, max_output_size=ARTIFACT_BYTES_MAX)
        except zstandard.ZstdError as error:
            raise _corrupt(path, str(error)) from None
        if hashlib.sha256(data).hexdigest() != digest:
            raise _corrupt(path, "its content has another digest")
        return data

    def has(self, digest: str) -> bool:
        """Whether the digest is stored; says nothing on its health."""
        return self._path(digest).is_file()

    def collect(self, keep: set[str], older_than_seconds: float) -> int:
        """Delete what is not kept and older than the bound, leftovers of crashed writers included (not counted).
        Safe beside readers and writers as long as the bound is longer than a put takes to be referred to."""
        horizon = time.time() - older_than_seconds
        deleted = 0
        for path in self._files():
            name = path.name
            digest = name.removesuffix(".zst")
            if digest in keep:
                continue
            with contextlib.suppress(FileNotFoundError):  # another collector was quicker
                if path.stat().st_mtime > horizon:
                    continue
                path.unlink()
                deleted += not name.startswith(_TEMPORARY)
        return deleted

    def _files(self) -> Iterator[Path]:
        yield from self.folder.glob(f"??/??/{_TEMPORARY}*")
        for path in self.folder.glob("??/??/*.zst"):
            if _DIGEST.fullmatch(path.name.removesuffix(".zst")):
                yield path

    def _path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):  # it becomes a path: nothing else may
            raise NotFound(f"{digest[:80]!r} is not an artifact's digest", hint="expected 64 hexadecimal digits")
        return self.folder / digest[:2] / digest[2:4] / f"{digest}.zst"

    def _write(self, path: Path, packed: bytes) -> None:
        folder = path.parent
        made = _make_folders(folder)
        temporary = folder / f"{_TEMPORARY}{secrets.token_hex(8)}"
        try:
            with temporary.open("xb") as file:
                file.write(packed)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(folder)
        for parent in made:
            _sync_folder(parent)

    def _compressor(self) -> zstandard.ZstdCompressor:
        """One per thread: they are not safe to share, and dear to make."""
        found = getattr(self._local, "compressor", None)
        if found is None:
            import zstandard  # noqa: PLC0415

            found = self._local.compressor = zstandard.ZstdCompressor(level=LEVEL)
        return found

    def _decompressor(self) -> zstandard.ZstdDecompressor:
        found = getattr(self._local, "decompressor", None)
        if found is None:
            import zstandard  # noqa: PLC0415

            found = self._local.decompressor = zstandard.ZstdDecompressor()
        return found


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder and its parents; returns the folders whose entries changed, which have to be synced."""
    changed: list[Path] = []
    missing = folder
    while not missing.is_dir():
        changed.append(missing.parent)
        missing = missing.parent
    folder.mkdir(parents=True, exist_ok=True)
    return changed


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _corrupt(path: Path, reason: str) -> StoreCorrupt:
    return StoreCorrupt(
        f"the artifact {path} is damaged: {reason}", hint="restore it from a backup, or run its task again"
    )


def _translate(error: OSError, path: Path) -> StoreError:
    """The file system's words in ours."""
    if error.errno in (28, 122):  # ENOSPC, EDQUOT
        return StoreFull(
            f"no space left for artifacts in {path.parent}", hint="free some space; nothing stored is lost"
        )
    if error.errno in (1, 13, 30):  # EPERM, EACCES, EROFS
        return StoreReadOnly(f"artifacts in {path.parent} cannot be accessed: {error.strerror}")
    return StoreError(f"the artifact {path} cannot be stored or read: {error}")
