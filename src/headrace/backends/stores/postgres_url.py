"""What the URL of a PostgreSQL store says: where the database is, and three options of our own.

``postgresql://user:password@host:port/database?schema=NAME&pgbouncer=true&direct=HOST:PORT``. Everything else after the
question mark is libpq's (``sslmode``, ``target_session_attrs``, ``passfile``, ...) and goes to the driver as it is; what
is missing comes from the environment (``PGHOST``, ``PGPASSWORD``, ...) and ``~/.pgpass``, as for psql.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec

from headrace.core.errors import StoreError

SCHEMES = ("postgresql", "postgres")
SCHEMA_DEFAULT = "headrace"

_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_DIRECT = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_PASSWORDS = ("password", "sslpassword")


class Place(msgspec.Struct, frozen=True):
    """A database and a schema in it.

    ``dsn``: for the driver. ``shown``: for people, without passwords. ``schema``: where the tables are. ``pooled``: the
    server is reached through a pooler in transaction mode (pgbouncer), where every transaction may be on another session;
    ``direct`` is then the way around it, for the one connection that listens, or None.
    """

    dsn: str
    shown: str
    schema: str
    pooled: bool
    direct: str | None = None


def place_of_url(url: str) -> Place:
    """Read a store URL. Raises :class:`StoreError` for options that mean nothing."""
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError as error:
        raise StoreError(
            f"a PostgreSQL URL cannot be read ({error})",
            hint="it is postgresql://user@host:5432/database?option=value; special characters of a password are"
            " written as %XX",
        ) from None
    schema = options.pop("schema", SCHEMA_DEFAULT)
    if not _SCHEMA.fullmatch(schema) or schema.startswith("pg_"):
        raise StoreError(
            f"?schema={schema}: that is no name of a schema",
            hint="use small letters, digits and underscores, at most 63, not beginning with a digit or pg_",
        )
    pooled = options.pop("pgbouncer", "false").lower()
    if pooled not in ("true", "false", "1", "0"):
        raise StoreError(f"?pgbouncer={pooled}: expected true or false")
    direct = options.pop("direct", None)
    if direct is not None and not _DIRECT.fullmatch(direct):
        raise StoreError(f"?direct={direct}: expected HOST or HOST:PORT of the server behind the pooler")
    network = parts.netloc
    user, at, host = network.rpartition("@")
    visible = {key: value for key, value in options.items() if key not in _PASSWORDS}
    if schema != SCHEMA_DEFAULT:
        visible["schema"] = schema
    if direct is not None:
        visible["direct"] = direct
    return Place(
        dsn=_joined(network, parts.path, options),
        shown=_joined(user.partition(":")[0] + at + host, parts.path, visible),
        schema=schema,
        pooled=pooled in ("true", "1"),
        direct=None if direct is None else _joined(f"{user}{at}{direct}", parts.path, options),
    )


def with_schema(url: str, schema: str) -> str:
    """The same database, another schema."""
    parts = urlsplit(url)
    options = {**dict(parse_qsl(parts.query, keep_blank_values=True)), "schema": schema}
    return _joined(parts.netloc, parts.path, options)


def _joined(network: str, path: str, options: dict[str, str]) -> str:
    # Not urlunsplit: without a host (a socket, or PGHOST) it would leave the two slashes out.
    return f"postgresql://{network}{path}{'?' if options else ''}{urlencode(options)}"
