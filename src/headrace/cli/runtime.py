"""The event loop of a command."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, TypeVar

from headrace.cli.exits import ExitCode

T = TypeVar("T")

GC_THRESHOLDS = (50_000, 20, 50)
"""Python looks for garbage cycles after 700 new objects by default, which a fan-out makes in a fraction of a
millisecond; the engine makes few cycles."""


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a new event loop, uvloop's where it is installed.

    What exists by now, modules above all, lives as long as the process: the garbage collector need not look at it."""
    runner: asyncio.Runner | None = None
    is_leaving = False
    try:
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        runner = asyncio.Runner(loop_factory=_new_event_loop())
        return runner.run(coroutine)
    except KeyboardInterrupt:
        is_leaving = True
        coroutine.close()  # it may not have begun
        raise
    finally:
        if runner is not None:
            _close(runner, is_leaving=is_leaving)


def _new_event_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        from uvloop import new_event_loop
    except ImportError:
        from asyncio import new_event_loop
    return new_event_loop


def _close(runner: asyncio.Runner, *, is_leaving: bool) -> None:
    """Close a loop. An interrupt in the middle would leave threads that report to a loop that is gone, so until it is
    closed, and for good if the process was interrupted before, Ctrl-C ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        runner.close()
        return
    before = signal.signal(signal.SIGINT, _end_at_once)
    try:
        runner.close()
    finally:
        if not is_leaving:
            signal.signal(signal.SIGINT, before)


def _end_at_once(_number: int, _frame: FrameType | None) -> None:
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        sys.stdout.flush()
    os._exit(ExitCode.INTERRUPTED)  # what is durable stays so, whatever dies
