"""Several nodes on one host: starts them, passes signals on, starts again what crashed, and never leaves one behind.

Each node is a process of its own with a socket to us (:mod:`.lifeline`): it tells us what becomes of it, and ends by
itself when we are gone. A node that crashes is started again after a delay that doubles; its runs go on elsewhere at
once. One that crashes again and again without having been up for a while is not a node that another start will mend:
then all of them are stopped and the service manager decides.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence

import msgspec

from headrace.service.host import STOP_GRACE_SECONDS
from headrace.service.notify import Notifier

logger = logging.getLogger("headrace.up")

DELAY_SECONDS = 0.5
DELAY_SECONDS_MAX = 30.0
CRASHES_MAX = 8
"""Crashes in a row, about two minutes, after which it is given up."""

HEALTHY_SECONDS = 60.0
"""How long a node has to be ready for its crashes to be forgotten."""

KILL_SECONDS = STOP_GRACE_SECONDS + 10.0
"""How long after its drain time a node that was told to stop is killed."""

NODES_MAX = 256


class _Message(msgspec.Struct):
    said: str
    node: str = ""
    drain: float = 0.0


class _Child:
    """One node's process, and the next one after it crashed."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: subprocess.Popen[bytes] | None = None
        self.ready_at: float | None = None
        self.node = ""
        self.drain = 0.0
        self.crashes = 0
        self.was_ready = False
        self.reloads = 0


class Supervisor:
    """``command``: gives the command line of node ``number`` (from 1) with the file descriptor of its socket. ``drain``:
    the drain time in seconds until a node has told its own."""

    def __init__(
        self, nodes: int, command: Callable[[int, int], Sequence[str]], notifier: Notifier, *, drain: float
    ) -> None:
        self._children = [_Child(number) for number in range(1, nodes + 1)]
        self._command = command
        self._notifier = notifier
        for child in self._children:
            child.drain = drain
        self._stopping = asyncio.Event()
        self._told = 0
        self._code = 0

    async def serve(self) -> int:
        """Keep the nodes up until told to stop; the exit code: 0 as told, 1 given up, 130 if attempts were interrupted,
        2 if a node could not start at all."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        try:
            async with asyncio.TaskGroup() as group:
                for child in self._children:
                    group.create_task(self._keep(child))
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)
            self._notifier.stopping()
        return self._code

    # ---- signals -----------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        self._told += 1
        self._stopping.set()
        self._signal_all(signal.SIGTERM)

    def _reload(self) -> None:
        self._notifier.reloading()
        self._signal_all(signal.SIGHUP)

    def _signal_all(self, number: int, *, but: _Child | None = None) -> None:
        for child in self._children:
            if child is but:
                continue
            # Before a node is ready the signal would end it; it reads the newest configuration anyway.
            if child.process is not None and (number != signal.SIGHUP or child.ready_at is not None):
                child.process.send_signal(number)

    def _give_up(self, code: int) -> None:
        self._code = self._code or code
        if not self._stopping.is_set():
            self._stop()

    # ---- one node ----------------------------------------------------------------------------------------------------

    async def _keep(self, child: _Child) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            code = await self._run(child)
            up = 0.0 if child.ready_at is None else loop.time() - child.ready_at
            child.ready_at = None
            if self._stopping.is_set():
                if code == 130 and self._told > 1:
                    self._code = self._code or 130
                return None
            fields = {"node": child.node or str(child.number), "pid": child.process.pid if child.process else 0}
            logger.error("a node's process ended", extra={**fields, "how": _how(code)})
            self._tell_status()
            if not child.was_ready and code == 2:
                logger.error("the node cannot start; giving up", extra=fields)
                return self._give_up(2)
            child.crashes = 1 if up >= HEALTHY_SECONDS else child.crashes + 1
            if child.crashes >= CRASHES_MAX:
                logger.error("the node crashes again and again; giving up", extra={**fields, "crashes": child.crashes})
                return self._give_up(1)
            delay = min(DELAY_SECONDS * 2 ** (child.crashes - 1), DELAY_SECONDS_MAX)
            logger.info("the node is started again", extra={**fields, "delay_seconds": delay})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stopping.wait()
        return None

    async def _run(self, child: _Child) -> int:
        """Start the process and wait for its end; its exit code, or minus the signal."""
        ours, theirs = socket.socketpair()
        with theirs:
            child.process = subprocess.Popen(  # noqa: ASYNC220, S603 - this program itself; it takes a millisecond
                self._command(child.number, theirs.fileno()),
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                process_group=0,  # Ctrl-C on the terminal reaches us alone, and we pass it on once
            )
        logger.debug("a node's process was started", extra={"number": child.number, "pid": child.process.pid})
        ours.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=ours)
        listening = asyncio.create_task(self._listen(child, reader))
        try:
            return await self._exit_of(child)
        finally:
            await asyncio.wait([listening], timeout=1.0)
            listening.cancel()
            writer.close()

    async def _exit_of(self, child: _Child) -> int:
        """The exit code. After we were told to stop, a process that takes too long is killed."""
        assert child.process is not None
        ended = asyncio.create_task(asyncio.to_thread(child.process.wait))
        told = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([ended, told], return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                await asyncio.wait([ended], timeout=child.drain + KILL_SECONDS)
                if not ended.done():
                    logger.error("a node does not stop and is killed", extra={"pid": child.process.pid})
                    child.process.kill()
            return await ended
        finally:
            told.cancel()

    async def _listen(self, child: _Child, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                message = msgspec.json.decode(line, type=_Message)
                if message.said == "reload-others":  # somebody asked that node alone, over HTTP
                    self._signal_all(signal.SIGHUP, but=child)
                    continue
                child.drain = message.drain
                if message.said == "ready":
                    child.node = message.node
                    child.was_ready = True
                    child.ready_at = asyncio.get_running_loop().time()
                self._tell_status()

    def _tell_status(self) -> None:
        up = sum(child.ready_at is not None for child in self._children)
        status = f"{up} of {len(self._children)} nodes are up"
        if up == len(self._children) and not self._stopping.is_set():
            self._notifier.ready(status)
        else:
            self._notifier.status(status)


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
