"""The child's side of executor ``process``: ``python -m headrace.backends.executors.process_child FD PARENT RESULT_BYTES
MEMORY_BYTES``.

Reads calls from the socket ``FD``, one at a time, answers each, and ends when the socket does. If the engine dies
without a word, the kernel kills the child (``PR_SET_PDEATHSIG``), in the middle of a call too. stdout and stderr are
pipes that the engine reads; they are flushed before the answer goes out, so every line reaches the right attempt's log.
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import os
import pickle
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator
from queue import SimpleQueue
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from headrace.backends.executors import process_wire as wire
from headrace.backends.executors.arguments import Convert, plan_conversion
from headrace.backends.executors.process_errors import describe
from headrace.backends.executors.targets import resolve
from headrace.contracts import converters
from headrace.contracts.current import AttemptInfo, attempt_var
from headrace.contracts.execution import Attempt, AttemptError, CompletesLater
from headrace.contracts.outcome import encode_output
from headrace.core.errors import LockMisused

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

_PR_SET_PDEATHSIG = 1

FUNCTIONS_MAX = 10_000
"""Resolved functions kept; past it the cache starts anew."""

BEAT_SECONDS = 0.05
"""The shortest gap between two heartbeats of a call that reach the engine."""

_Resolved = tuple[Callable[..., Any], Convert | None]


class _RemoteLog:
    """The attempt's log, over the socket."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    def write(self, stream: str, data: bytes) -> None:
        """Send; everything but ``log`` goes over the pipes."""
        with contextlib.suppress(OSError):  # the engine is gone: so are we, soon
            self._connection.send(wire.LOG, data)

    def close(self) -> None:
        """The engine closes it."""


class _RemotePulse:
    """The attempt's heartbeat, over the socket. A call that beats in a tight loop must not keep the engine busy: what
    comes sooner than :data:`BEAT_SECONDS` after the last one waits for the next, or for the end of the call."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._sent_at = 0.0
        self._waiting: bytes | None = None

    def beat(self, details: bytes | None) -> None:
        """From any thread of the user's code."""
        if details is not None:
            self._waiting = details
        now = time.monotonic()
        if now - self._sent_at >= BEAT_SECONDS:
            self._sent_at = now
            self._send()

    def flush(self) -> None:
        """The call is over: what it said last must not be lost."""
        if self._waiting is not None:
            self._send()

    def _send(self) -> None:
        details, self._waiting = self._waiting, None
        with contextlib.suppress(OSError):  # as above
            self._connection.send(wire.HEARTBEAT, details or b"")


class _Connection:
    """Frames over a blocking socket. Sending is safe from any thread of the user's code."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._reader = sock.makefile("rb", buffering=64 * 1024)
        self._sending = threading.Lock()
        self._guard = threading.Lock()
        self._is_reading = False
        self._calls: SimpleQueue[bytes | None] | None = None
        """Calls that somebody else has read for us; None while we read ourselves."""

    def receive(self) -> bytes | None:
        """The body of the next call; None when the engine has gone."""
        with self._guard:
            calls = self._calls
            self._is_reading = calls is None
        if calls is not None:
            return calls.get()
        try:
            return self._read()
        finally:
            with self._guard:
                self._is_reading = False

    def hand_over(self, loop: AbstractEventLoop, answered: Callable[[bytes | None], None]) -> None:
        """See :class:`headrace.backends.executors.process_child_locks.Wire`. Nothing is read ahead by then: between a
        call and its end the engine says nothing unless it is asked."""
        with self._guard:
            if self._is_reading:
                raise LockMisused("the attempt that wants the lock is over")
            calls = self._calls = SimpleQueue()
        buffer = bytearray()

        def readable() -> None:
            data = self._sock.recv(256 * 1024, socket.MSG_DONTWAIT)
            if not data:
                loop.remove_reader(self._sock)
                answered(None)
                calls.put(None)
                return
            buffer.extend(data)
            while len(buffer) >= wire.HEADER.size:
                size, kind = wire.HEADER.unpack_from(buffer)
                end = wire.HEADER.size + size
                if len(buffer) < end:
                    return
                body = bytes(buffer[wire.HEADER.size : end])
                del buffer[:end]
                (answered if kind == wire.LOCK_ANSWER else calls.put)(body)

        loop.add_reader(self._sock, readable)

    def _read(self) -> bytes | None:
        header = self._reader.read(wire.HEADER.size)
        if len(header) < wire.HEADER.size:
            return None
        size, _kind = wire.HEADER.unpack(header)
        body = self._reader.read(size)
        return body if len(body) == size else None

    def send(self, kind: int, body: bytes) -> None:
        """One frame."""
        with self._sending:
            self._sock.sendall(wire.frame(kind, body))


class _LazyLocker:
    """A :class:`~headrace.backends.executors.process_child_locks.ChildLocker` that is made when a lock is first taken: it
    needs asyncio, which is a third of the start-up time."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        from headrace.backends.executors.process_child_locks import ChildLocker  # noqa: PLC0415 - see above

        locker = self.__dict__.setdefault("_locker", ChildLocker(self._connection))
        return getattr(locker, name)


def main(argv: list[str]) -> None:
    """Serve calls until the socket ends; ``MEMORY_BYTES`` bounds the address space, 0 leaves it alone."""
    fd, parent_pid, result_bytes_max = int(argv[0]), int(argv[1]), int(argv[2])
    memory_bytes_max = int(argv[3])
    _die_with_parent(parent_pid)
    os.set_inheritable(fd, False)
    if memory_bytes_max:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes_max, memory_bytes_max))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]  # pyright: ignore
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the engine's to handle
    _serve(_Connection(socket.socket(fileno=fd)), result_bytes_max)


def _die_with_parent(parent_pid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it died before the request was in force
        os._exit(1)


def _serve(connection: _Connection, result_bytes_max: int) -> None:
    functions: dict[tuple[str, str | None], _Resolved] = {}
    log = _RemoteLog(connection)
    locker: Any = _LazyLocker(connection)
    given: bytes | None = None
    while (body := connection.receive()) is not None:
        pulse: _RemotePulse | None = None
        try:
            target, source_dir, args, fields, own, has_locks = pickle.loads(body)  # noqa: S301 - from the engine, our parent
            if own is not None and own != given:
                _register(own, source_dir)
                given = own
            resolved = functions.get((target, source_dir))
            if resolved is None:
                if len(functions) >= FUNCTIONS_MAX:
                    functions.clear()
                function = resolve(target, source_dir, {})
                resolved = functions[target, source_dir] = (function, plan_conversion(function, target))
            pulse = _RemotePulse(connection)
            lent = locker if has_locks else None
            info = AttemptInfo(Attempt(config={}, args=args, pulse=pulse.beat, locker=lent, **fields), log)
            with _surroundings_kept():
                result = contextvars.copy_context().run(_invoke, resolved, args, info)
            answer = encode_output(result)
            if len(answer) > result_bytes_max:
                raise AttemptError(
                    "result_too_large",
                    f"{target} returned {len(answer):,} bytes of JSON, at most {result_bytes_max:,} are allowed; "
                    "write large results to a file and return its path",
                    retryable=False,
                )
            kind = wire.RESULT
        except CompletesLater:
            kind, answer = wire.LATER, b""
        except BaseException as error:  # noqa: BLE001, RUF100 - whatever user code raises, SystemExit too
            kind, answer = wire.FAILURE, wire.encode_failure(describe(error))
        if pulse is not None:
            pulse.flush()
        _flush()
        connection.send(kind, answer)


def _register(own: bytes, source_dir: str | None) -> None:
    """The program's own converters; their module may lie beside the workflow."""
    if source_dir is not None and source_dir not in sys.path:
        sys.path.append(source_dir)
    converters.register(pickle.loads(own))  # noqa: S301 - as above


def _invoke(resolved: _Resolved, args: dict[str, Any], info: AttemptInfo) -> Any:
    attempt_var.set(info)
    function, convert = resolved
    result = function(**(convert(args) if convert is not None else args))
    if type(result) is CoroutineType:
        import asyncio  # noqa: PLC0415 - a third of the start-up time, and most functions are plain

        return asyncio.run(result)
    return result


@contextlib.contextmanager
def _surroundings_kept() -> Generator[None]:
    """Working directory and environment variables are afterwards what they were: the next call may be another task's.
    What modules set while they are imported, which happens once, was there before."""
    environ = os.environ
    variables, folder = dict(environ), _folder()
    try:
        yield
    finally:
        if dict(environ) != variables:
            for name in environ.keys() - variables.keys():
                del environ[name]
            environ.update(variables)
        if folder is not None and _folder() != folder:
            with contextlib.suppress(OSError):  # it was removed: the call may not be blamed, nor the next one
                os.chdir(folder)


def _folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - cheaper, and it runs around every call
    except OSError:  # removed
        return None


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed or replaced by user code
            stream.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
