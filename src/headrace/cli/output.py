"""Data to standard output: one JSON or YAML document, or text."""

from __future__ import annotations

import contextlib
import enum
import os
import select
import sys
from collections.abc import Generator
from typing import Any, TextIO


class _Kept:
    """Where data goes while standard output is kept apart, and whether anybody reads it: there is one standard output
    in a process."""

    stream: TextIO | None = None
    reader_left = False


class Format(enum.StrEnum):
    """How a command prints its data."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


def write(text: str) -> None:
    """Text to standard output, ending with a line break; characters its encoding lacks become question marks. Whoever
    reads may stop early (``| head``): the rest is dropped, and :func:`reader_left` tells."""
    if not text.endswith("\n"):
        text += "\n"
    stream = _Kept.stream or sys.stdout
    try:
        stream.flush()
        _write_all(stream, text.encode(stream.encoding or "utf-8", "replace"))
    except BrokenPipeError:
        _Kept.reader_left = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # what is still buffered has to go somewhere


def _write_all(stream: TextIO, data: bytes) -> None:
    """Write past the text layer: with ``PYTHONUNBUFFERED`` set, that one drops what a pipe did not take at once."""
    number = stream.fileno()
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(number, left) :]
        except BlockingIOError:  # whoever started us made the pipe so
            select.select([], [number], [])


def reader_left() -> bool:
    """Whether nobody reads standard output any more."""
    return _Kept.reader_left


def write_document(document: Any, form: Format) -> None:
    """One document as JSON or YAML."""
    import msgspec

    if form is Format.YAML:
        import yaml

        # Through JSON first: outputs are JSON values, and YAML should say nothing else of them.
        plain = msgspec.json.decode(msgspec.json.encode(document))
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        write(yaml.dump(plain, Dumper=dumper, sort_keys=False, allow_unicode=True, width=120))
        return
    write(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())


@contextlib.contextmanager
def stdout_kept_for_data() -> Generator[None]:
    """Within the block, whatever tasks and the programs they call print to standard output goes to standard error, so
    that nothing but :func:`write` reaches standard output. Done at the level of file descriptors: child processes
    inherit those."""
    try:
        sys.stdout.flush()
        kept = os.dup(1)
        os.dup2(2, 1)
    except (OSError, ValueError):  # closed by the caller (``>&-``): there is nothing to keep apart
        yield
        return
    _Kept.stream = os.fdopen(kept, "w", encoding=sys.stdout.encoding, errors="replace")
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        _Kept.stream.close()
        _Kept.stream = None
