"""Exit codes, and what is said before leaving with one that is not zero."""

from __future__ import annotations

import enum
import os
import sys
import traceback

from headrace.core.errors import HeadraceError, UserCodeError


class ExitCode(enum.IntEnum):
    """Documented in ``docs/reference/exit-codes.md``."""

    SUCCEEDED = 0
    """The run succeeded, or the command did what was asked."""
    FAILED = 1
    """The run failed."""
    BAD_INPUT = 2
    """Something given cannot be used, the store included."""
    CANCELLED = 3
    """The run was cancelled."""
    DEFECT = 70
    """Headrace itself is at fault (``EX_SOFTWARE`` of ``sysexits.h``)."""
    INTERRUPTED = 130
    """Ctrl-C or SIGTERM; the run can be resumed."""


def exit_code_of(error: BaseException) -> int:
    """Say what went wrong on standard error; the code to leave with."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else ExitCode.SUCCEEDED
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        return ExitCode.INTERRUPTED
    if isinstance(error, HeadraceError):
        say_error(error)
        return error.exit_code
    # A usage error of the argument parser. Typer brings the parser along under changing names: known by its method.
    shown = getattr(error, "format_message", None)
    if type(error).__name__ == "NoArgsIsHelpError" and shown is not None:
        _say(shown())
        return ExitCode.BAD_INPUT
    if shown is not None:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "headrace"
        _say(f"error: {shown()}", f"hint: {command} --help")
        return ExitCode.BAD_INPUT
    if isinstance(error, MemoryError):
        _say("error: there is not enough memory", "hint: make the workflow or its values smaller")
        return ExitCode.BAD_INPUT
    return _defect(error)


def say_error(error: HeadraceError) -> None:
    """``error:`` and ``hint:`` lines, with the user's own frames where user code is at fault."""
    lines = [f"error: {error.message}"]
    if isinstance(error, UserCodeError) and error.traceback:
        lines += ["", *(f"    {line}" for line in error.traceback.splitlines()), ""]
    if error.hint:
        lines.append(f"hint: {error.hint}")
    _say(*lines)


def _defect(error: BaseException) -> int:
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    if os.environ.get("HEADRACE_DEBUG"):
        _say("".join(traceback.format_exception(error)).rstrip())
    place = traceback.extract_tb(error.__traceback__)
    where = f" ({place[-1].filename}:{place[-1].lineno})" if place else ""
    _say(
        f"error: unexpected {name}: {error}{where}",
        "hint: this is a defect in Headrace. Set HEADRACE_DEBUG=1 to see the traceback, and please report it with the"
        " command you gave; runs are not lost",
    )
    return ExitCode.DEFECT


def _say(*lines: str) -> None:
    try:
        sys.stderr.write("\n".join(lines) + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # nobody listens
