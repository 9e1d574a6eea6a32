"""What workflow code is refused while it runs, beyond what needs a socket, a file or a thread: the table.

Each of these would do something that a replay cannot repeat, or block the thread that all other runs of the engine need.
Looking at a file (``os.stat``, and with it ``Path.exists``) is refused only to the user's own code, see :data:`LOOKS`:
Python's machinery does it at any moment, to print a traceback or to import a module. Left to ``headrace check``: reading
environment variables, which libraries do as often as they like and whose values hardly ever change; and locks of threads,
whose methods are C and which are fine as long as they are free (:mod:`headrace.durable.guard` reports code that stands
still).
"""

from __future__ import annotations

import asyncio
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
    *("truncate", "chmod", "chown", "mkfifo", "mknod", "utime"),
)
_OS_PROCESSES = ("system", "fork", "forkpty", "posix_spawn", "posix_spawnp", "wait", "waitpid", "wait3", "wait4")
_LOOK_UPS = ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo")

_AWAIT = "the workflow has an event loop: await the coroutine, `await main()` for `asyncio.run(main())`"

FUNCTIONS: tuple[tuple[Any, str, str, str], ...] = (
    (time, "sleep", "time.sleep", _SLEEP),
    (builtins, "input", "input", "wait for a signal: `await wait_for_signal(...)`"),
    (sqlite3, "connect", "sqlite3.connect", WORK),
    (select, "select", "select.select", WORK),
    *((asyncio, name, f"asyncio.{name}", _AWAIT) for name in ("run", "new_event_loop", "set_event_loop")),
    *((os, name, f"os.{name}", WORK) for name in (*_OS_FILES, *_OS_PROCESSES) if hasattr(os, name)),
    *((socket, name, f"socket.{name}", WORK) for name in _LOOK_UPS),
)
"""Owner, name, what the error calls it, the remedy."""

LOOKS: tuple[tuple[Any, str, str, str], ...] = tuple(
    (os, name, f"os.{name}, which looks at files,", WORK)
    for name in ("stat", "lstat", "access", "readlink", "statvfs")
    if hasattr(os, name)
)
"""The same for what Python's own machinery and libraries may do at any time: refused only if the user's code asks for it,
directly or through one of :data:`CARRIERS`."""

CARRIERS = frozenset(
    {
        "os",
        "genericpath",
        "posixpath",
        "ntpath",
        "pathlib",
        "pathlib._abc",
        "pathlib._local",
        "pathlib._os",
        "glob",
        "shutil",
    }
)
"""Modules that ask for whoever calls them: ``os.path.exists`` and ``Path.is_file`` are the caller's looks."""

ERRANDS = frozenset({"logging", "importlib._bootstrap"})
"""Modules whose callers do not care what they do on the way: a handler may look at its file, a module at its folder."""

METHODS: tuple[tuple[type, str, str, str], ...] = (
    (socket.socket, "__init__", "a socket", WORK),
    (asyncio.Runner, "__init__", "asyncio.Runner", _AWAIT),
    (threading.Thread, "start", "a thread", WORK),
    (threading.Thread, "join", "Thread.join, which blocks,", WORK),
    (threading.Condition, "wait", "a lock, queue or future of threads, which blocks,", _WAIT),
    (subprocess.Popen, "__init__", "a process", WORK),
)
"""The same for methods. ``Condition.wait`` is what ``threading.Event``, ``queue.Queue`` and ``concurrent.futures`` wait
by; those that need not wait are not refused."""


def late_methods() -> tuple[tuple[type, str, str, str], ...]:
    """Methods of modules that are costly to import, as soon as the program has imported them."""
    return tuple(
        (getattr(sys.modules[module], owner), name, what, WORK)
        for module, owner, name, what in (
            ("multiprocessing.process", "BaseProcess", "start", "a process"),
            ("concurrent.futures.thread", "ThreadPoolExecutor", "submit", "a thread"),
            ("concurrent.futures.process", "ProcessPoolExecutor", "submit", "a process"),
        )
        if module in sys.modules
    )
