"""One lock file per living node, beside the database: the kernel tells at once when its process is dead.

A lease only ends with time. But a node holds ``flock`` on its file for as long as its process exists, so a lock that
can be taken means: that process is gone, its runs may go elsewhere now. A *suspended* process keeps its lock and
loses its lease by time. The lock is only ever evidence of death; that a node lives is judged by its lease, and a
missing file (a database copied from elsewhere) says nothing.

Files are named after node and epoch, so a node that joins again never meets its predecessor's lock. They are made and
tested inside write transactions of the database, which serialises these steps between processes. A node that leaves
removes its own after the commit that removes its row: if that fails (a full disk), the file stays and tells of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import weakref
from pathlib import Path
from urllib.parse import quote

_NAME_LENGTH_MAX = 120

FOLDER_TRIES_MAX = 100
"""How often the folder is made anew while nodes that leave remove it."""


class NodeLock:
    """A held lock file. Released by :meth:`release`, or by the kernel when the process ends."""

    def __init__(self, path: Path) -> None:
        """Make the file and lock it. Raises ``OSError``."""
        self.path = path
        # A file of that name is left over from an epoch that was never committed.
        path.unlink(missing_ok=True)
        self._fd = _created(path)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise
        _held.add(self)

    def release(self, *, remove: bool) -> None:
        """Give the lock up; ``remove`` the file too if the node left in good order. Idempotent."""
        if self._fd < 0:
            return
        if remove:
            self.path.unlink(missing_ok=True)
        self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


_held: weakref.WeakSet[NodeLock] = weakref.WeakSet()


def _forget_in_child() -> None:
    # A forked child shares the open file: if it outlived its parent, the parent would seem alive.
    for lock in list(_held):
        lock._close()  # closing, unlike unlocking, leaves the parent's lock alone


os.register_at_fork(after_in_child=_forget_in_child)


def _created(path: Path) -> int:
    for _ in range(FOLDER_TRIES_MAX):
        path.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # a node that left took the empty folder with it
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


class NodeLocks:
    """The lock files of one database, in the folder ``<database>-nodes``."""

    def __init__(self, database: Path) -> None:
        self.folder = Path(f"{database}-nodes")

    def path(self, node: str, epoch: int) -> Path:
        """Where a node's lock is, whatever characters its name has."""
        name = quote(node, safe="")
        if len(name) > _NAME_LENGTH_MAX:
            name = f"{name[:40]}-{hashlib.sha256(node.encode()).hexdigest()[:32]}"
        return self.folder / f"{name}.{epoch}.lock"

    def take(self, node: str, epoch: int) -> NodeLock:
        """Lock a fresh epoch of a node. Raises ``OSError``."""
        return NodeLock(self.path(node, epoch))

    def is_dead(self, node: str, epoch: int) -> bool:
        """True if the process that held this lock is certainly gone."""
        try:
            fd = os.open(self.path(node, epoch), os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            # Shared, so that two processes asking at the same moment do not take each other for the node.
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

    def remove(self, node: str, epoch: int) -> None:
        """Remove the file of an epoch that is over; one still held by a zombie may go too: nobody will ask for it
        again."""
        with contextlib.suppress(OSError):
            self.path(node, epoch).unlink(missing_ok=True)

    def remove_folder(self) -> None:
        """Remove the folder if it is empty."""
        with contextlib.suppress(OSError):
            self.folder.rmdir()
