"""One door for everything a workflow can be read from."""

from __future__ import annotations

from pathlib import Path

from headrace.authoring.kinds import Kinds
from headrace.authoring.loaded import Loaded
from headrace.core.errors import NotFound

SUFFIXES = (".yaml", ".yml", ".json", ".py")
"""Endings of files that can hold a workflow."""


def load(source: str | Path, *, kinds: Kinds) -> Loaded:
    """Read ``file.yaml``, ``file.json``, ``file.py`` or ``file.py:name``, by its ending.

    Raises :class:`NotFound`, :class:`InvalidDefinition` and, for Python, :class:`UserCodeError`.
    """
    path = Path(source)
    suffix = path.suffix.partition(":")[0].lower()
    if suffix == ".py":
        from headrace.authoring.python_source import load_python  # noqa: PLC0415

        return load_python(source)
    if suffix in SUFFIXES:
        from headrace.authoring.yaml.load import load_yaml  # noqa: PLC0415

        return load_yaml(path, kinds=kinds)
    if path.is_dir():
        raise NotFound(f"{str(path)!r} is a folder", hint="name the file of the workflow")
    if not path.exists():
        raise NotFound(f"there is no file {str(path)!r}")
    raise NotFound(
        f"{str(path)!r} has no ending that says what it is", hint=f"a workflow's file ends in {', '.join(SUFFIXES)}"
    )
