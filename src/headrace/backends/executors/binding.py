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

from headrace.contracts.execution import Attempt, Executor, LateLog, LogStore

_logger = logging.getLogger(__name__)

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")


class Binding:
    """Gives attempts their logs and work folders.

    ``data_dir`` holds ``work/``. The launcher closes an attempt's log and calls :meth:`finish` when it has ended, however
    it ended; nothing was made for an attempt that asked for nothing. Safe from any thread, but an attempt's own things
    are asked for by one at a time.
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

    def with_functions(self, functions: Mapping[str, Callable[..., Any]]) -> Binding:
        """The same surroundings, sharing everything, with other functions."""
        other = copy.copy(self)
        other.functions = functions
        return other

    def work_dir(self, attempt: Attempt) -> str:
        """A fresh folder; what a crashed launch of the same attempt left there is removed first."""
        if attempt.folder is None:
            folder = self._work / work_folder_name(attempt)
            try:
                folder.mkdir()
            except FileNotFoundError:
                self._work.mkdir(parents=True, exist_ok=True)
                folder.mkdir()
            except FileExistsError:
                shutil.rmtree(folder)
                folder.mkdir()
            attempt.folder = str(folder)
        return attempt.folder

    def log(self, attempt: Attempt) -> LateLog:
        """The attempt's log; nothing reaches the disk before something is written."""
        log = attempt.log
        if log is None:
            log = attempt.log = LateLog(self._logs, attempt.run_id, attempt.task, attempt.item, attempt.attempt)
        return log

    def finish(self, attempt: Attempt) -> None:
        """Remove the work folder, if there is one. Idempotent. A folder with content goes in a thread: it may be large,
        and this is called on the event loop."""
        if attempt.folder is None:
            return
        folder, attempt.folder = Path(attempt.folder), None
        try:
            folder.rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            threading.Thread(target=_remove, args=(folder,), name="headrace-work-remove", daemon=True).start()


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
