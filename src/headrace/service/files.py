"""From the configuration's ``workflows`` to files, and from files to definitions."""

from __future__ import annotations

import glob
import hashlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from headrace.authoring.kinds import Kinds
from headrace.authoring.sources import SUFFIXES, load
from headrace.core.errors import InvalidConfiguration, Problem

FILES_MAX = 10_000
"""Workflow files of one node."""


class Source(msgspec.Struct, frozen=True):
    """One workflow file. ``name`` is that of the workflow in a Python file, None for all of them. ``named``: the file
    was named itself, so it has to hold a workflow; what a folder or a pattern holds may be something else."""

    path: Path
    name: str | None = None
    named: bool = True


def find(patterns: Sequence[str]) -> list[Source]:
    """The files that are there now, in order, each once. A file that is named and missing is listed all the same: it is
    reported when it is read. Raises :class:`InvalidConfiguration` for too many files."""
    found: dict[tuple[Path, str | None], Source] = {}
    for pattern in patterns:
        for source in _of_pattern(pattern):
            found.setdefault((source.path, source.name), source)
        if len(found) > FILES_MAX:
            problem = Problem(f"workflows: {pattern!r} stands for too many files; at most {FILES_MAX:,} are served")
            raise InvalidConfiguration([problem])
    return list(found.values())


def _of_pattern(pattern: str) -> Iterable[Source]:
    path = Path(pattern)
    if glob.has_magic(pattern) and not path.exists():
        names = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - absolute patterns too
        yield from (Source(Path(name), named=False) for name in names if _serves(name))
    elif path.is_dir():
        yield from (Source(each, named=False) for each in sorted(path.iterdir()) if _serves(str(each)))
    else:
        file, mark, name = pattern.rpartition(":")
        if mark and file.endswith(".py"):
            yield Source(Path(file), name)
        else:
            yield Source(path)


def _serves(name: str) -> bool:
    path = Path(name)
    # Hidden ones are editors' and, in a mounted ConfigMap, Kubernetes' own.
    return path.suffix in SUFFIXES and not path.name.startswith((".", "_")) and path.is_file()


def digest(path: Path) -> str:
    """Of a file's content; empty if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def definitions(source: Source, kinds: Kinds) -> list[Any]:
    """The workflows of a file. A Python file is run. Raises :class:`NotFound`, :class:`InvalidDefinition` and
    :class:`UserCodeError`."""
    if source.path.suffix == ".py" and source.name is None:
        from headrace.authoring.python_source import load_all_python  # noqa: PLC0415

        return load_all_python(source.path, may_be_none=not source.named)
    target = str(source.path) if source.name is None else f"{source.path}:{source.name}"
    return [load(target, kinds=kinds)]


def forget_modules(paths: Iterable[Path]) -> None:
    """Drop the modules of these files, so that the next import reads them again. Whoever holds on to their functions
    keeps the old ones."""
    resolved = {str(path.resolve()) for path in paths}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and (file in resolved or str(Path(file).resolve()) in resolved):
            del sys.modules[name]
