"""Whose ``KeyboardInterrupt`` is it: that of the code, which says ``raise``, or that of somebody who pressed Ctrl-C?

Python raises what a signal asks for between any two instructions, and it looks the same. The first must end its run, not
the process, and not every process that takes the run over; the second must end the process and never a run, which cannot
be undone. So an exception is the code's own only if everything speaks for it:

- the innermost instruction of its traceback is a ``raise``. CPython runs signal handlers after calls, at the start of
  functions and at jumps back, never as a ``raise``; its default handler leaves no frame of its own.
- no frame is that of a signal handler (asyncio's raises at the second Ctrl-C): none runs the code of one that is
  installed, and none has a variable that is a frame, which every handler is called with.
- the same is true of what it was raised in the course of handling.

In doubt it is the signal's. On other interpreters it always is.
"""

from __future__ import annotations

import dis
import signal
import sys
from collections.abc import Iterator
from types import CodeType, FrameType, TracebackType
from typing import Any, cast

_RAISE = dis.opmap["RAISE_VARARGS"] if sys.implementation.name == "cpython" else None


def ends_the_run(error: BaseException) -> bool:
    """Whether what code raised is its run's affair: an error, ``sys.exit``, or a ``KeyboardInterrupt`` of its own."""
    return isinstance(error, Exception | SystemExit) or (isinstance(error, KeyboardInterrupt) and is_of_code(error))


def is_of_code(error: KeyboardInterrupt) -> bool:
    """Whether the code raised it by itself; False for what a signal raised, and in doubt."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        if isinstance(link, KeyboardInterrupt) and not _was_raised_by_code(link.__traceback__):
            return False
        waiting += (link.__cause__, link.__context__)
    return True


def _was_raised_by_code(traceback: TracebackType | None) -> bool:
    entries = list(_entries(traceback))
    if _RAISE is None or not entries:
        return False
    last = entries[-1]
    if last.tb_frame.f_code.co_code[last.tb_lasti] != _RAISE:
        return False
    handlers = set(_codes_of_handlers())
    return not any(entry.tb_frame.f_code in handlers or _holds_a_frame(entry.tb_frame) for entry in entries)


def _entries(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _holds_a_frame(frame: FrameType) -> bool:
    """Also as one of ``*args``."""
    values: list[Any] = list(frame.f_locals.values())
    for value in tuple(values):
        if type(value) is tuple:
            values += cast("tuple[Any, ...]", value)
    return any(isinstance(value, FrameType) for value in values)


def _codes_of_handlers() -> Iterator[CodeType]:
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        handler = getattr(handler, "func", handler)  # asyncio's is a partial of a method
        code = getattr(getattr(handler, "__func__", handler), "__code__", None)
        if isinstance(code, CodeType):
            yield code
