"""Attempt logs as text files: ``<folder>/<run>/<task>[.item].<attempt>.log``.

A log is bounded: its first half is kept for good, of the rest only the end. While it is written, the end lives in
*tail* files beside it, ``….log.tail-<offset>``, two of which rotate, so that a flood costs neither memory nor disk and a
crash loses nothing; closing the log folds them back into one file, with a line that says how much is missing.

The dot separates the parts of a name and never occurs within one: in task ids it is written ``+``.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import threading
from pathlib import Path
from urllib.parse import quote, unquote

from headrace.contracts.execution import AttemptLog, LogEntry

BYTES_MAX_DEFAULT = 10 * 1024 * 1024
BYTES_MAX_LEAST = 4_096

READ_BYTES_MAX = 64 * 1024 * 1024
"""How much :meth:`FileLogs.read_logs` reads at once; logs past it are named, with their size, but not read."""

_TAIL = ".tail-"
_FILE = re.compile(r"(?P<task>[^.]+)(?:\.(?P<item>\d+))?\.(?P<attempt>\d+)\.log")

_logger = logging.getLogger(__name__)


class FileLogs:
    """Implements :class:`headrace.contracts.execution.LogStore` over a folder. ``bytes_max`` bounds one attempt's log
    (default 10 MiB, at least 4 KiB)."""

    def __init__(self, folder: str | Path, bytes_max: int = BYTES_MAX_DEFAULT) -> None:
        if bytes_max < BYTES_MAX_LEAST:
            raise ValueError(f"bytes_max must be at least {BYTES_MAX_LEAST}, not {bytes_max}")
        self.folder = Path(folder)
        self.bytes_max = bytes_max

    def open_log(self, run_id: str, task: str, item: int | None, attempt: int) -> AttemptLog:
        """A log for one attempt. Cheap: nothing is created until something is written."""
        return _FileLog(self, run_id, task, item, attempt)

    def path(self, run_id: str, task: str, item: int | None, attempt: int) -> Path:
        """Where a log is, or would be."""
        middle = "" if item is None else f".{item}"
        return self.folder / _encode(run_id) / f"{_encode(task)}{middle}.{attempt}.log"

    def read_logs(self, run_id: str, task: str | None = None) -> list[LogEntry]:
        """Everything written for a run or one of its tasks, also while it is being written. Missing files are no
        error: they are logs of attempts that wrote nothing."""
        folder = self.folder / _encode(run_id)
        wanted = None if task is None else _encode(task)
        found: list[tuple[str, int, int, Path]] = []
        try:
            names = [entry.name for entry in folder.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        for name in names:
            match = _FILE.fullmatch(name)
            if match is not None and (wanted is None or match["task"] == wanted):
                item = -1 if match["item"] is None else int(match["item"])
                found.append((_decode(match["task"]), item, int(match["attempt"]), folder / name))
        entries: list[LogEntry] = []
        left = READ_BYTES_MAX
        for name, item, attempt, path in sorted(found):
            data = _read(path, self.bytes_max // 2, left)
            left -= len(data)
            text = data.decode("utf-8", "replace")
            entries.append(LogEntry(task=name, item=None if item < 0 else item, attempt=attempt, text=text))
        return entries

    def delete_logs(self, run_id: str) -> None:
        """Forget a run's logs."""
        shutil.rmtree(self.folder / _encode(run_id), ignore_errors=True)


class _FileLog:
    """One attempt's log. Trouble with the disk is reported once and never fails the attempt."""

    __slots__ = (
        "_closed",
        "_failed",
        "_fd",
        "_head_max",
        "_lock",
        "_path",
        "_place",
        "_room",
        "_size",
        "_store",
        "_tails",
    )

    def __init__(self, store: FileLogs, run_id: str, task: str, item: int | None, attempt: int) -> None:
        self._store = store
        self._place = (run_id, task, item, attempt)
        self._head_max = store.bytes_max // 2
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._fd = -1
        self._size = 0
        self._room = 0
        self._tails: list[Path] = []
        self._closed = False
        self._failed = False

    def write(self, stream: str, data: bytes) -> None:
        """Append; visible to readers at once."""
        if not data:
            return
        with self._lock:
            if self._closed or self._failed:
                return
            try:
                if self._fd < 0:
                    self._open()
                self._append(memoryview(data))
            except OSError as error:
                self._failed = True
                self._close_file()
                _logger.warning("the log of an attempt cannot be written any more: %s", error)

    def close(self) -> None:
        """Fold the tails into the file."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._close_file()
            if self._tails and self._path is not None:
                try:
                    _fold(self._path, self._head_max)
                except OSError as error:
                    _logger.warning("the log of an attempt stays in several files: %s", error)

    def _open(self) -> None:
        path = self._store.path(*self._place)
        try:
            self._fd = _open_append(path)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = _open_append(path)
        self._path = path
        self._size = os.fstat(self._fd).st_size
        self._room = self._head_max - self._size
        if self._room < 0:  # a second launch of an attempt whose log was full
            self._next_tail(self._size)
            return
        self._tails = _tails_of(path)
        if self._tails:
            last = self._tails[-1]
            self._close_file()
            self._fd = _open_append(last)
            size = os.fstat(self._fd).st_size
            self._size = _offset_of(last) + size
            self._room = self._head_max // 2 - size

    def _append(self, data: memoryview) -> None:
        while data:
            if self._room <= 0:
                self._next_tail(self._size)
            written = os.write(self._fd, data[: self._room])
            data = data[written:]
            self._size += written
            self._room -= written

    def _next_tail(self, offset: int) -> None:
        """Go on in a new tail; of the older ones the last two stay, so that at least a quarter of the bound is kept."""
        assert self._path is not None
        self._close_file()
        tail = self._path.with_name(f"{self._path.name}{_TAIL}{offset:020d}")
        self._fd = _open_append(tail)
        self._tails.append(tail)
        while len(self._tails) > 2:
            self._tails.pop(0).unlink(missing_ok=True)
        self._room = self._head_max // 2

    def _close_file(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _open_append(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)


def _tails_of(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}{_TAIL}*"))


def _offset_of(tail: Path) -> int:
    return int(tail.name.rpartition("-")[2])


def _fold(path: Path, head_max: int) -> None:
    """Make one file of a head and its tails. A crash in between leaves either the old files or the new one beside
    tails that are then read twice at worst."""
    whole = _read(path, head_max, None)
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(whole)
    tails = _tails_of(path)
    temporary.replace(path)
    for tail in tails:
        tail.unlink(missing_ok=True)


def _read(path: Path, head_max: int, bytes_max: int | None) -> bytes:
    """The log as one text: head, a line for what is missing, tails. None: no bound but the log's own."""
    try:
        tails = _tails_of(path)
        parts = [path, *tails]
        sizes = [part.stat().st_size for part in parts]
        if bytes_max is not None and sum(sizes) > bytes_max:
            return f"... {sum(sizes):,} bytes not shown; they are in {path} ...\n".encode()
        head = path.read_bytes()
        if not tails:
            return head
        head = head[:head_max]  # longer only after a second launch of an attempt whose log had been folded
        rest = b"".join(tail.read_bytes() for tail in tails)
    except FileNotFoundError:  # folded or rotated while we read
        return path.read_bytes() if path.exists() else b""
    dropped = _offset_of(tails[0]) - len(head)
    if dropped <= 0:
        return head + rest
    return head + f"\n... {dropped:,} bytes dropped ...\n".encode() + rest


def _encode(name: str) -> str:
    """A file name for an id. Ids that passed validation keep their length: only the dot changes."""
    return quote(name, safe="").replace(".", "+")


def _decode(name: str) -> str:
    return unquote(name.replace("+", "."))
