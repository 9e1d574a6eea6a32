"""The connection that the calling database task writes with."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

DATABASE = "database"
"""The executor of database tasks."""

# Any: each store has connections of its own.
connection_var: ContextVar[Any] = ContextVar("headrace_connection", default=None)
"""Set by the executor around a database task."""


@contextmanager
def using_connection(connection: Any) -> Generator[None]:
    """For tests of database tasks without an engine: calls inside are given this connection. Commits nothing."""
    token = connection_var.set(connection)
    try:
        yield
    finally:
        connection_var.reset(token)
