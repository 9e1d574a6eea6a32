"""A real etcd of the tests' own; see ``tests/backends/brokers/broker_servers.py``."""

import contextlib
import os
import shutil
import signal
import ssl
import urllib.request
from collections.abc import Iterator

import pytest
from broker_servers import Server, missing
from certificates import make_certificates
from server_ports import free_port


class EtcdServer(Server):
    name = "etcd"
    host = "127.0.0.1"
    scheme = "http"
    more: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        peers = free_port()
        self.name_in_cluster, self.peer_url = f"member{peers}", f"http://127.0.0.1:{peers}"
        self.join([(self.peer_url, self.name_in_cluster)])

    def command(self) -> list[str]:
        program = shutil.which("etcd", path="/usr/bin:/usr/local/bin:" + os.environ.get("PATH", os.defpath))
        if program is None:
            missing("etcd is missing: install Debian's etcd-server")
        clients = f"{self.scheme}://{self.host}:{self.port}"
        settings = {
            "name": self.name_in_cluster,
            "data-dir": str(self.folder / "data"),
            "logger": "zap",
            "log-level": "warn",
            "listen-client-urls": clients,
            "advertise-client-urls": clients,
            "listen-peer-urls": self.peer_url,
            "initial-advertise-peer-urls": self.peer_url,
            "initial-cluster": self._cluster,
        }
        return [str(program), *(part for name, value in settings.items() for part in (f"--{name}", value)), *self.more]

    def join(self, members: list[tuple[str, str]]) -> None:
        """Be one of several: peer URLs and names, its own among them."""
        self._cluster = ",".join(f"{name}={url}" for url, name in members)

    def start_soon(self) -> None:
        """Start without waiting: a member answers when there is a majority."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self, "answers", lambda: True)
            self.start()

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
    def suspended(self) -> Iterator[None]:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    @property
    def url(self) -> str:
        return f"etcd://127.0.0.1:{self.port}"


class EncryptedEtcd(EtcdServer):
    """Talks TLS, and only to those who have a certificate."""

    scheme = "https"

    def __init__(self) -> None:
        super().__init__()
        self.authority, self.certificate, self.key = make_certificates(self.folder, self.host)
        files = ("--cert-file", str(self.certificate), "--key-file", str(self.key))
        self.more = (*files, "--client-cert-auth", "--trusted-ca-file", str(self.authority))

    def answers(self) -> bool:
        context = ssl.create_default_context(cafile=str(self.authority))
        context.load_cert_chain(self.certificate, self.key)
        url = f"https://127.0.0.1:{self.port}/health"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5, context=context) as it:
            return b"true" in it.read()
        return False
