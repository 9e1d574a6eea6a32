"""Payload codecs by the names a configuration gives them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from headrace.config.settings import Settings
from headrace.contracts.codec import PayloadCodec
from headrace.core.errors import HeadraceError

_HINT = (
    "write compression, encryption, or module:attribute, where the attribute is a payload codec, a list or a function"
)


def codecs_of(settings: Settings) -> Sequence[PayloadCodec] | None:
    """The codecs of the key ``codec``, in order; None if there are none. ``module:attribute`` is looked for in the
    working directory first; the attribute is a codec, a list of them, or a function that returns one of these. Raises
    :class:`HeadraceError` for anything else."""
    found: list[PayloadCodec] = []
    for named in settings.codec:
        found += _named(named, settings)
    return found or None


def _named(named: str, settings: Settings) -> list[PayloadCodec]:
    from headrace.backends.codecs import Compression, Encryption  # noqa: PLC0415 - only whoever seals needs them

    try:
        if named == "compression":
            return [Compression()]
        if named == "encryption":
            if settings.encryption_keys is not None:
                return [Encryption.from_text(settings.encryption_keys, "encryption_keys")]
            return [Encryption.from_environment()]
    except ValueError as error:
        raise HeadraceError(f"codec {named}: {error}") from None
    module_name, _, attribute = named.partition(":")
    try:
        found: Any = _imported(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
        if callable(found) and not hasattr(found, "encode"):
            found = found()
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise HeadraceError(f"codec {named} (HEADRACE_CODEC): {what}", hint=_HINT) from error
    codecs = cast("list[Any]", list(found) if isinstance(found, list | tuple) else [found])
    for codec in codecs:
        if not all(hasattr(codec, name) for name in ("name", "encode", "decode")):
            raise HeadraceError(
                f"codec {named} (HEADRACE_CODEC) is no payload codec but {type(codec).__name__}",
                hint="a payload codec has `name`, `encode` and `decode`: see headrace.Encryption",
            )
    return codecs


def _imported(name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return importlib.import_module(name)
