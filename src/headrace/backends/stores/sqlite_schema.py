"""The schema of an SQLite database: whose file is it, which version has it, and the way up.

Migrations are the numbered files in ``sqlite_migrations/``; ``PRAGMA user_version`` tells how many were applied. Each
is applied in one transaction that holds the write lock and looks at the version again, so processes that open a new
file at the same moment do not collide.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator

from headrace.backends.stores.migration_files import read_migrations
from headrace.backends.stores.sqlite_connection import patiently, reading, use_wal, writing
from headrace.core.errors import SchemaTooNew, StoreCorrupt, StoreError

APPLICATION_ID = 0x48445243
"""``HDRC``: marks a file as a Headrace database (``PRAGMA application_id``)."""


def migrations() -> tuple[tuple[str, str], ...]:
    """Name and text of every migration, in order: the first makes version 1."""
    return read_migrations("sqlite_migrations")


def prepare_database(db: sqlite3.Connection, path: str, busy_seconds: float) -> None:
    """Check that the file is ours, make it a WAL database and bring its schema up to date.

    Nothing is written before the check has passed. Raises :class:`StoreCorrupt`, :class:`SchemaTooNew`,
    :class:`StoreError` and ``sqlite3.Error``.
    """
    patiently(lambda: _check_in_snapshot(db, path), busy_seconds)
    if not use_wal(db, busy_seconds):
        raise StoreError(
            f"the file system under {path} does not support SQLite's WAL", hint="put the database on a local disk"
        )
    for number, (_, text) in enumerate(migrations(), start=1):
        if _version(db) >= number:
            continue
        with writing(db, busy_seconds):
            _check_identity(db, path)
            if _version(db) >= number:  # another process was first
                continue
            for statement in statements(text):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {number}")


def _version(db: sqlite3.Connection) -> int:
    return db.execute("PRAGMA user_version").fetchone()[0]


def _check_in_snapshot(db: sqlite3.Connection, path: str) -> None:
    # One snapshot: between two reads another process may make the schema, and it would look like somebody else's.
    with reading(db):
        _check_identity(db, path)


def _check_identity(db: sqlite3.Connection, path: str) -> None:
    application = db.execute("PRAGMA application_id").fetchone()[0]
    version = _version(db)
    tables = [
        name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name LIMIT 4")
    ]
    if application == APPLICATION_ID:
        known = len(migrations())
        if version > known:
            raise SchemaTooNew(
                f"the database {path} has schema version {version}; this Headrace knows versions up to {known}",
                hint="upgrade Headrace, or use the version that wrote the database",
            )
        return
    if application or tables:
        whose = f"it has the tables {', '.join(tables)}" if tables else f"its application id is {application:#x}"
        raise StoreCorrupt(
            f"the file {path} is an SQLite database of something else ({whose})",
            hint="name another file; Headrace makes it if it does not exist",
        )


def statements(script: str) -> Generator[str]:
    """The statements of a script, one by one: ``executescript`` would commit the transaction it runs in."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip() and not all(
        line.lstrip().startswith("--") or not line.strip() for line in statement.splitlines()
    ):
        raise StoreError(f"a migration ends in the middle of a statement: {statement.strip()[:80]!r}")
