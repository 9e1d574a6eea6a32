"""etcd hangs or is cut off from a node: two holders never act. Holders are processes that stop by their own clocks."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from broker_servers import missing
from etcd_server import EtcdServer
from holders import Holder, actors


def test_a_holder_stops_before_a_hanging_etcd_gives_its_lock_away(own_etcd: EtcdServer, tmp_path: Path) -> None:
    """By its own clock, and whoever waits gets it when etcd goes on."""
    acts = tmp_path / "acts"
    with Holder(own_etcd.url, "a", acts) as a:
        a.says("held")
        with Holder(own_etcd.url, "b", acts) as b:
            with own_etcd.suspended():
                a.says("stopped")
            b.says("held")
    assert actors(acts) == ["a", "b"] or actors(acts) == ["a"]  # b may not have acted yet


class Namespaces:
    """Two hosts, each a network namespace, and a cable between them that can be cut. Nothing of this is seen outside."""

    FAR = "10.0.0.1"
    NEAR = "10.0.0.2"

    def __init__(self) -> None:
        self.far, self.near = f"hr{os.getpid()}f", f"hr{os.getpid()}n"

    def __enter__(self) -> "Namespaces":
        made = subprocess.run(["ip", "netns", "add", self.far], capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"the kernel gives us no network namespace: {made.stderr.strip()}")
        self._ip("netns", "add", self.near)
        self._ip("-n", self.far, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", self.near)
        for namespace, address in ((self.far, self.FAR), (self.near, self.NEAR)):
            self._ip("-n", namespace, "address", "add", f"{address}/24", "dev", "cable")
            self._ip("-n", namespace, "link", "set", "cable", "up")
            self._ip("-n", namespace, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for namespace in (self.near, self.far):
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)

    def cut(self) -> None:
        self._ip("-n", self.near, "link", "set", "cable", "down")

    def mend(self) -> None:
        self._ip("-n", self.near, "link", "set", "cable", "up")

    def _ip(self, *arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class FarEtcd(EtcdServer):
    """On a host of its own."""

    def __init__(self, namespace: str, host: str) -> None:
        super().__init__()
        self.namespace, self.host = namespace, host

    def command(self) -> list[str]:
        return ["ip", "netns", "exec", self.namespace, *super().command()]

    def answers(self) -> bool:
        url = f"http://{self.host}:{self.port}/health"
        ask = f"import urllib.request as u; assert b'true' in u.urlopen({url!r}, timeout=5).read()"
        within = ["ip", "netns", "exec", self.namespace, sys.executable, "-c", ask]
        return subprocess.run(within, capture_output=True, check=False).returncode == 0

    @property
    def url(self) -> str:
        return f"etcd://{self.host}:{self.port}"


@pytest.fixture
def hosts() -> Iterator[Namespaces]:
    if os.geteuid() != 0:
        pytest.skip("only root may make network namespaces")
    if shutil.which("ip") is None:
        missing("ip is missing: install Debian's iproute2")
    with Namespaces() as made:
        yield made


def test_a_node_that_is_cut_off_never_acts_beside_its_successor(hosts: Namespaces, tmp_path: Path) -> None:
    """It stops by its own clock; a node on etcd's side follows, and one on its own when the cable is mended."""
    acts = tmp_path / "acts"
    etcd = FarEtcd(hosts.far, hosts.FAR)
    try:
        etcd.start()
        inside = ("ip", "netns", "exec")
        with Holder(etcd.url, "near", acts, (*inside, hosts.near)) as near:
            near.says("acted")
            with Holder(etcd.url, "far", acts, (*inside, hosts.far)) as far:
                hosts.cut()
                near.says("stopped")
                far.says("acted")
                hosts.mend()
                with Holder(etcd.url, "again", acts, (*inside, hosts.near)) as again:
                    far.process.kill()
                    again.says("acted")
    finally:
        etcd.close()
    assert actors(acts) == ["near", "far", "again"]
