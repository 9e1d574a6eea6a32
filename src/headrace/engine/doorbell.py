"""Wakes a node at once when there is something for it in the store, from a process on the same host.

A node listens for datagrams on a loopback port and publishes its *bell* with its lease: ``host:port/place/topic``. The
place says where that loopback is (this boot of this host, this network namespace), so that nobody rings at the port of
a stranger; the topic is the node's own, for whoever can reach it only through a broker. A ring is a hint: it may be lost
or repeated. An empty one means the node's inbox, any other names a topic; the store is the truth and a slow poll is the
safety net.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec

HOST = "127.0.0.1"
DATAGRAM_BYTES_MAX = 1024


class Bell(msgspec.Struct, frozen=True):
    """How a node is woken: at a loopback port, in a place, or by a topic; each may be empty."""

    port: int
    place: str
    topic: str

    @property
    def near(self) -> bool:
        """Whether this process can ring it."""
        return self.port > 0 and self.place in ("", here())


def bell_of(text: str) -> Bell:
    """Read a bell; what cannot be read is not reachable. A plain ``host:port`` is one of an older node."""
    address, _, rest = text.partition("/")
    place, _, topic = rest.partition("/")
    host, _, port = address.rpartition(":")
    return Bell(int(port) if host == HOST and port.isdigit() and len(port) < 6 else 0, place, topic)


@functools.cache
def here() -> str:
    """Where this process's loopback is: two processes that name the same place can ring each other."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        network = str(Path("/proc/self/ns/net").readlink())
    except (OSError, ValueError):  # not Linux: as good as it gets
        boot, network = socket.gethostname(), ""
    return hashlib.sha256(f"{boot} {network}".encode()).hexdigest()[:12]


class _Protocol(asyncio.DatagramProtocol):
    def __init__(self, heard: Callable[[str], None]) -> None:
        self._heard = heard

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if len(data) <= DATAGRAM_BYTES_MAX:
            self._heard(data.decode("utf-8", "replace"))


class Doorbell:
    """One node's bell. ``heard`` is called on the event loop with a topic, or with '' for the node itself. ``address`` is
    empty when no port can be had: then a broker or the slow poll has to do."""

    def __init__(self, heard: Callable[[str], None]) -> None:
        self._heard = heard
        self._transport: asyncio.DatagramTransport | None = None
        self.address = ""

    async def start(self) -> None:
        """Begin to listen."""
        with contextlib.suppress(OSError):
            loop = asyncio.get_running_loop()
            self._transport, _ = await loop.create_datagram_endpoint(
                lambda: _Protocol(self._heard), local_addr=(HOST, 0), family=socket.AF_INET
            )
            host, port = self._transport.get_extra_info("sockname")
            self.address = f"{host}:{port}"

    def stop(self) -> None:
        """Stop listening. Idempotent."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None


def ring(bell: Bell, topic: str = "") -> None:
    """Ring a bell that is near."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(topic.encode(), (HOST, bell.port))
