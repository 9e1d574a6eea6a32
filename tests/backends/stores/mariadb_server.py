"""A MariaDB of the tests' own: made, started, crashed and removed by them.

The server is Debian's (package ``mariadb-server``), or that of ``HEADRACE_TEST_MARIADB_BIN`` (a folder with ``mariadbd`` and
``mariadb-install-db``). It listens on 127.0.0.1 and keeps its data below the temporary folder. MariaDB refuses to run as
root; then it runs as ``mysql``.
"""

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from missing import missing
from server_ports import free_port

START_SECONDS_MAX = 120.0


def mariadb_programs() -> dict[str, str]:
    """Where the server's programs are; skips the test if there are none (fails where CI says that there must be)."""
    given = os.environ.get("HEADRACE_TEST_MARIADB_BIN")
    path = given or os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
    found = {name: shutil.which(name, path=path) for name in ("mariadbd", "mariadb-install-db", "mariadb")}
    if not all(found.values()):
        missing("MariaDB is missing: apt-get install mariadb-server, or name a folder in HEADRACE_TEST_MARIADB_BIN")
    return {name: str(program) for name, program in found.items()}


class MariadbServer:
    """One server. ``port`` stays the same over restarts."""

    def __init__(self, programs: dict[str, str]) -> None:
        self._programs = programs
        self.options: list[str] = []
        self.folder = Path(tempfile.mkdtemp(prefix="headrace-mariadb-"))
        self._data = self.folder / "data"
        self.socket = self.folder / "socket"
        self._log = (self.folder / "log").open("wb")
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self._user: list[str] = []
        if os.geteuid() == 0:
            entry = pwd.getpwnam("mysql")
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
            self._user = ["--user=mysql"]
        words = ["--auth-root-authentication-method=normal", "--skip-test-db", f"--datadir={self._data}", *self._user]
        command = [programs["mariadb-install-db"], "--no-defaults", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.folder)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]

    def start(self) -> None:
        """Start, or start again after a crash; returns when it takes connections."""
        settings = {
            "datadir": self._data,
            "socket": self.socket,
            "port": self.port,
            "bind-address": "127.0.0.1",
            "pid-file": self.folder / "pid",
            "tmpdir": self.folder,
            "max-connections": 200,
            "innodb-buffer-pool-size": "64M",
            "innodb-lru-scan-depth": 100,
            "skip-log-bin": "1",
            "innodb-flush-method": "nosync",  # a killed process loses nothing by that, and every table is some syncs
            "debug-no-sync": "1",
        }
        words = [f"--{name}={value}" for name, value in settings.items()]
        command = [self._programs["mariadbd"], "--no-defaults", *self._user, *words, *self.options]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log, cwd=self.folder)
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, "MariaDB did not start"
            time.sleep(0.05)

    def _client(self, text: str) -> subprocess.CompletedProcess[str]:
        words = ["--no-defaults", "-uroot", f"--socket={self.socket}", "--batch", "--skip-column-names", "-e", text]
        return subprocess.run([self._programs["mariadb"], *words], capture_output=True, text=True, check=False)

    def _answers(self) -> bool:
        return self._client("SELECT 1").returncode == 0

    def crash(self) -> None:
        """Kill: no goodbye to clients, recovery at the next start."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(START_SECONDS_MAX)
            self._process = None

    def close(self) -> None:
        """Stop and remove everything."""
        self.crash()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str, port: int | None = None, more: str = "", user: str = "root") -> str:
        """The URL of a database."""
        return f"mysql://{user}@127.0.0.1:{port or self.port}/{database}{more}"

    def sql(self, text: str) -> str:
        """What the server's own client prints for some SQL."""
        done = self._client(text)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """The name of a database that may be made; it is dropped at the end."""
        name = f"t_{uuid.uuid4().hex[:12]}"
        try:
            yield name
        finally:
            if self._process is not None:
                self.sql(f"DROP DATABASE IF EXISTS {name}")

    async def later(self, text: str) -> str:
        """:meth:`sql`, without blocking the loop."""
        return await asyncio.to_thread(self.sql, text)
