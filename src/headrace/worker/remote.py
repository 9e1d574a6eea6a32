"""A worker without database access: it has a server's address and a token, and carries out what the server gives it."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.backends.artifacts.files import FileArtifacts
from headrace.backends.artifacts.logs import FileLogs
from headrace.backends.executors.inline import InlineExecutor
from headrace.backends.executors.kinds import TaskKinds, load_task_kinds
from headrace.backends.executors.process import ProcessExecutor
from headrace.backends.executors.thread import ThreadExecutor
from headrace.contracts import remote as wire
from headrace.contracts.execution import Executor
from headrace.contracts.interceptor import Interceptor, Interceptors
from headrace.core.errors import ServerUnavailable
from headrace.core.ids import Epoch, NodeId
from headrace.core.spec import QUEUE_DEFAULT
from headrace.engine.gates import Gate, Gatekeeper, Ticket
from headrace.engine.holding import Holding
from headrace.engine.launcher import Launcher
from headrace.engine.locker import Locker
from headrace.engine.puller import Puller
from headrace.worker.guests import Guests
from headrace.worker.link import Link
from headrace.worker.locks import ServerLocks
from headrace.worker.source import ServerSource

logger = logging.getLogger("headrace.worker")

RETRY_SECONDS_MAX = 5.0
LOCK_PATIENCE_SECONDS = 60.0
"""How long the servers may be out of reach for whoever wants a lock."""
LOCK_ASK_SECONDS = 0.2
"""Between two questions of one that waits for a lock; the server waits for its turn before it answers."""
LOCK_SECONDS_FIRST = 15.0
"""How long a lock lasts without a renewal; the lease says so, once there is one."""

STOP_SECONDS = 10.0
"""How long attempts may take to stop, and outcomes to be sent, at the end."""


class RemoteWorker:
    """``servers``: addresses, one of which is used at a time. ``slots``: attempts at once by executor. ``source_dir``:
    where modules and scripts are, if the folder of the workflow's file does not exist here. ``data_dir``: for logs and
    work folders. ``trust``: the authorities that a server's certificate may be from; the public ones if None."""

    def __init__(
        self,
        servers: Sequence[str],
        token: str,
        *,
        trust: ssl.SSLContext | None = None,
        name: str | None = None,
        queues: Sequence[str] = (QUEUE_DEFAULT,),
        labels: Mapping[str, str] | None = None,
        slots: Mapping[str, int],
        data_dir: Path,
        source_dir: Path | None = None,
        env_allow: tuple[str, ...] = (),
        interceptors: Sequence[Interceptor] = (),
        abandoned_threads: int = 100,
        process_calls: int = 5_000,
        process_memory: int | None = None,
    ) -> None:
        self._link = Link(servers, token, trust)
        self.kinds: TaskKinds = load_task_kinds()
        self._executors: dict[str, Executor] = {
            "inline": InlineExecutor(),
            "thread": ThreadExecutor(slots["thread"], abandoned_max=abandoned_threads),
            "process": ProcessExecutor(
                slots["process"], calls_per_process=process_calls, memory_bytes_max=process_memory
            ),
        }
        self._gates = {name: Gate(name, count) for name, count in slots.items()}
        self._gatekeeper = Gatekeeper(self._admitted)
        logs = FileLogs(data_dir / "logs")
        guests = Guests(
            data_dir=data_dir,
            logs=logs,
            executors=self._executors,
            kinds=self.kinds,
            functions={},
            env_allow=env_allow,
            interceptors=Interceptors(interceptors),
            source_dir=None if source_dir is None else str(source_dir),
        )
        join = wire.Join(name=name, queues=tuple(queues), labels=dict(labels or {}), slots=dict(slots))
        self.holding = Holding(ServerLocks(self._link), LOCK_SECONDS_FIRST)
        self._locker = Locker(
            self,
            patience_seconds=lambda: LOCK_PATIENCE_SECONDS,
            ask_seconds=LOCK_ASK_SECONDS,
            wait_seconds=wire.LOCK_WAIT_SECONDS_MAX,
        )
        self._background: set[asyncio.Task[None]] = set()
        self._source = ServerSource(self._link, join, self.holding, woken=self._wake, lost=self._lost)
        artifacts = FileArtifacts(data_dir / "artifacts")
        self.puller = Puller(
            self._source,
            lambda puller: Launcher(puller, artifacts, time.time, self._locker),
            self._gatekeeper,
            lambda: self._gates,
            guests.bind,
            guests.read_log,
            lambda: "",  # nowhere: what its runs' owners have is never here
            name=name or "the worker",
            poll_seconds=1.0,
            retry_seconds_max=RETRY_SECONDS_MAX,
        )
        self.puller.launcher.may_begin = self._source.may_begin
        self._serving: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """What the servers call it; '' before it has joined."""
        return self._source.worker

    @property
    def server(self) -> str:
        """The server of the moment."""
        return self._link.url

    @property
    def guests(self) -> int:
        """Attempts under way."""
        return self.puller.busy

    async def start(self, waiting: Callable[[ServerUnavailable], None] = lambda _: None) -> None:
        """Join, as soon as a server answers, and begin to pull. ``waiting`` is told, once, that none does yet. Raises
        :class:`~headrace.core.errors.ServerError` for what trying again does not mend, a wrong token above all."""
        for executor in self._executors.values():
            await executor.start()
        self._locker.open()
        delay = 0.2
        told = False
        while True:
            try:
                await self._source.join()
                break
            except ServerUnavailable as error:
                logger.warning("no server answers yet; it is tried again", extra={"error": str(error)})
                if not told:
                    told = True
                    waiting(error)
            await asyncio.sleep(delay)
            delay = min(delay * 2, RETRY_SECONDS_MAX)
        self._serving = asyncio.create_task(self.puller.serve(), name="headrace-puller")

    async def interrupt(self, *, seconds: float = 2.0) -> None:
        """Interrupt what is under way, to be given back. Cuts short a :meth:`close` that waits for it."""
        await self.puller.interrupt(seconds)

    async def close(self, *, drain_seconds: float = 0.0) -> None:
        """Claim nothing more, give attempts under way ``drain_seconds``, give the rest back, leave. Idempotent."""
        self.puller.stopping = True
        if self._serving is not None:
            await self._source.stop_claiming()
            await self.puller.stop(drain_seconds=drain_seconds, stop_seconds=STOP_SECONDS)
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
            self._serving = None
        self._locker.close()
        if self._background:  # locks that are being given back
            await asyncio.wait(self._background, timeout=STOP_SECONDS)
        await self._source.leave()
        self.holding.lose_all("the worker stopped")
        await asyncio.gather(*(executor.stop() for executor in self._executors.values()))
        for kind in self.kinds.loaded():
            close = getattr(kind, "close", None)
            if close is not None:
                await close()
        await self._link.close()

    # For its locker, see :class:`headrace.engine.locker.Host`:

    @property
    def id(self) -> NodeId:
        """Its name."""
        return NodeId(self._source.worker)

    @property
    def epoch(self) -> Epoch:
        """That of its lease."""
        return self._source.epoch

    def holds(self, epoch: Epoch) -> bool:
        """Whether what was taken under an epoch is still its own."""
        return self._source.holds(epoch)

    def spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        """Run something in the background. It raises nothing."""
        task = asyncio.create_task(coroutine, name=name)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def launchers(self) -> list[Launcher]:
        """Who carries attempts out."""
        return [self.puller.launcher]

    def lock_freed(self, bell: str) -> None:
        """The server rings."""

    def _admitted(self, ticket: Ticket) -> None:
        self.puller.launcher.launch(ticket)

    def _wake(self) -> None:
        self.puller.wake()

    def _lost(self) -> None:
        self.puller.lose_everything()
        self.puller.wake()
