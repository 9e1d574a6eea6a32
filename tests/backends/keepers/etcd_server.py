"""A real etcd of the tests' own; see ``tests/backends/brokers/broker_servers.py``."""

import contextlib
import os
import shutil
import signal
import urllib.request

from broker_servers import Server, free_port, missing


class EtcdServer(Server):
    name = "etcd"
    host = "127.0.0.1"

    def __init__(self) -> None:
        super().__init__()
        self._peers = free_port()

    def command(self) -> list[str]:
        program = shutil.which("etcd", path="/usr/bin:/usr/local/bin:" + os.environ.get("PATH", os.defpath))
        if program is None:
            missing("etcd is missing: install Debian's etcd-server")
        clients, peers = f"http://{self.host}:{self.port}", f"http://127.0.0.1:{self._peers}"
        return [
            str(program),
            *("--name", "alone", "--data-dir", str(self.folder / "data"), "--log-level", "warn"),
            *("--listen-client-urls", clients, "--advertise-client-urls", clients),
            *(
                "--listen-peer-urls",
                peers,
                "--initial-advertise-peer-urls",
                peers,
                "--initial-cluster",
                f"alone={peers}",
            ),
        ]

    def answers(self) -> bool:
        """Its port is open before it has a leader."""
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as it,
        ):
            return b"true" in it.read()
        return False

    def forget(self) -> None:
        """Lose everything."""
        self.crash()
        shutil.rmtree(self.folder / "data")

    @contextlib.contextmanager
    def suspended(self):
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    @property
    def url(self) -> str:
        return f"etcd://127.0.0.1:{self.port}"
