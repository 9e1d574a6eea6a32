"""etcd hangs or is cut off from a node: two holders never act. Holders are processes that stop by their own clocks."""

import subprocess
import sys
from pathlib import Path

from etcd_server import EtcdServer
from holders import Holder, actors
from namespaces import Namespaces


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


def test_a_node_that_is_cut_off_never_acts_beside_its_successor(hosts: Namespaces, tmp_path: Path) -> None:
    """It stops by its own clock; a node on etcd's side follows, and one on its own when the cable is mended."""
    acts = tmp_path / "acts"
    etcd = FarEtcd(hosts.far, hosts.FAR)
    try:
        etcd.start()
        with Holder(etcd.url, "near", acts, hosts.inside(hosts.near)) as near:
            near.says("acted")
            with Holder(etcd.url, "far", acts, hosts.inside(hosts.far)) as far:
                hosts.cut()
                near.says("stopped")
                far.says("acted")
                hosts.mend()
                with Holder(etcd.url, "again", acts, hosts.inside(hosts.near)) as again:
                    far.process.kill()
                    again.says("acted")
    finally:
        etcd.close()
    assert actors(acts) == ["near", "far", "again"]
