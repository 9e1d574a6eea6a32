"""What happens to commands when the engine is killed: a guard kills them too.

A node that dies is replaced, and its commands run again elsewhere or here. If the old ones lived on, two of them would
work at once. The kernel has no "kill this group when that process dies", so one small process per engine is told the
number of every process group as it begins and ends; when its pipe closes, because the engine is gone however it went,
it kills the groups that are left. Children of the ``process`` executor are guarded as well, for what *they* start.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
import weakref

_logger = logging.getLogger(__name__)

# Kept as a program of its own, not a module: it starts in a few milliseconds and needs nothing but the interpreter.
_PROGRAM = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
groups = set()
for line in sys.stdin.buffer:
    number = int(line[1:])
    (groups.add if line[:1] == b"+" else groups.discard)(number)
for number in groups:
    try:
        os.killpg(number, signal.SIGKILL)
    except OSError:
        pass
"""


class GroupGuard:
    """Tells the guard process about groups. Started on first use; if it cannot be, commands run unguarded and a
    warning says so."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._broken = False

    def add(self, group: int) -> None:
        """A group has begun."""
        self._tell(b"+%d\n" % group)

    def remove(self, group: int) -> None:
        """A group has ended and been reaped; its number may be used again by others."""
        self._tell(b"-%d\n" % group)

    def close(self) -> None:
        """End the guard process; it kills what it still knows."""
        process, self._process = self._process, None
        self._broken = True
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=2)

    def _tell(self, line: bytes) -> None:
        if self._broken:
            return
        try:
            if self._process is None:
                self._process = self._start()
            assert self._process.stdin is not None
            # Shorter than PIPE_BUF, so whole or not at all, and never blocking: the guard reads at once.
            os.write(self._process.stdin.fileno(), line)
        except OSError as error:
            self._broken = True
            _logger.warning("commands will outlive a killed engine: the process that guards them failed: %s", error)

    @staticmethod
    def _start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-I", "-S", "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )


_guards: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, GroupGuard] = weakref.WeakKeyDictionary()


def guard_for(loop: asyncio.AbstractEventLoop) -> GroupGuard:
    """The guard of an event loop: one per loop, made on first use, closed when the loop is forgotten."""
    guard = _guards.get(loop)
    if guard is None:
        guard = _guards[loop] = GroupGuard()
        weakref.finalize(loop, guard.close)
    return guard
