"""The schema of a PostgreSQL database: whose is it, which version has it, and the way up.

Migrations are the numbered files in ``postgres_migrations/``; the table ``schema_version`` tells how many were applied.
All that are missing are applied in one transaction under an advisory lock, so nodes that open a database at the same
moment do not collide: the second finds nothing left to do.

A migration keeps working what the former version of Headrace does: it adds columns with defaults and new functions beside
the old ones. What nobody uses any more is removed one version later.
"""

from __future__ import annotations

from headrace.backends.stores.migration_files import read_migrations
from headrace.backends.stores.postgres_connections import Connection
from headrace.backends.stores.postgres_url import Place
from headrace.core.errors import SchemaTooNew, StoreCorrupt, StoreError, StoreReadOnly

_LOCK = 0x68656164_72616365  # "headrace"
_OLDEST = 140000


def migrations() -> tuple[tuple[str, str], ...]:
    """Name and text of every migration, in order: the first makes version 1."""
    return read_migrations("postgres_migrations")


async def prepare_database(db: Connection, place: Place) -> None:
    """Check that server and schema can be used, and bring the schema up to date.

    Nothing is written before the checks have passed; a schema that is up to date needs no right to create anything.
    Raises :class:`StoreError` and its kin, and the driver's errors.
    """
    await _check_server(db, place)
    known = migrations()
    if await _version(db, place) == len(known):
        return
    if await db.fetchval("SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'"):
        raise StoreReadOnly(
            f"the database {place.shown} takes no writes",
            hint="is it a standby? Name the primary, or several hosts with ?target_session_attrs=read-write",
        )
    async with db.transaction(isolation="read_committed"):
        await db.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
        version = await _version(db, place)  # another node may have been first
        if version == len(known):
            return
        if version is None:
            await db.execute(f"CREATE SCHEMA IF NOT EXISTS {place.schema}")
        for _, text in known[version or 0 :]:
            await db.execute(text.replace("{schema}", place.schema))
        await db.execute(f"UPDATE {place.schema}.schema_version SET version = {len(known)}")


async def _check_server(db: Connection, place: Place) -> None:
    row = await db.fetchrow(
        "SELECT current_setting('server_version_num')::integer, current_setting('server_version'),"
        " current_setting('server_encoding'), current_setting('default_transaction_isolation')"
    )
    assert row is not None
    number, name, encoding, isolation = row
    if number < _OLDEST:
        raise StoreError(
            f"the database {place.shown} is PostgreSQL {name}", hint="Headrace needs PostgreSQL 14 or newer"
        )
    if encoding != "UTF8":
        raise StoreError(
            f"the database {place.shown} has the encoding {encoding}",
            hint="make one that can hold all characters: createdb -E UTF8 -T template0 NAME",
        )
    if isolation != "read committed":  # the functions rely on it; only a pooler keeps us from asking for it
        raise StoreError(
            f"sessions of {place.shown} begin with the isolation level {isolation}",
            hint="ALTER ROLE NAME SET default_transaction_isolation = 'read committed' for the user of this URL",
        )


async def _version(db: Connection, place: Place) -> int | None:
    """Migrations applied; None if there is no schema or an empty one. Raises if it is not ours or too new."""
    tables = await db.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)"
        " AND relkind IN ('r', 'p', 'v', 'm') ORDER BY relname",
        place.schema,
    )
    names = [str(row[0]) for row in tables]
    if not names:
        return None
    if "schema_version" not in names or "runs" not in names:
        raise StoreCorrupt(
            f"the schema {place.schema} of {place.shown} belongs to something else"
            f" (it has the tables {', '.join(names[:4])})",
            hint="name another one: ?schema=NAME; Headrace makes it if it does not exist",
        )
    version: int = await db.fetchval(f"SELECT version FROM {place.schema}.schema_version")
    known = len(migrations())
    if version > known:
        raise SchemaTooNew(
            f"the database {place.shown} has schema version {version}; this Headrace knows versions up to {known}",
            hint="upgrade Headrace, or use the version that wrote the database",
        )
    return version


async def drop_schema(db: Connection, place: Place) -> None:
    """Remove the schema with everything in it, if there is one and it is ours."""
    if await _version(db, place) is not None:
        await db.execute(f"DROP SCHEMA {place.schema} CASCADE")
