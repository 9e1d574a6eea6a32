"""Payload codecs for the command line: ``HEADRACE_CODEC=module:attribute``."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from headrace.contracts.codec import PayloadCodec
from headrace.core.errors import HeadraceError

VARIABLE = "HEADRACE_CODEC"


def codec_from_environment() -> Sequence[PayloadCodec] | None:
    """The codec the variable names, looked for in the working directory first; None if it is not set. The attribute is a
    codec, a list of them, or a function that returns one of these. Raises :class:`HeadraceError` for anything else."""
    named = os.environ.get(VARIABLE, "")
    if not named:
        return None
    module_name, _, attribute = named.partition(":")
    try:
        found: Any = _imported(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
        if callable(found) and not hasattr(found, "encode"):
            found = found()
    except Exception as error:
        raise HeadraceError(
            f"{VARIABLE}={named}: {type(error).__name__}: {error}",
            hint="write module:attribute, where the attribute is a payload codec, a list of them or a function",
        ) from error
    codecs = cast("list[Any]", list(found) if isinstance(found, list | tuple) else [found])
    for codec in codecs:
        if not all(hasattr(codec, name) for name in ("name", "encode", "decode")):
            raise HeadraceError(
                f"{VARIABLE}={named} is no payload codec but {type(codec).__name__}",
                hint="a payload codec has `name`, `encode` and `decode`: see headrace.Encryption",
            )
    return codecs


def _imported(name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return importlib.import_module(name)
