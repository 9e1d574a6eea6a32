"""Statements for the wire: values as literals, rows as parts of an INSERT, statements in packets.

MySQL's text protocol carries values inside the statement. They are written here and nowhere else; sessions run with
backslash escapes and UTF-8, which :mod:`.mysql_connections` sees to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from headrace.core.errors import StoreError


class Json(msgspec.Struct, frozen=True):
    """A parameter of a procedure that looks into it: a text, as MySQL refuses JSON in binary strings."""

    value: Any  # whatever JSON can hold


Value = str | bytes | int | float | bool | Json | None


def literal(value: Value) -> bytes:
    """A value as MySQL reads it. Texts and bytes alike are bytes to the columns."""
    if value is None:
        return b"NULL"
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        if b"\\" in value:
            value = value.replace(b"\\", b"\\\\")
        if b"'" in value:
            value = value.replace(b"'", b"\\'")
        return b"_binary'" + value + b"'"
    if isinstance(value, Json):
        return b"_utf8mb4" + literal(msgspec.json.encode(value.value)).removeprefix(b"_binary")
    if isinstance(value, bool):
        return b"1" if value else b"0"
    return repr(value).encode()


def call(procedure: str, *values: Value) -> bytes:
    """The statement that calls a procedure."""
    return b"CALL %s(%s)" % (procedure.encode(), b",".join(map(literal, values)))


def placed(text: str, values: Sequence[Value]) -> bytes:
    """A statement with its ``?`` replaced by values. ``text`` has no other question marks."""
    parts = text.encode().split(b"?")
    assert len(parts) == len(values) + 1, text
    found = [parts[0]]
    for value, part in zip(values, parts[1:], strict=True):
        found += (literal(value), part)
    return b"".join(found)


class Room(msgspec.Struct, frozen=True):
    """How much goes into a packet: ``bytes_max`` if there is a choice, ``server_bytes_max`` at all."""

    bytes_max: int
    server_bytes_max: int


def inserts(
    head: str,
    rows: Iterable[Sequence[Value]],
    tail: str,
    packet: Room,
    write: Callable[[Value], bytes] = literal,
) -> Iterator[bytes]:
    """``INSERT`` statements for rows, as few as there are packets to fill. ``write``: :func:`literal`, or one that
    remembers, for rows that are much alike.

    Raises :class:`StoreError` for a row that alone is more than the server takes.
    """
    begin, end = f"{head} VALUES ".encode(), f" {tail}".encode() if tail else b""
    around = len(begin) + len(end)
    room = packet.bytes_max - around
    parts: list[bytes] = []
    size = 0
    for row in rows:
        part = b"(" + b",".join(map(write, row)) + b")"
        if len(part) + around > packet.server_bytes_max:
            raise StoreError(
                f"a value of {len(part):,} bytes is more than the database takes at once"
                f" ({packet.server_bytes_max:,} bytes)",
                hint="raise max_allowed_packet of the server, or hand large values over as files or artifacts",
            )
        if size + len(part) + 1 > room and parts:
            yield begin + b",".join(parts) + end
            parts, size = [], 0
        parts.append(part)
        size += len(part) + 1
    if parts:
        yield begin + b",".join(parts) + end


def chunks_of(rows: Sequence[Any], size_max: int) -> Iterator[Sequence[Any]]:
    """Rows in groups whose JSON texts stay well below ``size_max`` bytes; one row at least."""
    group: list[Any] = []
    size = 0
    for row in rows:
        length = 2 * len(msgspec.json.encode(row)) + 1  # escapes may double it
        if group and size + length > size_max:
            yield group
            group, size = [], 0
        group.append(row)
        size += length
    if group:
        yield group


def packets(statements: Iterable[bytes], bytes_max: int) -> list[bytes]:
    """Statements joined to packets of at most ``bytes_max``, each one round trip."""
    found: list[bytes] = []
    parts: list[bytes] = []
    size = 0
    for statement in statements:
        if parts and size + len(statement) + 1 > bytes_max:
            found.append(b";".join(parts))
            parts, size = [], 0
        parts.append(statement)
        size += len(statement) + 1
    if parts:
        found.append(b";".join(parts))
    return found
