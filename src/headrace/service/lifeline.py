"""The tie between a supervised node and its supervisor: one socket.

The node writes a JSON object per line (ready, reloaded). Its end of the socket reads end-of-file when the supervisor is
gone, however it went; a thread waits for that, because the event loop may be blocked just then.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

import msgspec


class Lifeline:
    """A supervised node's end."""

    def __init__(self, number: int) -> None:
        os.set_inheritable(number, False)  # it must not live on in what tasks start
        self._socket = socket.socket(fileno=number)

    def watch(self, gone: Callable[[], None]) -> None:
        """Call back, from a thread, when the supervisor is gone."""

        def wait() -> None:
            with contextlib.suppress(OSError):
                while self._socket.recv(1024):
                    pass
            gone()

        threading.Thread(target=wait, name="headrace-lifeline", daemon=True).start()

    def say(self, message: dict[str, Any]) -> None:
        """Tell the supervisor; lost if it is gone."""
        with contextlib.suppress(OSError):
            self._socket.sendall(msgspec.json.encode(message) + b"\n")
