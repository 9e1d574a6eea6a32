"""One warm child process of executor ``process``, as the engine sees it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable

import msgspec

from headrace.backends.executors import process_wire as wire
from headrace.backends.executors.process_locks import ChildLocks, refuse_late
from headrace.backends.executors.watched_process import WatchedProcess
from headrace.contracts.current import HEARTBEAT_BYTES_MAX
from headrace.contracts.execution import Attempt, AttemptError, AttemptLog, Pulse

_MODULE = "headrace.backends.executors.process_child"

LAST_WORDS_BYTES = 2_048
"""Bytes of stderr kept to explain a crash."""

RETIRE_SECONDS = 2.0
"""How long a retired child may take to end by itself."""


class ProcessWorker(asyncio.Protocol):
    """Carries out one call at a time. ``on_gone`` is called once, when the process has ended."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        result_bytes_max: int,
        memory_bytes_max: int,
        on_gone: Callable[[ProcessWorker], None],
    ) -> None:
        self._loop = loop
        self._on_gone = on_gone
        self._buffer = bytearray()
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._log: AttemptLog | None = None
        self._pulse: Pulse | None = None
        self._locks: ChildLocks | None = None
        self._last_words = b""
        self._transport: asyncio.WriteTransport | None = None
        self.calls = 0
        self.killed = False
        ours, theirs = socket.socketpair()
        try:
            arguments = [str(theirs.fileno()), str(os.getpid()), str(result_bytes_max), str(memory_bytes_max)]
            self._process = WatchedProcess(
                loop,
                [sys.executable, "-m", _MODULE, *arguments],
                env=None,
                cwd=None,
                output=self._output,
                on_exit=self._ended,
                pass_socket=theirs,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        self._socket = ours

    async def connect(self) -> None:
        """Attach the socket to the loop. Calls may be sent at once; the child reads them when it is up."""
        transport, _ = await self._loop.create_unix_connection(lambda: self, sock=self._socket)
        self._transport = transport

    @property
    def pid(self) -> int:
        """The process id, for tests and messages."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """False once the process has ended or was told to."""
        return not self.killed and self._process.alive

    async def call(self, body: bytes, log: AttemptLog, attempt: Attempt) -> tuple[int, bytes]:
        """Send one call of the attempt; the kind and body of its answer. Raises :class:`AttemptError` of type
        ``crashed`` when the process ends first. After a cancellation the process is in an unknown state: :meth:`kill`
        it."""
        assert self._transport is not None
        self.calls += 1
        self._log = log
        self._pulse = attempt.pulse
        if attempt.locker is not None:
            self._locks = ChildLocks(attempt, attempt.locker, self._answer_lock)
        self._last_words = b""
        self._answer = self._loop.create_future()
        self._transport.write(wire.frame(wire.CALL, body))
        try:
            return await self._answer
        finally:
            self._answer = None
            self._log = None
            self._pulse = None
            if self._locks is not None:
                self._locks.close()
                self._locks = None

    def _answer_lock(self, body: bytes) -> None:
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.write(wire.frame(wire.LOCK_ANSWER, body))

    def kill(self) -> None:
        """SIGKILL to the process and its whole group."""
        self.killed = True  # it may look alive for another moment, and must not be given more work
        self._process.kill()

    async def wait(self, seconds: float) -> None:
        """Until the process has ended, at most that long."""
        await asyncio.wait([self._process.exited], timeout=seconds)

    def retire(self) -> None:
        """Let the child end by itself, having done its share; kill it if it does not."""
        if self._transport is not None:
            self._transport.close()
        self._loop.call_later(RETIRE_SECONDS, self.kill)

    # ---- what the child says ----

    def data_received(self, data: bytes) -> None:
        """Frames, in any portions."""
        buffer = self._buffer
        buffer += data
        start = 0
        header_bytes = wire.HEADER.size
        while len(buffer) - start >= header_bytes:
            size, kind = wire.HEADER.unpack_from(buffer, start)
            if size > wire.FRAME_BYTES_MAX:
                self.kill()
                return
            end = start + header_bytes + size
            if len(buffer) < end:
                break
            self._received(kind, bytes(buffer[start + header_bytes : end]))
            start = end
        del buffer[:start]

    def _received(self, kind: int, body: bytes) -> None:
        if kind == wire.LOG:
            if self._log is not None:
                self._log.write("log", body)
            return
        if kind == wire.HEARTBEAT:
            if self._pulse is not None and _is_json(body):
                self._pulse(body or None)
            return
        if kind == wire.LOCK:
            if self._locks is not None:
                self._locks.asked(body)
            else:
                refuse_late(body, self._answer_lock)
            return
        self._process.drain()  # the child flushed before it answered: this output belongs to this attempt
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((kind, body))

    def _output(self, stream: str, data: bytes) -> None:
        """Output between calls (threads that user code left running) belongs to no attempt and is dropped."""
        if stream == "stderr":
            self._last_words = (self._last_words + data)[-LAST_WORDS_BYTES:]
        if self._log is not None:
            self._log.write(stream, data)

    # ---- the end ----

    def connection_lost(self, exc: Exception | None) -> None:
        """The child closed its socket. Its end, which tells why, follows; if it does not, it is helped."""
        if self._process.alive:
            self._loop.call_later(RETIRE_SECONDS, self.kill)

    def _ended(self) -> None:
        self._read_rest()
        self._process.reap()
        self._process.drain()
        self._process.close_output()
        if self._transport is not None:
            self._transport.close()
        else:
            self._socket.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(AttemptError("crashed", self._epitaph(self._process.exited.result())))
        self._on_gone(self)

    def _read_rest(self) -> None:
        """The answer may have been sent just before the end and still wait in the socket."""
        for _ in range(wire.FRAME_BYTES_MAX // 65_536):
            try:
                data = self._socket.recv(65_536)
            except OSError:  # nothing more now, or closed by the transport
                return
            if not data:
                return
            self.data_received(data)

    def _epitaph(self, code: int) -> str:
        if code < 0:
            name = str(-code)
            with contextlib.suppress(ValueError):
                name = signal.Signals(-code).name
            reasons = {
                "SIGSEGV": "a crash in native code",
                "SIGKILL": "killed from outside, perhaps for using too much memory",
                "SIGABRT": "native code gave up",
                "SIGBUS": "a crash in native code",
            }
            text = f"the task's process was ended by {name}"
            if name in reasons:
                text += f" ({reasons[name]})"
        else:
            text = f"the task's process ended with exit code {code} before the task returned"
        words = self._last_words.decode("utf-8", "replace").strip()
        return f"{text}; its last words: {words}" if words else text


def _is_json(body: bytes) -> bool:
    """Whether heartbeat details are what a heartbeat sends: a rogue child must not put anything else into a history."""
    if not body:
        return True
    if len(body) > HEARTBEAT_BYTES_MAX:
        return False
    try:
        msgspec.json.decode(body)
    except msgspec.DecodeError:
        return False
    return True
