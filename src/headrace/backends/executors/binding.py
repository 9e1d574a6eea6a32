"""The surroundings of one workflow's tasks: what :class:`~headrace.contracts.execution.BindContext` promises."""

from __future__ import annotations

import copy
import hashlib
import logging
import re
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from headrace.contracts.execution import Attempt, AttemptLog, Executor, LogStore

_logger = logging.getLogger(__name__)

_opening = threading.Lock()
"""Held while a log is opened for its first line, or closed."""

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")


class Binding:
    """Gives attempts their logs and work folders, and takes them back.

    ``data_dir`` holds ``work/``. The launcher calls :meth:`finish` when an attempt has ended, however it ended; nothing
    was made for an attempt that asked for nothing. Safe from any thread.
    """

    def __init__(
        self,
        *,
        data_dir: str | Path,
        logs: LogStore,
        executors: Mapping[str, Executor],
        source_dir: str | None = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        env_allow: tuple[str, ...] = (),
    ) -> None:
        self.source_dir: str | None = str(Path(source_dir).resolve()) if source_dir is not None else None
        self.executors: Mapping[str, Executor] = executors
        self.functions: Mapping[str, Callable[..., Any]] = functions or {}
        self.env_allow: tuple[str, ...] = env_allow
        self.memo: dict[object, Any] = {}
        self._work = Path(data_dir).resolve() / "work"
        self._logs = logs
        self._open_logs: dict[str, _LateLog] = {}
        self._folders: dict[str, Path] = {}

    def with_functions(self, functions: Mapping[str, Callable[..., Any]]) -> Binding:
        """The same surroundings, sharing everything, with other functions."""
        other = copy.copy(self)
        other.functions = functions
        return other

    def work_dir(self, attempt: Attempt) -> str:
        """A fresh folder; what a crashed launch of the same attempt left there is removed first."""
        folder = self._folders.get(attempt.key)
        if folder is None:
            folder = self._work / work_folder_name(attempt)
            try:
                folder.mkdir()
            except FileNotFoundError:
                self._work.mkdir(parents=True, exist_ok=True)
                folder.mkdir()
            except FileExistsError:
                shutil.rmtree(folder)
                folder.mkdir()
            self._folders[attempt.key] = folder
        return str(folder)

    def log(self, attempt: Attempt) -> AttemptLog:
        """The attempt's log; nothing reaches the disk before something is written."""
        log = self._open_logs.get(attempt.key)
        if log is None:
            log = self._open_logs.setdefault(attempt.key, _LateLog(self._logs, attempt))
        return log

    def finish(self, attempt: Attempt) -> None:
        """Close the log and remove the work folder. Idempotent. A folder with content goes in a thread: it may be
        large, and this is called on the event loop."""
        log = self._open_logs.pop(attempt.key, None)
        if log is not None:
            log.close()
        folder = self._folders.pop(attempt.key, None)
        if folder is None:
            return
        try:
            folder.rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            threading.Thread(target=_remove, args=(folder,), name="headrace-work-remove", daemon=True).start()


class _LateLog(msgspec.Struct, eq=False, gc=False):
    """An attempt's log that costs nothing before something is written: most attempts write nothing."""

    _logs: LogStore
    _attempt: Attempt
    _log: AttemptLog | None = None
    _closed: bool = False

    def write(self, stream: str, data: bytes) -> None:
        """Append; ignored once closed."""
        log = self._log
        if log is None:
            with _opening:
                if self._closed:
                    return
                log = self._log
                if log is None:
                    attempt = self._attempt
                    log = self._logs.open_log(attempt.run_id, attempt.task, attempt.item, attempt.attempt)
                    self._log = log
        log.write(stream, data)

    def close(self) -> None:
        """No more output. A thread that goes on after its time may be writing just now."""
        with _opening:
            self._closed = True
        if self._log is not None:
            self._log.close()


def work_folder_name(attempt: Attempt) -> str:
    """A file name for an attempt's key: readable, unique, at most 200 characters."""
    task = _UNSAFE.sub("_", attempt.task)[:100]
    if task != attempt.task:
        task += "~" + hashlib.sha256(attempt.task.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    item = "" if attempt.item is None else f"~{attempt.item}"
    return f"{_UNSAFE.sub('_', attempt.run_id)[:60]}~{task}{item}~a{attempt.attempt}"


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        _logger.warning("a work folder could not be removed: %s", error)
