"""Executor ``process``: Python calls in warm child processes.

For code that may crash, hang, eat memory or hold the interpreter lock. A child is started on demand, kept for thousands
of calls, and killed with everything it started when its call is cancelled or times out; another takes its place. No
crash of a child reaches the engine. Functions are imported by name in the child, so they must live at the top level of
a module; arguments and results cross as plain values, exceptions as descriptions (see ``process_errors``).

Children die with the engine: by ``PR_SET_PDEATHSIG`` (which fires when the *thread* that runs the engine's loop ends),
by the end of their socket, and through the group guard.
"""

from __future__ import annotations

import asyncio
import os
import pickle
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec

from headrace.backends.executors import process_wire as wire
from headrace.backends.executors.process_errors import rebuild
from headrace.backends.executors.process_worker import ProcessWorker
from headrace.contracts import converters
from headrace.contracts.execution import Attempt, AttemptError, AttemptLog, CompletesLater
from headrace.contracts.outcome import message_of
from headrace.core.errors import EngineStopped

CALLS_PER_PROCESS_DEFAULT = 5_000
"""Calls after which a child is replaced, so that leaks in user code stay bounded."""

KILL_WAIT_SECONDS = 5.0
"""How long a cancelled call waits for its killed process to be gone; longer means the kernel cannot end it now."""


class ProcessExecutor:
    """A pool of at most ``processes_max`` children (default: one per core).

    ``memory_bytes_max`` bounds each child's address space (default: unbounded; Python itself needs about 200 MiB of
    it): an allocation past it raises ``MemoryError`` in the task. ``result_bytes_max`` bounds the JSON of one result.
    One event loop per instance at a time. Calls are safe to cancel: the child is gone before the error passes.
    """

    name: ClassVar[str] = "process"

    def __init__(
        self,
        processes_max: int | None = None,
        *,
        calls_per_process: int = CALLS_PER_PROCESS_DEFAULT,
        memory_bytes_max: int | None = None,
        result_bytes_max: int = wire.RESULT_BYTES_MAX_DEFAULT,
    ) -> None:
        self.processes_max = processes_max if processes_max is not None else os.cpu_count() or 1
        if self.processes_max < 1 or calls_per_process < 1:
            raise ValueError("processes_max and calls_per_process must be at least 1")
        if not 0 < result_bytes_max <= wire.FRAME_BYTES_MAX:
            raise ValueError(f"result_bytes_max must be between 1 and {wire.FRAME_BYTES_MAX:,}")
        self.calls_per_process = calls_per_process
        self.memory_bytes_max = memory_bytes_max
        self.result_bytes_max = result_bytes_max
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle: list[ProcessWorker] = []
        self._workers: set[ProcessWorker] = set()
        self._stale: set[ProcessWorker] = set()
        """Children that may hold old code; each ends after its call."""
        self._leaving: set[ProcessWorker] = set()
        """Children that were told to end and have not yet."""
        self._taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._stopped = False

    @property
    def pids(self) -> list[int]:
        """The children now alive."""
        return [worker.pid for worker in self._workers]

    async def start(self) -> None:
        """Bind to the running loop. Idempotent; children start with the first calls."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None and not self._loop.is_closed() and self._workers:
                raise RuntimeError("this ProcessExecutor is in use on another event loop; make one per loop")
            self._loop = loop
            self._idle, self._workers, self._taken = [], set(), 0
            self._waiting = deque()
        self._stopped = False

    def resize(self, processes_max: int) -> None:
        """Change the size of the pool. Calls that wait for more get a child at once; of too many children, each ends
        when its call has."""
        self.processes_max = processes_max
        while self._waiting and self._taken < processes_max:
            waiter = self._waiting.popleft()
            if not waiter.done():
                self._taken += 1
                waiter.set_result(None)
        while self._idle and self._serving() > processes_max:
            self._retire(self._idle.pop(0))

    def renew(self) -> None:
        """Replace the children, so that calls from now on see code that was changed; calls under way end in the old
        ones."""
        self._stale = set(self._workers)
        while self._idle:
            self._retire(self._idle.pop())

    async def stop(self) -> None:
        """Kill every child; calls under way end with :class:`EngineStopped`. Idempotent."""
        self._stopped = True
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        workers = list(self._workers)
        for worker in workers:
            worker.kill()
        if workers:
            await asyncio.gather(*(worker.wait(KILL_WAIT_SECONDS) for worker in workers))
        self._loop = None

    async def call(
        self, target: str, function: Callable[..., Any], args: dict[str, Any], attempt: Attempt, log: AttemptLog
    ) -> Any:
        """Call ``target`` in a child; ``function`` itself is not used. Arguments are converted to annotated types
        there. Failures of the process itself are :class:`AttemptError` of type ``crashed``."""
        if self._stopped:
            raise EngineStopped("the engine is stopping and takes no new work")
        if self._loop is not asyncio.get_running_loop():
            await self.start()
        body = self._encode(target, args, attempt)
        worker = await self._take()
        try:
            kind, answer = await worker.call(body, log, attempt)
        except asyncio.CancelledError:
            worker.kill()
            await worker.wait(KILL_WAIT_SECONDS)
            raise
        except AttemptError:
            if self._stopped:
                raise EngineStopped("the engine stopped while the task was running") from None
            raise
        finally:
            self._give_back(worker)
        if kind == wire.RESULT:
            return msgspec.json.decode(answer)
        if kind == wire.LATER:
            raise CompletesLater
        raise rebuild(wire.decode_failure(answer))

    @staticmethod
    def _encode(target: str, args: dict[str, Any], attempt: Attempt) -> bytes:
        fields = {
            "run_id": attempt.run_id,
            "workflow": attempt.workflow,
            "task": attempt.task,
            "attempt": attempt.attempt,
            "item": attempt.item,
            "timeout_seconds": attempt.timeout_seconds,
            "source_dir": attempt.source_dir,
            "heartbeat_details": attempt.heartbeat_details,
            "headers": attempt.headers,
        }
        try:
            has_locks = attempt.locker is not None
            body = pickle.dumps((target, attempt.source_dir, args, fields, converters.given(), has_locks), protocol=5)
        except Exception as error:  # noqa: BLE001, RUF100 - __reduce__ of whatever an embedding program passes
            raise AttemptError(
                "bad_argument",
                f"arguments of {target} cannot be sent to a process: {message_of(error)}",
                retryable=False,
            ) from None
        if len(body) > wire.FRAME_BYTES_MAX:
            raise AttemptError(
                "bad_argument",
                f"arguments of {target} are {len(body):,} bytes, at most {wire.FRAME_BYTES_MAX:,} can be sent to a "
                "process; pass a file's path instead",
                retryable=False,
            )
        return body

    # ---- the pool: a slot is taken first, then filled with an idle child or a new one ----

    async def _take(self) -> ProcessWorker:
        loop = asyncio.get_running_loop()
        if self._taken < self.processes_max and not self._waiting:
            self._taken += 1
        else:
            waiter: asyncio.Future[None] = loop.create_future()
            self._waiting.append(waiter)
            try:
                await waiter  # whoever frees a slot passes it on
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._free_slot()
                raise
        try:
            if self._stopped:
                raise EngineStopped("the engine is stopping and takes no new work")
            while self._idle:
                worker = self._idle.pop()  # the one used last: its caches are warm, the others may be swapped out
                if worker.alive:
                    return worker
            return await self._hire(loop)
        except BaseException:
            self._free_slot()
            raise

    async def _hire(self, loop: asyncio.AbstractEventLoop) -> ProcessWorker:
        try:
            worker = ProcessWorker(loop, self.result_bytes_max, self.memory_bytes_max or 0, self._forget)
        except OSError as error:
            raise AttemptError("crashed", f"a child process could not be started: {error}", retryable=True) from error
        self._workers.add(worker)
        try:
            await worker.connect()
        except BaseException:
            worker.kill()
            raise
        return worker

    def _give_back(self, worker: ProcessWorker) -> None:
        if worker in self._workers and worker.alive:
            done = worker.calls >= self.calls_per_process or self._stopped or worker in self._stale
            if done or self._serving() > self.processes_max:
                self._retire(worker)
            else:
                self._idle.append(worker)
        self._free_slot()

    def _retire(self, worker: ProcessWorker) -> None:
        self._leaving.add(worker)
        worker.retire()

    def _serving(self) -> int:
        """Children that have a call or wait for one."""
        if len(self._workers) <= self.processes_max:
            return len(self._workers)
        return sum(worker.alive and worker not in self._leaving for worker in self._workers)

    def _free_slot(self) -> None:
        while self._waiting and self._taken <= self.processes_max:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._taken -= 1

    def _forget(self, worker: ProcessWorker) -> None:
        self._workers.discard(worker)
        self._stale.discard(worker)
        self._leaving.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
