"""The database of a MySQL store: is the server good for it, whose is it, which version has it, and the way up.

Migrations are the numbered files in ``mysql_migrations/``; the table ``headrace_version`` tells how many were applied.
MySQL commits every change of a table at once, so each statement of a migration can be repeated: one that was cut short is
done again from its beginning. ``GET_LOCK`` lets one node do that at a time; the second finds nothing left to do.

A migration keeps working what the former version of Headrace does: it adds columns with defaults and new procedures
beside the old ones. What nobody uses any more is removed one version later.
"""

from __future__ import annotations

import hashlib
import re

from headrace.backends.stores.migration_files import read_migrations
from headrace.backends.stores.mysql_connections import Connection
from headrace.backends.stores.mysql_text import literal, placed
from headrace.backends.stores.mysql_url import Place
from headrace.core.errors import SchemaTooNew, StoreCorrupt, StoreError, StoreReadOnly, StoreUnavailable

MIGRATION_SECONDS = 600.0
"""How long a node waits for another one that migrates, and how long one statement of a migration may take."""

_VERSION_TABLE = "headrace_version"
_OLDEST_MYSQL = (8, 0, 13)  # JSON_TABLE (8.0.4), DEFAULT expressions, SKIP LOCKED
_OLDEST_MARIADB = (10, 6)  # JSON_TABLE and SKIP LOCKED
_SEPARATOR = re.compile(r"^;;$", re.MULTILINE)
_COMMENT = re.compile(r"^\s*--.*$|\s--\s.*$", re.MULTILINE)


def migrations() -> tuple[tuple[str, str], ...]:
    """Name and text of every migration, in order: the first makes version 1."""
    return read_migrations("mysql_migrations")


def statements_of(text: str) -> list[str]:
    """The statements of a migration, without comments."""
    found = (_COMMENT.sub("", part).strip() for part in _SEPARATOR.split(text))
    return [statement for statement in found if statement]


async def prepare_database(db: Connection, place: Place) -> None:
    """Check that server and database can be used, and bring the tables up to date.

    Nothing is written before the checks have passed; a database that is up to date needs no right to create anything.
    Raises :class:`StoreError` and its kin, and the driver's errors.
    """
    await _check_server(db, place)
    known = migrations()
    if await _version(db, place) == len(known):
        return
    if await db.value(b"SELECT @@global.read_only"):
        raise StoreReadOnly(f"the database {place.shown} takes no writes", hint="is it a replica? Name the primary")
    name = literal(_lock_name(place))
    got = (await db.run(b"SELECT GET_LOCK(%s, %d)" % (name, MIGRATION_SECONDS), seconds=MIGRATION_SECONDS + 5))[0].rows
    if got[0][0] != 1:
        raise StoreUnavailable(f"another node has been migrating {place.shown} for ten minutes", hint="is it alive?")
    try:
        version = await _version(db, place) or 0  # another node may have been first
        for number, (_, text) in enumerate(known[version:], version + 1):
            for statement in statements_of(text):
                await db.run(statement.encode(), seconds=MIGRATION_SECONDS)
            await db.run(b"UPDATE headrace_version SET version = %d" % number)
    finally:
        if not db.is_closed():
            await db.run(b"DO RELEASE_LOCK(%s)" % name)


async def _check_server(db: Connection, place: Place) -> None:
    name, engine, flush, binary_log = (
        await db.rows(
            b"SELECT @@version, (SELECT support FROM information_schema.engines WHERE engine = 'InnoDB'),"
            b" @@innodb_flush_log_at_trx_commit, IF(@@log_bin, CONCAT(@@sync_binlog, ' ', @@global.binlog_format), '')"
        )
    )[0]
    cluster = await db.rows(b"SHOW GLOBAL VARIABLES LIKE 'wsrep_on'")
    is_maria = "MariaDB" in name
    if _numbers(name) < (_OLDEST_MARIADB if is_maria else _OLDEST_MYSQL):
        raise StoreError(
            f"the database {place.shown} is {'' if is_maria else 'MySQL '}{name}",
            hint="Headrace needs MySQL 8.0.13 or MariaDB 10.6, or newer ones",
        )
    if engine not in ("YES", "DEFAULT"):
        raise StoreError(f"the database {place.shown} has no InnoDB", hint="Headrace needs its transactions")
    if cluster and cluster[0][1] == "ON":
        raise StoreError(
            f"the database {place.shown} is a Galera cluster",
            hint="its members do not see each other's row locks, which fencing needs; use one server with replicas",
        )
    synced, _, binary_format = binary_log.partition(" ")
    if binary_format == "STATEMENT":
        raise StoreError(
            f"the database {place.shown} writes its binary log by statements",
            hint="set binlog_format to ROW or MIXED: READ COMMITTED transactions cannot be logged otherwise",
        )
    if (flush != 1 or synced == "0") and not place.relaxed:
        setting = "innodb_flush_log_at_trx_commit" if flush != 1 else "sync_binlog"
        raise StoreError(
            f"the database {place.shown} may lose acknowledged commits when the power fails"
            f" ({setting} = {flush if flush != 1 else synced})",
            hint=f"SET GLOBAL {setting} = 1, or accept it with ?relaxed_durability=true",
        )


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"(?:5\.5\.5-)?(\d+)\.(\d+)\.(\d+)", version)
    return tuple(map(int, found.groups())) if found else (0,)


async def _version(db: Connection, place: Place) -> int | None:
    """Migrations applied; None if there are no tables. Raises if they are not ours or too new."""
    names = [
        str(name)
        for (name,) in await db.rows(
            placed(
                "SELECT table_name FROM information_schema.tables WHERE table_schema = ? ORDER BY table_name",
                (place.database,),
            )
        )
    ]
    if not names:
        return None
    if _VERSION_TABLE not in names:
        raise StoreCorrupt(
            f"the database {place.shown} belongs to something else (it has the tables {', '.join(names[:4])})",
            hint="name another one in the URL; with the right to do so, Headrace makes it if it does not exist",
        )
    version: int = await db.value(b"SELECT version FROM headrace_version") or 0
    known = len(migrations())
    if version > known:
        raise SchemaTooNew(
            f"the database {place.shown} has schema version {version}; this Headrace knows versions up to {known}",
            hint="upgrade Headrace, or use the version that wrote the database",
        )
    return version


def _lock_name(place: Place) -> str:
    # Locks are of the whole server, and their names have at most 64 characters.
    return f"headrace-{hashlib.sha256(place.database.encode()).hexdigest()[:32]}"
