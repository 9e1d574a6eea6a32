"""Ports for the servers of tests, which keep theirs over restarts."""

import random
import socket

PORTS = range(20_000, 32_000)
"""Below those that kernels lend to clients (Linux: from 32768). Of those, a port is not safe while its server is down: whoever
connects to it again and again may be lent that very port, is then connected to itself, and the server finds it taken."""

_chance = random.SystemRandom()


def free_port() -> int:
    """One on which nobody listens."""
    while True:
        port = _chance.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
