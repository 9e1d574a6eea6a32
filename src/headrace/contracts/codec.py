"""Payload codecs: what happens to payloads on their way to the store and back. Compression and encryption are codecs.

Ids, kinds and times stay readable in the store, so that lists and operators' queries work; parameters, arguments,
outputs, messages, failures and whatever else a user's data can be in is *sealed*: one text that says by which codecs, and
the bytes they gave.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from headrace.core.errors import PayloadSealed, StoreCorrupt

LABEL_CHARS_MAX = 200
"""The longest label of a codec."""

_LABEL = re.compile(r"[A-Za-z0-9._:-]+\Z")
_MAGIC = b"HRS1"


class Encoded(NamedTuple):
    """What a codec made of some bytes. ``label`` is the codec's name, after a colon what else it needs to know to decode
    them, such as the id of a key: letters, digits and ``._-``. It is stored in the clear."""

    label: str
    data: bytes


class PayloadCodec(Protocol):
    """One step. Called from any thread; must not block for long."""

    name: str
    """Letters and digits; stored beside what it encoded, so it means the same for ever."""

    def encode(self, data: bytes, place: bytes) -> Encoded | None:
        """The encoded bytes; None to leave them as they are. ``place`` names where they will be: an encryption binds
        them to it, so that nobody can move them elsewhere."""
        ...

    def decode(self, data: bytes, label: str, place: bytes) -> bytes:
        """The inverse of :meth:`encode`. Raises :class:`PayloadSealed` without the right key and
        :class:`StoreCorrupt` for bytes that it did not make."""
        ...


class Seal:
    """Several codecs, applied in order: compression comes before encryption."""

    def __init__(self, codecs: Sequence[PayloadCodec]) -> None:
        self._codecs = tuple(codecs)
        self._by_name = {codec.name: codec for codec in codecs}
        if len(self._by_name) != len(self._codecs):
            raise ValueError("two payload codecs have the same name")
        for name in self._by_name:
            if not _LABEL.match(name) or ":" in name:
                raise ValueError(f"{name!r} is no name for a payload codec: use letters, digits and ._-")

    def close(self, data: bytes, place: str) -> str:
        """Sealed text: ``zstd+aesgcm:key-id|base64``. With no codec that wants to do anything: ``|base64``."""
        label, encoded = self._encode(data, place)
        return f"{label}|{base64.b64encode(encoded).decode()}"

    def open(self, text: str, place: str) -> bytes:
        """The inverse of :meth:`close`."""
        label, mark, encoded = text.partition("|")
        try:
            data = base64.b64decode(encoded.encode(), validate=True)
        except (binascii.Error, ValueError):
            mark, data = "", b""
        if not mark:
            raise StoreCorrupt(f"a sealed payload ({place}) is damaged", hint="restore the database from a backup")
        return self._decode(label, data, place)

    def close_bytes(self, data: bytes, place: str) -> bytes:
        """Sealed bytes, for files."""
        label, encoded = self._encode(data, place)
        return _MAGIC + bytes((len(label) >> 8, len(label) & 255)) + label.encode() + encoded

    def open_bytes(self, data: bytes, place: str) -> bytes:
        """The inverse of :meth:`close_bytes`; bytes that were not sealed are given back as they are."""
        found = label_of(data)
        if found is None:
            return data
        return self._decode(found, data[len(_MAGIC) + 2 + len(found) :], place)

    def _encode(self, data: bytes, place: str) -> tuple[str, bytes]:
        labels: list[str] = []
        where = place.encode()
        for codec in self._codecs:
            encoded = codec.encode(data, where)
            if encoded is not None:
                label, data = encoded
                if label.partition(":")[0] != codec.name or not _LABEL.match(label) or len(label) > LABEL_CHARS_MAX:
                    raise ValueError(f"payload codec {codec.name!r} gave a label that cannot be stored: {label!r}")
                labels.append(label)
        return "+".join(labels), data

    def _decode(self, labels: str, data: bytes, place: str) -> bytes:
        for label in reversed(labels.split("+")) if labels else ():
            codec = self._by_name.get(label.partition(":")[0])
            if codec is None:
                raise sealed_by(label)
            data = codec.decode(data, label, place.encode())
        return data


def label_of(data: bytes) -> str | None:
    """By which codecs a file's bytes were sealed; None if they were not."""
    if not data.startswith(_MAGIC):
        return None
    length = int.from_bytes(data[4:6], "big")
    return data[6 : 6 + length].decode("ascii", "replace")


def sealed_by(label: str) -> PayloadSealed:
    """The refusal to read what a codec sealed that is not there."""
    return PayloadSealed(
        f"this payload is sealed by {label!r}, and that codec was not given",
        hint="give it: Headrace(..., codec=...), or HEADRACE_CODEC=module:attribute for the command line",
    )
