"""The engine's log on standard error, as text or as JSON lines: errors only, unless the user asks for more."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from headrace.contracts.current import attempt_var

_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


_SAID_BY_THE_COMMAND = frozenset({"the store cannot take what has to be recorded; the node stops"})
"""Records of what also ends the command: its own message says the same, and what to do."""

_TOLD_ONCE = frozenset({"commit failed, trying again"})
"""Warnings that a user who asked for nothing should see, but not at every try."""


def _is_of_a_task(record: logging.LogRecord) -> bool:
    """Whether a task's code says it, in this process."""
    return attempt_var.get() is not None and record.name.partition(".")[0] != "headrace"


class _OfTasks(logging.Handler):
    """What task code logs is also kept with its attempt, for ``headrace runs logs``."""

    def filter(self, record: logging.LogRecord) -> bool:
        return _is_of_a_task(record)

    def emit(self, record: logging.LogRecord) -> None:
        attempt = attempt_var.get()
        if attempt is not None:
            attempt.log(self.format(record))


class _Default(logging.Filter):
    """What is shown unless the user asks for more: errors, what task code warns of, and once each the warnings that
    explain a long wait."""

    def __init__(self) -> None:
        super().__init__()
        self._told: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.msg in _TOLD_ONCE and record.msg not in self._told:
            self._told.add(record.msg)
            return True
        return (record.levelno >= logging.ERROR or _is_of_a_task(record)) and record.msg not in _SAID_BY_THE_COMMAND


class _Line(logging.Formatter):
    """One line per record, its fields behind it. Tracebacks of the engine's own are for level debug."""

    def __init__(self, *, with_traceback: bool, stamped: bool = False) -> None:
        super().__init__()
        self._with_traceback = with_traceback
        self._stamped = stamped

    def format(self, record: logging.LogRecord) -> str:
        given = {name: value for name, value in vars(record).items() if name not in _STANDARD_FIELDS}
        if record.exc_info and record.exc_info[1] is not None and not self._with_traceback:
            given["error"] = record.exc_info[1]
        line = f"{record.levelname.lower()}: {record.getMessage()}"
        fields = "".join(f" {name}={' '.join(str(value).split())!s}" for name, value in given.items())
        if self._with_traceback:
            line = f"{self.formatTime(record, '%H:%M:%S')} {record.name}: {line}"
            if record.exc_info and record.exc_info[1] is not None:
                fields += "\n" + self.formatException(record.exc_info)
        elif self._stamped:
            line = f"{self.formatTime(record, '%Y-%m-%d %H:%M:%S')} {line}"
        return line + fields


class _Json(logging.Formatter):
    """One JSON object per line: ``time`` (UTC), ``level``, ``logger``, ``message``, then the record's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line: dict[str, Any] = {
            "time": time,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD_FIELDS:
                line[f"{name}_" if name in line else name] = value
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = str(record.exc_info[1])
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class _Node(logging.Filter):
    """Says in every record which node it is from: several may write to the same place."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "node"):
            record.node = self._node
        return True


class _CurrentStderr(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to whatever ``sys.stderr`` is at that moment: a live display puts itself there."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def set_up_logging(
    *, level: str | None = None, form: str = "text", verbose: bool = False, stamped: bool = False, node: str = ""
) -> None:
    """Send the log to standard error. ``level`` is the least that is written: ``debug``, ``info``, ``warning`` or
    ``error``; if it is None, ``verbose`` means ``info``, and else errors are written and what explains a long wait.
    ``form`` is ``text`` or ``json``. ``stamped``: with the time; ``node``: with that name. May be called again: what was
    set up before is replaced."""
    number = logging.getLevelNamesMapping()[(level or ("info" if verbose else "warning")).upper()]
    handler = _CurrentStderr()
    if not level and not verbose:
        handler.addFilter(_Default())
    if node:
        handler.addFilter(_Node(node))
    text = _Line(with_traceback=number <= logging.DEBUG, stamped=stamped)
    handler.setFormatter(_Json() if form == "json" else text)
    of_tasks = _OfTasks()
    of_tasks.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    least = max(number, logging.WARNING) if number > logging.DEBUG else logging.INFO
    logging.basicConfig(level=least, handlers=[handler, of_tasks], force=True)
    logging.getLogger("headrace").setLevel(number)
