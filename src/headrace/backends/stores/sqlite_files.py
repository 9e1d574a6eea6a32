"""Where an SQLite database may live: its URL, its file and the file system under it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from headrace.backends.stores.sqlite_errors import read_only
from headrace.core.errors import StoreError, StoreFull

NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "ncpfs", "afs", "ceph", "lustre", "beegfs", "gpfs", "orangefs"}
    | {"fuse.sshfs", "fuse.ceph", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "fuse.davfs2", "davfs"}
)
"""File systems on which SQLite's WAL is unsafe: its index is shared memory, which two hosts do not share.

9p and virtiofs are not among them: virtual machines and sandboxes have their root on these."""

_URL_HINT = (
    'use "sqlite:///name.db" (relative), "sqlite:////folder/name.db" (absolute) or "sqlite://" (private, temporary)'
)


def path_of_url(url: str) -> Path | None:
    """The absolute path an ``sqlite:`` URL names; None for ``sqlite://``, a private temporary database.

    Relative paths are taken from the working directory now, so that a later change of it does no harm. Raises
    :class:`StoreError` for anything else.
    """
    scheme, _, rest = url.partition("://")
    if scheme != "sqlite":
        raise StoreError(f"{url!r} is not an SQLite URL", hint=_URL_HINT)
    if not rest:
        return None
    if not rest.startswith("/"):
        raise StoreError(
            f"{url!r} names a host; SQLite databases are local files", hint=f"three slashes are missing? {_URL_HINT}"
        )
    name = rest[1:]
    if not name or name.endswith("/"):
        raise StoreError(f"{url!r} names no file", hint=_URL_HINT)
    if "?" in name or "\0" in name:
        raise StoreError(f"{url!r} holds options or a NUL; there are none for SQLite", hint=_URL_HINT)
    if name == ":memory:":
        raise StoreError(
            f"{url!r}: a database in memory cannot be shared by threads", hint='use "sqlite://" or "memory://"'
        )
    return Path(name).expanduser().resolve()


def file_system_of(path: Path) -> str:
    """The type of the file system that holds ``path`` (which need not exist), or '' where the kernel does not tell."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
    best, found = -1, ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) < 5 or not right:
            continue
        point = fields[4].encode("utf-8", "surrogateescape").decode("unicode_escape")
        # Later lines win among equals: they are mounted over the earlier ones.
        if path.is_relative_to(point) and len(point) >= best:
            best, found = len(point), right.split(" ")[0]
    return found


def prepare_place(path: Path, file_system: Callable[[Path], str]) -> None:
    """Check that a database can live at ``path`` and create its folder.

    Raises :class:`StoreError` (a directory, a network file system, no folder possible), :class:`StoreReadOnly` or
    :class:`StoreFull`.
    """
    kind = file_system(path)
    if kind in NETWORK_FILE_SYSTEMS:
        raise StoreError(
            f"the database {path} would be on a network file system ({kind}), where SQLite loses data",
            hint="put it on a local disk, or use a database server for more than one machine",
        )
    if path.is_dir():
        raise StoreError(f"{path} is a directory", hint=f"name a file in it, for example {path / 'headrace.db'}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise StoreError(
            f"the folder of the database {path} cannot be made: a part of it is a file", hint="choose another place"
        ) from error
    except OSError as error:
        raise _translated_os_error(path, error) from error
    # Asked of the kernel rather than read from mode bits: it also knows read-only mounts and immutable files.
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise read_only(str(path), f"the folder {path.parent} is read-only for this user")
    for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        if file.exists() and not os.access(file, os.R_OK | os.W_OK):
            raise read_only(str(path), f"the file {file.name} is read-only for this user")


def _translated_os_error(path: Path, error: OSError) -> StoreError:
    import errno  # noqa: PLC0415 - only needed when things go wrong

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(f"no space left for the folder of the database {path}", hint="free some disk space")
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return read_only(str(path), f"its folder cannot be made ({error.strerror})")
    return StoreError(
        f"the folder of the database {path} cannot be made ({error.strerror})", hint="choose another place"
    )
