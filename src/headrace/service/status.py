"""What a running node goes by, in a file beside its data: ``nodes/NAME.json``, for ``headrace config show --running``.

A lock on ``nodes/NAME.lock`` is held for as long as the process lives, however it ends: a status without a locked lock
is of a process that is gone. Secrets are not in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Any

import msgspec

FOLDER = "nodes"


class StatusFile:
    """One node's status. A folder that cannot be written is no reason to stop: then there is no status."""

    def __init__(self, data_dir: Path, node: str) -> None:
        self._file = data_dir / FOLDER / f"{node}.json"
        self._lock: int | None = None
        self.problem = ""
        """Why there is no status; empty if there is."""

    def write(self, document: dict[str, Any]) -> None:
        """Replace the status, whole or not at all."""
        try:
            if self._lock is None:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                self._lock = os.open(self._file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            beside = self._file.with_suffix(".new")
            beside.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2))
            beside.chmod(0o600)
            beside.replace(self._file)
        except OSError as error:
            self.problem = f"{self._file}: {error.strerror}"

    def remove(self) -> None:
        """The node ends. Idempotent."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                self._file.unlink()
                self._file.with_suffix(".lock").unlink()
            os.close(self._lock)
            self._lock = None


def running(data_dir: Path) -> list[dict[str, Any]]:
    """The status of every node that lives on this host, by name. What dead ones left behind is removed."""
    found: list[dict[str, Any]] = []
    for file in sorted((data_dir / FOLDER).glob("*.json")):
        if _is_locked(file.with_suffix(".lock")):
            with contextlib.suppress(OSError, msgspec.DecodeError):
                found.append(msgspec.json.decode(file.read_bytes()))
        else:
            with contextlib.suppress(OSError):
                file.unlink()
                file.with_suffix(".lock").unlink()
    return found


def _is_locked(path: Path) -> bool:
    try:
        number = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # somebody else's; it cannot be told
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(number)
    return False
