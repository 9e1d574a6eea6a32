"""What every way of writing a workflow ends in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from headrace.core.schedules import Definition
from headrace.core.spec import AnySpec

SourcePath = tuple[str | int, ...]


def nowhere(path: SourcePath) -> str:
    """The place of a path when there is no text to point at: the path itself."""
    return ".".join(str(part) for part in path)


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A validated workflow and where it came from.

    ``source`` is the file's name as the user gave it. ``source_dir`` is its absolute folder, from which modules and
    scripts are looked up; None for text without a file. ``functions`` are Python functions by target. ``locate`` turns
    a problem's path into ``file:line:column``, or into the best it knows; it parses again, so it is for errors only.
    ``schedules`` are for the node that serves the file.
    """

    spec: AnySpec
    source: str = ""
    source_dir: str | None = None
    functions: Mapping[str, Callable[..., Any]] = {}
    locate: Callable[[SourcePath], str] = nowhere
    schedules: tuple[Definition, ...] = ()
