"""The engine's log on standard error: errors only, unless the user asks for more."""

from __future__ import annotations

import logging
import os
import sys

VARIABLE = "HEADRACE_LOG"
LEVELS = ("debug", "info", "warning", "error")
_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


_SAID_BY_THE_COMMAND = frozenset({"the store cannot take what has to be recorded; the node stops"})
"""Records of what also ends the command: its own message says the same, and what to do."""

_TOLD_ONCE = frozenset({"commit failed, trying again"})
"""Warnings that a user who asked for nothing should see, but not at every try."""


class _Default(logging.Filter):
    """What is shown unless the user asks for more: errors, and once each the warnings that explain a long wait."""

    def __init__(self) -> None:
        super().__init__()
        self._told: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.msg in _TOLD_ONCE and record.msg not in self._told:
            self._told.add(record.msg)
            return True
        return record.levelno >= logging.ERROR and record.msg not in _SAID_BY_THE_COMMAND


class _Line(logging.Formatter):
    """One line per record, its fields behind it. Tracebacks of the engine's own are for level debug."""

    def __init__(self, *, with_traceback: bool) -> None:
        super().__init__()
        self._with_traceback = with_traceback

    def format(self, record: logging.LogRecord) -> str:
        given = {name: value for name, value in vars(record).items() if name not in _STANDARD_FIELDS}
        if record.exc_info and record.exc_info[1] is not None and not self._with_traceback:
            given["error"] = record.exc_info[1]
        line = f"{record.levelname.lower()}: {record.getMessage()}"
        fields = "".join(f" {name}={' '.join(str(value).split())!s}" for name, value in given.items())
        if self._with_traceback:
            line = f"{self.formatTime(record, '%H:%M:%S')} {record.name}: {line}"
            if record.exc_info:
                fields += "\n" + self.formatException(record.exc_info)
        return line + fields


class _CurrentStderr(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to whatever ``sys.stderr`` is at that moment: a live display puts itself there."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def set_up_logging(*, verbose: bool) -> None:
    """Send the log to standard error. ``HEADRACE_LOG`` names the least level; ``verbose`` means ``info`` if it does
    not. Raises :class:`~headrace.core.errors.HeadraceError` for a level there is not."""
    asked = os.environ.get(VARIABLE, "").strip().lower()
    name = asked or ("info" if verbose else "warning")
    if name not in LEVELS:
        from headrace.core.errors import HeadraceError

        raise HeadraceError(f"{VARIABLE}={name}: there is no such level", hint=f"levels are {', '.join(LEVELS)}")
    level = logging.getLevelNamesMapping()[name.upper()]
    handler = _CurrentStderr()
    if not asked and not verbose:
        handler.addFilter(_Default())
    handler.setFormatter(_Line(with_traceback=level <= logging.DEBUG))
    logging.basicConfig(level=logging.ERROR if level > logging.DEBUG else logging.INFO, handlers=[handler], force=True)
    logging.getLogger("headrace").setLevel(level)
