"""Events to stored bytes and back. JSON, so that a history can be read with any database shell.

Every event type has a tag such as ``task.succeeded``. When a type changes in a way that old data no longer fits, the
new form gets a new tag (``task.succeeded@2``) and an *upcaster* turns stored objects of the old tag into the new form,
one step at a time. Old histories are read for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from headrace.core.errors import PayloadSealed, StoreCorrupt
from headrace.core.events import Event

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

UPCASTERS: dict[str, Upcaster] = {}
"""Old tag to a function that returns the object in its next form, ``type`` included."""

UPCAST_STEPS_MAX = 100

SEALED_TAG = "sealed"
"""The ``type`` of an event whose payloads a codec has sealed; stores that know the codec give back the event itself."""

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
encode_event: Callable[[Event], bytes] = _encoder.encode
"""One event as JSON bytes. Raises ``TypeError`` for a payload that JSON cannot hold; the launcher normalises
outputs before they get here."""


def decode_event(data: bytes, upcasters: dict[str, Upcaster] | None = None) -> Event:
    """The inverse of :data:`encode_event`, for this and every older form.

    Raises :class:`StoreCorrupt` for data that no version of Headrace wrote, naming what was found, and
    :class:`PayloadSealed` for an event that nobody has opened.
    """
    try:
        try:
            return _decoder.decode(data)
        except msgspec.ValidationError as error:
            reason = str(error)
            found = msgspec.json.decode(data)  # the first decoder may have stopped before the damage
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreCorrupt(f"an event is not valid JSON: {error}", hint="restore the database from a backup") from error
    table = UPCASTERS if upcasters is None else upcasters
    if isinstance(found, dict) and found.get("type") == SEALED_TAG:
        label = str(found.get("sealed", "")).partition("|")[0]
        raise PayloadSealed(
            f"the payloads of this run are sealed by {label!r}, and that codec was not given",
            hint="give it: Headrace(..., codec=...), or HEADRACE_CODEC=module:attribute for the command line",
        )
    for _ in range(UPCAST_STEPS_MAX):
        upcast = table.get(found.get("type", "")) if isinstance(found, dict) else None
        if upcast is None:
            break
        found = upcast(found)
        try:
            return msgspec.convert(found, Event)
        except msgspec.ValidationError as error:
            reason = str(error)
    kind = found.get("type") if isinstance(found, dict) else None
    raise StoreCorrupt(
        f"an event of type {kind!r} cannot be read: {reason}",
        hint="it was written by a newer Headrace, or the database is damaged",
    )
