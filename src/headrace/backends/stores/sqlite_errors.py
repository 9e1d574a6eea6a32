"""SQLite's errors in Headrace's words: every ``sqlite3.Error`` is translated here, at the border."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

from headrace.core.errors import StoreCorrupt, StoreError, StoreFull, StoreReadOnly, StoreUnavailable

_PRIMARY_CODE = 0xFF  # the low byte of an extended result code is its primary code

LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})


def primary_code(error: sqlite3.Error) -> int:
    """The primary result code, or -1 for an error that Python's module raised itself."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & _PRIMARY_CODE if isinstance(code, int) else -1


def translated(error: sqlite3.Error, path: str) -> StoreError:
    """The Headrace error for an SQLite error on the database at ``path``; never raises."""
    code = primary_code(error)
    if code in LOCKED:
        return StoreUnavailable(
            f"the database {path} is locked by another process",
            hint="end whatever holds it (a backup, a shell in a transaction); a suspended process keeps its lock",
        )
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(
            f"no space left for the database {path}",
            hint="free some disk space; nothing that was acknowledged is lost and work goes on from where it stopped",
        )
    if code == sqlite3.SQLITE_READONLY:
        return read_only(path, "SQLite cannot write it")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        what = "is not an SQLite database" if code == sqlite3.SQLITE_NOTADB else "is damaged"
        return StoreCorrupt(
            f"the file {path} {what} ({error})",
            hint="name another file, or restore this one from a backup together with its -wal file;"
            " `sqlite3 FILE .recover` may save what is left",
        )
    if code == sqlite3.SQLITE_CANTOPEN:
        return StoreError(
            f"cannot open the database {path} ({error})",
            hint="check that its folder exists and that this user may use it",
        )
    if code == sqlite3.SQLITE_IOERR:
        return StoreUnavailable(
            f"reading or writing the database {path} failed ({error})",
            hint="look at the disk: the kernel log, free space, quotas. Nothing that was acknowledged is lost",
        )
    return StoreError(
        f"the database {path} refused a statement ({type(error).__name__}: {error})",
        hint="was the file changed by hand or by another program? If not, this is a defect in Headrace: please report it",
    )


def read_only(path: str, reason: str) -> StoreReadOnly:
    """The error for a database or folder that cannot be written."""
    return StoreReadOnly(
        f"the database {path} cannot be written: {reason}",
        hint="Headrace needs to write the file and its folder (the -wal and -shm files live there);"
        " mend the rights or choose another place",
    )


@contextmanager
def translating(path: str) -> Generator[None]:
    """Within it, SQLite's errors leave as Headrace's."""
    try:
        yield
    except sqlite3.Error as error:
        raise translated(error, path) from error
