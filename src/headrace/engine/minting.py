"""Names that must not repeat: run ids and node ids. The core cannot mint them, it has neither clock nor randomness."""

from __future__ import annotations

import os
import socket
import time

from headrace.core.ids import NodeId, RunId

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]


def new_run_id(now: float | None = None) -> RunId:
    """A run id: sorts by creation time, 80 random bits. Form: the ULID specification, in lower case."""
    milliseconds = int((time.time() if now is None else now) * 1000) & (1 << 48) - 1
    high, low = int.from_bytes(os.urandom(5), "big"), int.from_bytes(os.urandom(5), "big")
    # 40 bits are eight digits; numbers of one machine word are shifted faster than one of 128 bits.
    return RunId(f"{_PAIRS[milliseconds >> 40]}{_digits(milliseconds)}{_digits(high)}{_digits(low)}")


def _digits(bits: int) -> str:
    return _PAIRS[bits >> 30 & 1023] + _PAIRS[bits >> 20 & 1023] + _PAIRS[bits >> 10 & 1023] + _PAIRS[bits & 1023]


def new_node_id() -> NodeId:
    """A node id that tells a reader where the process is: host, process id, and four random digits."""
    host = socket.gethostname().split(".")[0] or "host"
    return NodeId(f"{host}-{os.getpid()}-{os.urandom(2).hex()}")
