"""What workflow code is refused while it runs, beyond what needs a socket, a file or a thread: the table.

Each of these would do something that a replay cannot repeat, or block the thread that all other runs of the engine need.
Looking at a file (``os.stat``, ``Path.exists``) is left to ``headrace check``: Python's own machinery does it at any
moment, to print a traceback for instance.
"""

from __future__ import annotations

import builtins
import os
import select
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from typing import Any

WORK = "move it into a @task function and await that"
_SLEEP = "use `await asyncio.sleep(...)`: it is durable"
_WAIT = (
    "use asyncio.Event, asyncio.Queue or asyncio.Condition between the parts of a workflow, wait_for_signal for what "
    "comes from outside, and a @task function for everything else"
)

_OS_FILES = (
    *("open", "listdir", "scandir", "mkdir", "rmdir", "remove", "unlink", "rename", "replace", "link", "symlink"),
    *("truncate", "chmod", "mkfifo"),
)
_OS_PROCESSES = ("system", "fork", "forkpty", "posix_spawn", "posix_spawnp")
_LOOK_UPS = ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo")

FUNCTIONS: tuple[tuple[Any, str, str, str], ...] = (
    (time, "sleep", "time.sleep", _SLEEP),
    (builtins, "input", "input", "wait for a signal: `await wait_for_signal(...)`"),
    (sqlite3, "connect", "sqlite3.connect", WORK),
    (select, "select", "select.select", WORK),
    *((os, name, f"os.{name}", WORK) for name in (*_OS_FILES, *_OS_PROCESSES) if hasattr(os, name)),
    *((socket, name, f"socket.{name}", WORK) for name in _LOOK_UPS),
)
"""Owner, name, what the error calls it, the remedy."""

METHODS: tuple[tuple[type, str, str, str], ...] = (
    (socket.socket, "__init__", "a socket", WORK),
    (threading.Thread, "start", "a thread", WORK),
    (threading.Thread, "join", "Thread.join, which blocks,", WORK),
    (threading.Condition, "wait", "a lock, queue or future of threads, which blocks,", _WAIT),
    (subprocess.Popen, "__init__", "a process", WORK),
)
"""The same for methods. ``Condition.wait`` is what ``threading.Event``, ``queue.Queue`` and ``concurrent.futures`` wait
by; those that need not wait are not refused."""


def late_methods() -> tuple[tuple[type, str, str, str], ...]:
    """Methods of modules that are costly to import, as soon as the program has imported them."""
    module = sys.modules.get("multiprocessing.process")
    return () if module is None else ((module.BaseProcess, "start", "a process", WORK),)
