"""Reading the migrations of a store: the numbered ``.sql`` files in a folder beside it."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def read_migrations(folder: str) -> tuple[tuple[str, str], ...]:
    """Name and text of every migration in a folder beside this file, in order: the first makes version 1."""
    files = [
        file for file in (resources.files("headrace.backends.stores") / folder).iterdir() if file.name.endswith(".sql")
    ]
    return tuple((file.name, file.read_text(encoding="utf-8")) for file in sorted(files, key=lambda file: file.name))
