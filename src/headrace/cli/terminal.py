"""Small matters of the terminal."""

from __future__ import annotations

import os
import termios
from collections.abc import Generator
from contextlib import contextmanager
from typing import TextIO

_LOCAL_FLAGS = 3


@contextmanager
def quiet_control_keys(stdin: TextIO) -> Generator[None]:
    """Within the block the terminal does not print ``^C`` into a picture that is being redrawn. Does nothing where
    there is no terminal, or where it belongs to somebody else: changing it would stop a job in the background."""
    try:
        number = stdin.fileno()
        before = termios.tcgetattr(number) if os.tcgetpgrp(number) == os.getpgrp() else None
    except (OSError, ValueError, termios.error):
        number, before = -1, None
    if before is None:
        yield
        return
    changed = list(before)
    changed[_LOCAL_FLAGS] &= ~termios.ECHOCTL
    termios.tcsetattr(number, termios.TCSADRAIN, changed)
    try:
        yield
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)
