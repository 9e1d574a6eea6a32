"""Telling the service manager: systemd's ``sd_notify`` protocol, and a file for everybody else.

Source of the protocol: sd_notify(3). One datagram of ``NAME=value`` lines to the socket in ``NOTIFY_SOCKET``.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from pathlib import Path

VARIABLE = "NOTIFY_SOCKET"


class Notifier:
    """Says ready, reloading, stopping. Without a service manager and without a file it does nothing.

    The variable is taken out of the environment, so that no child process speaks in our name. Never raises: nobody
    listening is no reason to stop."""

    def __init__(self, ready_file: Path | None = None) -> None:
        self._address = os.environ.pop(VARIABLE, "")
        os.environ.pop("WATCHDOG_USEC", None)
        self._file = ready_file

    def ready(self, status: str) -> None:
        """The node serves. The file, if one was asked for, holds our process id."""
        self._send(f"READY=1\nMAINPID={os.getpid()}\nSTATUS={status}")
        if self._file is not None:
            beside = self._file.with_name(f".{self._file.name}.{os.getpid()}")
            with contextlib.suppress(OSError):
                beside.write_text(f"{os.getpid()}\n", encoding="ascii")
                beside.replace(self._file)

    def reloading(self) -> None:
        """The configuration is being read again; :meth:`ready` follows."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def status(self, status: str) -> None:
        """One line for ``systemctl status``."""
        self._send(f"STATUS={status}")

    def stopping(self) -> None:
        """The node ends; it is not ready any more."""
        self._send("STOPPING=1")
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.unlink()

    def _send(self, text: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out,
        ):
            out.setblocking(False)
            out.sendto(text.encode(), address)
