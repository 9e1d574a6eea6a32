"""MySQL's errors in Headrace's words: whatever the driver raises is translated here, at the border."""

from __future__ import annotations

from typing import Any

import asyncmy
from asyncmy import errors as driver_errors

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

_MySQLError: Any = driver_errors.MySQLError  # a class of compiled code, whose stub has no base

DRIVER_ERRORS = (_MySQLError, OSError, TimeoutError)
"""What calls of the driver raise. Programmer mistakes (TypeError, ...) are not among them."""

REPEATED = "HR004"
"""The state of a flush of which something is there already."""

LOST = frozenset(
    {
        *(2002, 2003, 2005, 2006, 2012, 2013, 2026, 2055),  # of clients: cannot connect, gone away, lost
        *(1053, 1077, 1079, 1080),  # the server shuts down
        *(1152, 1153, 1154, 1155, 1156, 1157, 1158, 1159, 1160, 1161, 1184),  # connection aborted, or out of step
        *(1927, 3169, 4031),  # killed, or idle for too long
    }
)
"""Codes after which the connection is of no use."""

_BUSY = frozenset(
    {
        1020,
        1028,
        1037,
        1038,
        1040,
        1041,
        1130,
        1135,
        1203,
        1205,
        1206,
        1213,
        1226,
        1317,
        1614,
        1637,
        1969,
        3024,
        3572,
        3058,
    }
)
_FULL = frozenset({1021, 1114})
_READ_ONLY = frozenset({1290, 1792, 1836, 3032})
_DAMAGED = frozenset({1033, 1034, 1035, 1194, 1195, 1712, 1877, 1932})
_NO_ENTRY = frozenset({1045, 1698, 1251, 2059, 1820, 1862, 3159})
_NO_RIGHT = frozenset({1044, 1142, 1143, 1227, 1370, 1419})
_NO_SPACE = ("No space left", "errno: 28", "error 28", "Errcode: 28", "Disk full")


def code_of(error: BaseException) -> int:
    """MySQL's number of an error; 0 for one that has none."""
    first = error.args[0] if isinstance(error, _MySQLError) and error.args else 0
    return first if isinstance(first, int) else 0


def state_of(error: BaseException) -> str:
    """The five characters of its state, or ''."""
    return getattr(error, "sqlstate", None) or ""


def is_lost(error: BaseException) -> bool:
    """Whether the connection that raised this can no longer be used."""
    if isinstance(error, _MySQLError):
        code = code_of(error)
        return code in LOST or code == 0  # without a number: the driver lost the thread of the conversation
    return isinstance(error, OSError | TimeoutError)


def translated(error: BaseException, place: str) -> HeadraceError:
    """The Headrace error for a driver's error on the database at ``place``; never raises."""
    code, state = code_of(error), state_of(error)
    text = _text(error)
    if state == "HR001":
        return Fenced(
            f"this node may not write here any more: {text}", hint="drop its runs; join again or claim them first"
        )
    if state == REPEATED:
        return HistoryConflict(text, hint="drop the run and read its history again")
    if state == "HR003":
        return NotFound(text)
    if state == "HR006":
        return NotLeader(text, hint="stand for election again")
    if code in _FULL or any(sign in text for sign in _NO_SPACE):
        return StoreFull(
            f"no space left for the database {place}",
            hint="free some disk space; nothing that was acknowledged is lost and work goes on from where it stopped",
        )
    if state == "HR005" or code in _BUSY:
        return StoreUnavailable(
            f"the database {place} cannot do this now ({text})", hint="it is tried again; look at the server's log"
        )
    if code in _READ_ONLY:
        return StoreReadOnly(f"the database {place} takes no writes ({text})", hint="is it a replica? Name the primary")
    if code in _DAMAGED:
        return StoreCorrupt(
            f"the database {place} is damaged ({text})",
            hint="look at the server's log; restore a backup if tables are damaged",
        )
    if code and code not in LOST:
        return StoreError(f"the database {place} refused: {text}", hint=_hint(code))
    return _of_connection(error, code, text, place)


def _text(error: BaseException) -> str:
    if isinstance(error, _MySQLError) and len(error.args) > 1:
        return str(error.args[1])
    return str(error) or type(error).__name__


def _hint(code: int) -> str:
    if code in _NO_ENTRY:
        return "check user and password of the URL (or MYSQL_PWD), and from which hosts the server lets that user in"
    if code == 1049:
        return "make it first: CREATE DATABASE NAME; with the right to do so, Headrace makes it"
    if code in _NO_RIGHT:
        return (
            "the user needs ALL PRIVILEGES on the database, or someone who has them opens the store once; after that"
            " SELECT, INSERT, UPDATE, DELETE and EXECUTE are enough"
        )
    if code in (1406, 1366, 1264, 1300):
        return "a key or a name is too long"
    if code in (1054, 1146, 1305):
        return "were tables or procedures changed or dropped by hand? Open the store again"
    return "was the schema changed by hand? If not, this is a defect in Headrace: please report it"


def _of_connection(error: BaseException, code: int, text: str, place: str) -> StoreError:
    if isinstance(error, TimeoutError):
        return StoreUnavailable(
            f"the database {place} did not answer in time", hint="is the server overloaded, or the network cut?"
        )
    if code == 1153:
        return StoreError(
            f"the database {place} refuses so much at once ({text})", hint="raise max_allowed_packet of the server"
        )
    if "Bad handshake" in text or "wrong version number" in text.lower():
        return StoreUnavailable(
            f"the database {place} does not offer TLS", hint="leave ssl_mode out, or set up the server"
        )
    if isinstance(error, OSError) or code in (2002, 2003, 2005):
        return StoreUnavailable(
            f"the database {place} cannot be reached ({text})",
            hint="is the server running, and host and port of the URL (or unix_socket) right?",
        )
    return StoreUnavailable(f"the connection to the database {place} failed ({text})", hint="it is made again")


__all__ = ["DRIVER_ERRORS", "LOST", "REPEATED", "asyncmy", "code_of", "is_lost", "state_of", "translated"]
