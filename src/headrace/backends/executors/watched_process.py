"""A child process that the event loop watches: its own session and group, its output, its end.

Used by the shell task and the ``process`` executor. The end is learnt from a pidfd, without threads or signal handlers.
The order at the end matters: the group is killed *before* the leader is reaped, because only then is the group's number
certain to be still ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence

from headrace.backends.executors.group_guard import guard_for

READ_BYTES = 64 * 1024
READS_PER_WAKE = 16
"""Reads per stream and wake-up: a process that floods its output cannot hold the loop longer than this takes."""

DRAIN_READS_MAX = 64
"""Reads per stream after the end: 4 MiB, far over what a pipe can hold."""

_GROUP_POLL_SECONDS = 0.05
"""Members of a group that are not our children can only be looked for; done while a cancelled group winds down."""

Output = Callable[[str, bytes], None]
"""Receives ``("stdout" | "stderr", data)``."""


class WatchedProcess:
    """One process, started by the constructor, in a session of its own. Use from one event loop only.

    Raises what :class:`subprocess.Popen` raises when it cannot start: ``FileNotFoundError``, ``PermissionError``,
    ``OSError``, ``ValueError`` (a NUL in the command).
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None,
        cwd: str | None,
        output: Output,
        on_exit: Callable[[], None] | None = None,
        pass_socket: socket.socket | None = None,
    ) -> None:
        self._loop = loop
        self._output = output
        self._on_exit = on_exit
        self._leader: asyncio.Future[None] = loop.create_future()
        self._killed = False
        self.exited: asyncio.Future[int] = loop.create_future()
        """The return code as :mod:`subprocess` gives it (negative: a signal), once the process has ended."""
        self.closed: asyncio.Future[None] = loop.create_future()
        """Done when stdout and stderr are at their end."""
        self._pipes: dict[int, str] = {}
        write_ends: list[int] = []
        try:
            for stream in ("stdout", "stderr"):
                read_end, write_end = os.pipe()
                self._pipes[read_end] = stream
                write_ends.append(write_end)
                os.set_blocking(read_end, False)
            self._process = subprocess.Popen(  # noqa: S603 - running the user's command is the purpose
                command,
                stdin=subprocess.DEVNULL,
                stdout=write_ends[0],
                stderr=write_ends[1],
                env=env,
                cwd=cwd,
                start_new_session=True,
                pass_fds=(pass_socket.fileno(),) if pass_socket is not None else (),
            )
        except BaseException:
            for read_end in self._pipes:
                os.close(read_end)
            raise
        finally:
            for write_end in write_ends:
                os.close(write_end)
        self.pid = self._process.pid
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except OSError:  # out of file descriptors: better no process than one nobody watches
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
            for read_end in self._pipes:
                os.close(read_end)
            raise
        self._guard = guard_for(loop)
        self._guard.add(self.pid)
        loop.add_reader(self._pidfd, self._ended)
        for read_end in self._pipes:
            loop.add_reader(read_end, self._readable, read_end)

    @property
    def alive(self) -> bool:
        """False once the process has ended, even if the loop has not been told yet."""
        if self.exited.done():
            return False
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False

    def send_signal(self, number: signal.Signals) -> None:
        """Signal the whole group. Nothing happens after the end."""
        if not self.exited.done():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def kill(self) -> None:
        """SIGKILL to the whole group; the leader is collected as soon as it has ended. Idempotent."""
        self._killed = True
        if self._leader.done():
            self.reap()
        else:
            self.send_signal(signal.SIGKILL)

    def drain(self) -> None:
        """Hand on everything that is in the pipes now."""
        for read_end in list(self._pipes):
            self._read(read_end, DRAIN_READS_MAX)

    def close_output(self) -> None:
        """Stop listening to stdout and stderr; a process that escaped the group may still hold them open."""
        for read_end in list(self._pipes):
            self._close_pipe(read_end)

    async def wait_group(self, seconds: float) -> None:
        """Until the process and everything in its group have ended (none is reaped yet), at most that long."""
        deadline = self._loop.time() + seconds
        await asyncio.wait([self._leader], timeout=seconds)
        while (left := deadline - self._loop.time()) > 0 and _has_members(self.pid):  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(min(left, _GROUP_POLL_SECONDS))

    async def finish(self, linger_seconds: float) -> int:
        """Wait for the end, give what it started ``linger_seconds`` to close the output, kill the rest of the group;
        the return code. Safe to cancel: nothing has been killed or reaped then."""
        await asyncio.shield(self._leader)
        if not self.closed.done():
            await asyncio.wait([self.closed], timeout=linger_seconds)
        self.reap()
        self.drain()
        return self.exited.result()

    def reap(self) -> None:
        """Kill what is left of the group and collect the leader, which has ended. Idempotent."""
        if self.exited.done():
            return
        self.send_signal(signal.SIGKILL)
        code = self._process.poll()
        if code is None:  # not ours to collect any more: somebody waits for all children of this process
            code = self._process.wait()
        self._guard.remove(self.pid)
        self.exited.set_result(code)

    def _ended(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self.drain()
        if not self._leader.done():
            self._leader.set_result(None)
        if self._on_exit is not None:
            self._on_exit()
        elif self._killed:
            self.reap()

    def _readable(self, read_end: int) -> None:
        self._read(read_end, READS_PER_WAKE)

    def _read(self, read_end: int, reads_max: int) -> None:
        stream = self._pipes[read_end]
        for _ in range(reads_max):
            try:
                data = os.read(read_end, READ_BYTES)
            except BlockingIOError:
                return
            if not data:
                self._close_pipe(read_end)
                return
            self._output(stream, data)
            if len(data) < READ_BYTES:
                return

    def _close_pipe(self, read_end: int) -> None:
        if self._pipes.pop(read_end, None) is not None:
            self._loop.remove_reader(read_end)
            os.close(read_end)
            if not self._pipes and not self.closed.done():
                self.closed.set_result(None)


def _has_members(group: int) -> bool:
    """Whether a group has a living process. ``killpg(group, 0)`` cannot tell: it counts the unreaped leader."""
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                with open(f"/proc/{entry.name}/stat", "rb") as file:  # noqa: PTH123
                    # pid (name) state ppid pgrp ...: the name may hold spaces and brackets
                    state, _parent, pgrp = file.read().rpartition(b")")[2].split()[:3]
            except (OSError, ValueError):  # it ended while we looked
                continue
            if int(pgrp) == group and state not in (b"Z", b"X"):
                return True
    return False
