"""Objects that a configuration names as ``module:attribute``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from headrace.config.keys import KEYS
from headrace.core.errors import HeadraceError


def named_objects(key: tuple[str, ...], name: str, is_one: Callable[[Any], bool], what: str) -> list[Any]:
    """What the name stands for: one object, a list of them, or a function that returns one of these. It is looked for in
    the working directory first. ``key`` and ``what`` are for messages. Raises :class:`HeadraceError` if it cannot be
    imported."""
    module_name, _, attribute = name.partition(":")
    try:
        found: Any = _imported(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
        if callable(found) and not is_one(found):
            found = found()
    except Exception as error:
        raise HeadraceError(
            f"{'.'.join(key)} ({KEYS[key].variable}={name}): {type(error).__name__}: {error}",
            hint=f"write module:attribute, where the attribute is {what}, a list of them or a function",
        ) from error
    return cast("list[Any]", list(found) if isinstance(found, list | tuple) else [found])


def _imported(name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return importlib.import_module(name)
