"""Stores: implementations of :mod:`headrace.contracts.store`.

- :mod:`~headrace.backends.stores.memory`: in this process only; the oracle of the conformance suite.
- :mod:`~headrace.backends.stores.sqlite`: one file, one host, any number of processes.
- :mod:`~headrace.backends.stores.postgres`: a PostgreSQL database, any number of hosts.
- :mod:`~headrace.backends.stores.mysql`: a MySQL or MariaDB database, any number of hosts.

:func:`open_store` chooses by URL.
"""

from __future__ import annotations

from headrace.contracts.store import Store
from headrace.core.errors import StoreError

SUPPORTED = (
    ("sqlite:///relative.db", "an SQLite file, relative to the working directory"),
    ("sqlite:////absolute/path.db", "an SQLite file"),
    ("sqlite://", "a private temporary SQLite database, removed at the end"),
    ("postgresql://user@host/database", "a PostgreSQL database, for several nodes"),
    ("mysql://user@host/database", "a MySQL or MariaDB database, for several nodes"),
    ("memory://", "in this process only, for tests"),
)
"""URL forms and what they mean, for messages and documentation."""


def open_store(url: str) -> Store:
    """The store a URL names, not yet opened: ``await store.open()``.

    Raises :class:`StoreError` for a URL of no known form, or if the store's driver is not installed.
    """
    scheme, separator, rest = url.partition("://")
    if scheme == "sqlite" and separator:
        from headrace.backends.stores.sqlite import SqliteStore  # noqa: PLC0415 - sqlite3 is loaded when needed

        return SqliteStore(url)
    if scheme in ("postgresql", "postgres") and separator:
        try:
            from headrace.backends.stores.postgres import PostgresStore  # noqa: PLC0415
        except ModuleNotFoundError as error:
            if error.name != "asyncpg":
                raise
            raise StoreError(
                f"{scheme}:// needs the driver asyncpg, which is not installed", hint='pip install "headrace[postgres]"'
            ) from None

        return PostgresStore(url)
    if scheme in ("mysql", "mariadb") and separator:
        try:
            from headrace.backends.stores.mysql import MysqlStore  # noqa: PLC0415
        except ModuleNotFoundError as error:
            if error.name != "asyncmy":
                raise
            raise StoreError(
                f"{scheme}:// needs the driver asyncmy, which is not installed", hint='pip install "headrace[mysql]"'
            ) from None

        return MysqlStore(url)
    if scheme == "memory" and separator:
        if rest:
            raise StoreError(f"{url!r}: a memory store has no name", hint='use "memory://"')
        from headrace.backends.stores.memory import MemoryStore  # noqa: PLC0415

        return MemoryStore()
    forms = "\n".join(f"    {form:<32} {meaning}" for form, meaning in SUPPORTED)
    if not separator:
        suggestion = (
            f"sqlite:///{url.removeprefix('sqlite:').removeprefix('file:')}" if url.strip() else SUPPORTED[0][0]
        )
        raise StoreError(f"{url!r} is not a store URL", hint=f'did you mean "{suggestion}"? Supported are:\n{forms}')
    raise StoreError(f"there is no store for {scheme}://", hint=f"supported are:\n{forms}")


__all__ = ["SUPPORTED", "open_store"]
