"""The raw limits of a machine and a store: what the engine's figures are held against.

Each probe takes some ten milliseconds and is repeated around every repetition of a workload. Probes of a store use a bare
connection of its driver to a database beside the engine's, with the settings and the shape of the engine's table of
events: those of SQLite are here, those of PostgreSQL and MySQL in ``raw_postgres`` and ``raw_mysql``.
The memory store has none: its limits are None.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from headrace.backends.stores.sqlite_connection import BUSY_SECONDS, checkpoint, connect, grow_wal, use_wal
from headrace.bench.tasks import plain_fib

COMMITS = 100
ROWS = 5_000
ROWS_PER_TRANSACTION = 1_000
LOOP_HOPS = 5_000
THREAD_HOPS = 300
PIPE_HOPS = 300
SPAWNS = 20

EVENT = '{"type":"task.succeeded","at":1700000000.123456,"task":"t1","attempt":1,"started_at":1700000000.123456}'
_TABLE = """
CREATE TABLE IF NOT EXISTS events (run_id TEXT NOT NULL, seq INTEGER NOT NULL, data TEXT NOT NULL,
                                   PRIMARY KEY (run_id, seq)) WITHOUT ROWID"""
_INSERT = "INSERT INTO events VALUES (?, ?, ?)"


Probe = Callable[[], float | Awaitable[float]]
"""Measures one limit once."""


class Limits:
    """Measures limits and remembers every sample. ``of_store``: the probes that the store has."""

    def __init__(self, of_store: Mapping[str, Probe]) -> None:
        self.samples: dict[str, list[float]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="headrace-bench")
        self._probes: dict[str, Probe] = {
            "loop_hops_per_second": self._loop_hops,
            "thread_hops_per_second": self._thread_hops,
            "pipe_hops_per_second": self._pipe_hops,
            "spawns_per_second": self._spawns,
            "fib10_seconds": lambda: _fib_seconds(10),
            "fib33_seconds": lambda: _fib_seconds(33),
            **of_store,
        }

    def close(self) -> None:
        """Release the thread. Idempotent."""
        self._thread.shutdown()

    async def measure(self, names: tuple[str, ...]) -> dict[str, float]:
        """Measure some limits now; those that the store does not have are left out."""
        found: dict[str, float] = {}
        for name in names:
            probe = self._probes.get(name)
            if probe is None:
                continue
            result = probe()
            found[name] = await result if isinstance(result, Awaitable) else result
            self.samples.setdefault(name, []).append(found[name])
        return found

    def summary(self) -> dict[str, Any]:
        """Medians by name, and the spread of each under ``spread``."""
        medians = {name: rounded(median(values)) for name, values in self.samples.items()}
        commit_ms = medians.get("commit_ms")
        return {
            "commits_per_second": rounded(1000 / commit_ms) if commit_ms else None,
            **medians,
            "spread": {
                name: {"min": rounded(min(values)), "max": rounded(max(values)), "samples": len(values)}
                for name, values in self.samples.items()
            },
        }

    # ---- probes ------------------------------------------------------------------------------------------------------

    async def _loop_hops(self) -> float:
        async def hop() -> None:
            pass

        loop = asyncio.get_running_loop()
        begun = time.perf_counter()
        for _ in range(LOOP_HOPS):
            await loop.create_task(hop())
        return LOOP_HOPS / (time.perf_counter() - begun)

    async def _thread_hops(self) -> float:
        loop = asyncio.get_running_loop()
        begun = time.perf_counter()
        for _ in range(THREAD_HOPS):
            await loop.run_in_executor(self._thread, int)
        return THREAD_HOPS / (time.perf_counter() - begun)

    def _pipe_hops(self) -> float:
        with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            there, back = child.stdin.fileno(), child.stdout.fileno()
            os.write(there, b".")
            os.read(back, 1)  # it has started
            begun = time.perf_counter()
            for _ in range(PIPE_HOPS):
                os.write(there, b".")
                os.read(back, 1)
            return PIPE_HOPS / (time.perf_counter() - begun)

    def _spawns(self) -> float:
        begun = time.perf_counter()
        for _ in range(SPAWNS):
            os.waitpid(os.posix_spawn("/bin/sh", ["sh", "-c", "true"], os.environ), 0)
        return SPAWNS / (time.perf_counter() - begun)


class SqliteProbes:
    """The limits of SQLite, measured on a database file of their own.

    The WAL is grown first and copied back between measurements, as the engine does it: a commit that overwrites a WAL
    takes half the time of one that makes it longer, and a limit that is one or the other by chance is none. What a
    connection costs whose WAL nobody looks after is measured on a new file each time."""

    def __init__(self, path: Path) -> None:
        self._seq = 0
        self._folder = path.parent
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="headrace-bench-sqlite")
        self._db = connect(str(path))
        use_wal(self._db, BUSY_SECONDS)
        grow_wal(self._db, str(path))
        self._db.execute(_TABLE)
        self.by_name: dict[str, Probe] = {
            "commit_ms": self._commit_ms,
            "plain_commit_ms": self._plain_commit_ms,
            "awaited_commit_ms": self._awaited_commit_ms,
            "rows_per_second": self._rows,
        }

    def close(self) -> None:
        """Release the connection and the thread. Idempotent."""
        self._thread.shutdown()
        self._db.close()

    def _commit_one(self) -> None:
        self._seq += 1
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute(_INSERT, ("one", self._seq, EVENT))
        self._db.execute("COMMIT")

    def _commit_ms(self) -> float:
        begun = time.perf_counter()
        for _ in range(COMMITS):
            self._commit_one()
        seconds = time.perf_counter() - begun
        checkpoint(self._db)
        return seconds / COMMITS * 1000

    def _plain_commit_ms(self) -> float:
        with (
            tempfile.TemporaryDirectory(dir=self._folder) as folder,
            contextlib.closing(sqlite3.connect(Path(folder) / "plain.db", isolation_level=None)) as db,
        ):
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute(_TABLE)
            begun = time.perf_counter()
            for seq in range(COMMITS):
                db.execute(_INSERT, ("one", seq, EVENT))
            return (time.perf_counter() - begun) / COMMITS * 1000

    async def _awaited_commit_ms(self) -> float:
        loop = asyncio.get_running_loop()
        begun = time.perf_counter()
        for _ in range(COMMITS):
            await loop.run_in_executor(self._thread, self._commit_one)
        seconds = time.perf_counter() - begun
        checkpoint(self._db)
        return seconds / COMMITS * 1000

    def _rows(self) -> float:
        self._seq += 1
        run_id = f"many-{self._seq}"
        begun = time.perf_counter()
        for first in range(0, ROWS, ROWS_PER_TRANSACTION):
            self._db.execute("BEGIN IMMEDIATE")
            rows = ((run_id, seq, EVENT) for seq in range(first, first + ROWS_PER_TRANSACTION))
            self._db.executemany(_INSERT, rows)
            self._db.execute("COMMIT")
        return ROWS / (time.perf_counter() - begun)


def rounded(value: float) -> float:
    """Five significant digits: more is noise."""
    return float(f"{value:.5g}")


def _fib_seconds(n: int) -> float:
    begun = time.perf_counter()
    plain_fib(n)
    return time.perf_counter() - begun
