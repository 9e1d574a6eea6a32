"""Payload codecs for the command line: ``HEADRACE_CODEC=module:attribute``."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from headrace.contracts.codec import PayloadCodec
from headrace.core.errors import HeadraceError

VARIABLE = "HEADRACE_CODEC"


def codec_from_environment() -> Sequence[PayloadCodec] | None:
    """The codec the variable names, looked for in the working directory first; None if it is not set. The attribute is a
    codec, a list of them, or a function that returns one of these. Raises :class:`HeadraceError` for anything else."""
    codecs = named_objects(VARIABLE, lambda found: hasattr(found, "encode"), "a payload codec")
    for codec in codecs or ():
        if not all(hasattr(codec, name) for name in ("name", "encode", "decode")):
            raise HeadraceError(
                f"{VARIABLE}={os.environ[VARIABLE]} is no payload codec but {type(codec).__name__}",
                hint="a payload codec has `name`, `encode` and `decode`: see headrace.Encryption",
            )
    return codecs


def named_objects(variable: str, is_one: Callable[[Any], bool], what: str) -> list[Any] | None:
    """What an environment variable names as ``module:attribute``: one object, a list of them, or a function that returns
    one of these. None if it is not set. Raises :class:`HeadraceError` if it cannot be imported."""
    named = os.environ.get(variable, "")
    if not named:
        return None
    module_name, _, attribute = named.partition(":")
    try:
        found: Any = _imported(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
        if callable(found) and not is_one(found):
            found = found()
    except Exception as error:
        raise HeadraceError(
            f"{variable}={named}: {type(error).__name__}: {error}",
            hint=f"write module:attribute, where the attribute is {what}, a list of them or a function",
        ) from error
    return cast("list[Any]", list(found) if isinstance(found, list | tuple) else [found])


def _imported(name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return importlib.import_module(name)
