"""PostgreSQL's errors in Headrace's words: whatever the driver raises is translated here, at the border."""

from __future__ import annotations

import asyncpg

from headrace.core.errors import (
    Fenced,
    HeadraceError,
    HistoryConflict,
    NotFound,
    NotLeader,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
)

DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
"""What calls of the driver raise. Programmer mistakes (TypeError, ...) are not among them."""

GONE = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03"})
"""Codes after which the connection is of no use: the server shuts down, crashed, is starting, or hung up on us."""

_BUSY = frozenset({"40001", "40P01", "55P03", "53000", "53200", "53300", "53400", "57014", "58000", "58030"})
_NO_ENTRY = frozenset({"28000", "28P01"})


def sqlstate_of(error: BaseException) -> str:
    """The five characters of PostgreSQL's code, or ''."""
    return getattr(error, "sqlstate", None) or ""


def is_lost(error: BaseException) -> bool:
    """Whether the connection that raised this can no longer be used."""
    code = sqlstate_of(error)
    if code:
        return code in GONE or code.startswith("08")
    return isinstance(error, asyncpg.InternalClientError | OSError | TimeoutError)


def translated(error: BaseException, place: str) -> HeadraceError:
    """The Headrace error for a driver's error on the database at ``place``; never raises."""
    code = sqlstate_of(error)
    text = str(error) or type(error).__name__
    if code == "HR001":
        return Fenced(text, hint="drop its runs; join again or claim them first")
    if code == "HR002":
        return HistoryConflict(text, hint="drop the run and read its history again")
    if code == "HR003":
        return NotFound(text)
    if code == "HR004":
        return NotLeader(text, hint="stand for election again")
    if code in GONE or code in _BUSY or code.startswith("08"):
        return StoreUnavailable(
            f"the database {place} cannot do this now ({text})", hint="it is tried again; look at the server's log"
        )
    if code == "53100":
        return StoreFull(
            f"no space left for the database {place}",
            hint="free some disk space; nothing that was acknowledged is lost and work goes on from where it stopped",
        )
    if code == "25006":
        return StoreReadOnly(
            f"the database {place} takes no writes ({text})",
            hint="is it a standby? Name the primary, or several hosts with ?target_session_attrs=read-write",
        )
    if code.startswith("XX"):
        return StoreCorrupt(
            f"the database {place} is damaged, or the server has a defect ({text})",
            hint="look at the server's log; restore a backup if pages are damaged",
        )
    return StoreError(f"the database {place} refused: {text}", hint=_hint(code)) if code else _of_driver(error, place)


def _hint(code: str) -> str:
    if code in _NO_ENTRY:
        return "check user and password of the URL (or PGPASSWORD, ~/.pgpass) and the server's pg_hba.conf"
    if code == "3D000":
        return "make it first: createdb NAME; Headrace makes only its schema in it"
    if code == "42501":
        return (
            "the user needs CREATE on the database to make the schema, or someone who has it opens the store once;"
            " after that USAGE on the schema and all rights on what is in it are enough"
        )
    if code in ("54000", "22021", "22P05"):
        return "a key or name is too long, or has a character that PostgreSQL cannot store"
    if code in ("42P01", "42883", "3F000"):
        return "was the schema changed or dropped by hand? Open the store again"
    if code == "26000":
        return "if there is a pooler in transaction mode before the server, say so: ?pgbouncer=true"
    return "was the schema changed by hand? If not, this is a defect in Headrace: please report it"


def _of_driver(error: BaseException, place: str) -> StoreError:
    text = str(error) or type(error).__name__
    if isinstance(error, TimeoutError):
        return StoreUnavailable(
            f"the database {place} did not answer in time", hint="is the server overloaded, or the network cut?"
        )
    if isinstance(error, OSError):
        return StoreUnavailable(
            f"the database {place} cannot be reached ({error.strerror or text})",
            hint="is the server running, and host and port of the URL right?",
        )
    if isinstance(error, asyncpg.exceptions.TargetServerAttributeNotMatched):
        return StoreUnavailable(f"no host of {place} is as asked for ({text})", hint="is a fail-over under way?")
    if isinstance(error, ValueError):  # the driver's ClientConfigurationError among them
        return StoreError(
            f"the database URL {place} cannot be used ({text})",
            hint="it is postgresql://user@host:5432/database?option=value",
        )
    return StoreUnavailable(f"the connection to the database {place} failed ({text})", hint="it is made again")
