"""A network with a cable that can be cut, for tests of nodes that lose their database or their keeper."""

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from missing import missing


class Namespaces:
    """Two hosts, each a network namespace, and a cable between them that can be cut. Nothing of this is seen outside."""

    FAR = "10.0.0.1"
    NEAR = "10.0.0.2"
    NETWORK = "10.0.0.0/24"

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

    def inside(self, namespace: str) -> tuple[str, ...]:
        """What to put before a command to have it run on that host."""
        return (str(shutil.which("ip")), "netns", "exec", namespace)

    def cut(self) -> None:
        self._ip("-n", self.near, "link", "set", "cable", "down")

    def mend(self) -> None:
        self._ip("-n", self.near, "link", "set", "cable", "up")

    def _ip(self, *arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def hosts() -> Iterator[Namespaces]:
    if os.geteuid() != 0:
        pytest.skip("only root may make network namespaces")
    if shutil.which("ip") is None:
        missing("ip is missing: install Debian's iproute2")
    with Namespaces() as made:
        yield made
