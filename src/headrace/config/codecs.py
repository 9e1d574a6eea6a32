"""Payload codecs by the names a configuration gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headrace.config.named import named_objects
from headrace.config.settings import Settings
from headrace.contracts.codec import PayloadCodec
from headrace.core.errors import HeadraceError


def codecs_of(settings: Settings) -> Sequence[PayloadCodec] | None:
    """The codecs of the key ``codec``, in order; None if there are none. Raises :class:`HeadraceError` for what is
    none."""
    found: list[PayloadCodec] = []
    for name in settings.codec:
        found += _named(name, settings)
    return found or None


def _named(name: str, settings: Settings) -> Sequence[PayloadCodec]:
    from headrace.backends.codecs import Compression, Encryption  # noqa: PLC0415 - only whoever seals needs them

    try:
        if name == "compression":
            return [Compression()]
        if name == "encryption":
            if settings.encryption_keys is not None:
                return [Encryption.from_text(settings.encryption_keys, "encryption_keys")]
            return [Encryption.from_environment()]
    except ValueError as error:
        raise HeadraceError(f"codec encryption: {error}") from None
    codecs = named_objects(("codec",), name, _looks_like_one, "a payload codec")
    for codec in codecs:
        if not all(hasattr(codec, part) for part in ("name", "encode", "decode")):
            raise HeadraceError(
                f"codec (HEADRACE_CODEC={name}) is no payload codec but {type(codec).__name__}",
                hint="a payload codec has `name`, `encode` and `decode`: see headrace.Encryption",
            )
    return codecs


def _looks_like_one(found: Any) -> bool:
    return hasattr(found, "encode")
