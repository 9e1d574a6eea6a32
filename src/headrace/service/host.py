"""One process that serves a configuration: an engine, workflow files, changes, an orderly end.

**Start.** The workflow files are read before the engine takes anything over, so that interrupted runs find their code;
one that is broken is logged and keeps neither the node nor the others from starting: a node that crashed of a bad file
would crash again at every restart.

**Change.** On a signal, on a changed file, or when asked: the configuration is read again as a whole. With one mistake in
it nothing changes, the mistakes are logged and told in the status. What a running node cannot change is named, never
ignored.

**End.** Told once: nothing new starts, attempts under way get the drain time. Told twice: they are stopped. Told three
times: the process is gone. What had not ended goes on elsewhere, or here after the next start. A thread ends the process
if all this takes longer than it may.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.assembly import Headrace
from headrace.config.changes import Reloaded
from headrace.config.describe import entries
from headrace.config.load import Configuration
from headrace.config.settings import ServerSettings, Settings
from headrace.contracts.administration import Administration, Applied, ServedFile
from headrace.contracts.api.bounds import Role
from headrace.core.errors import HeadraceError
from headrace.service.catalog import ServedFiles
from headrace.service.notify import Notifier
from headrace.service.status import StatusFile
from headrace.service.watch import LOOK_SECONDS, Watch

if TYPE_CHECKING:
    from headrace.server.listener import Listener

logger = logging.getLogger("headrace.up")

STOP_GRACE_SECONDS = 20.0
"""What an orderly end may take beyond the drain time: stopping attempts, the last commits, giving runs up."""


class End(enum.Enum):
    """How a host ended."""

    DONE = "done"
    """As it was told to."""
    INTERRUPTED = "interrupted"
    """Told twice: attempts were stopped."""
    BROKEN = "broken"
    """The engine could not go on: the store was out of reach for longer than its patience."""


class Host:
    """``load`` reads the configuration anew (see :func:`headrace.config.load.load`); ``applied`` is called with the
    settings in force, at the start and after every change: the log is set up there. ``say`` is told ``ready`` and
    ``reloaded`` with details. ``exit_now`` ends the process at once. ``shares_port``: other nodes of this host listen at
    the same one."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        load: Callable[[], Configuration],
        applied: Callable[[Settings], None],
        notifier: Notifier,
        say: Callable[[dict[str, Any]], None] = lambda message: None,
        exit_now: Callable[[int], None] = os._exit,
        shares_port: bool = False,
    ) -> None:
        self._listener = _listener_of(configuration.settings, self, shares_port=shares_port)
        self.headrace = Headrace.configured(configuration.settings)
        self.configuration = configuration
        self.files = ServedFiles(self.headrace)
        self._load = load
        self._applied = applied
        self._notifier = notifier
        self._say = say
        self._exit_now = exit_now
        self._status = StatusFile(self.headrace.data_dir, self.headrace.node_id)
        self._started_at = time.time()
        self._secret = {path for path, given in configuration.given.items() if given.secret is not None}
        """Keys that were secrets at some time: what was in force then may be in force still."""
        self._last_reload: dict[str, Any] | None = None
        self._reloading = asyncio.Lock()
        self._reloads: set[asyncio.Task[bool]] = set()
        self._told = 0
        self._stop = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None
        self._interrupting: asyncio.Task[None] | None = None
        self._watch = Watch(())

    async def serve(self) -> End:
        """Serve until told to stop, or until the engine cannot go on. Raises what keeps it from starting."""
        with self._signals():
            await self.files.read(self.configuration.settings.workflows)
            async with self.headrace:
                await self.files.store()
                if self._listener is not None:
                    await self._listener.start(self.headrace)
                self._watch = Watch(self._watched())
                self._tell_ready()
                watching = asyncio.create_task(self._watch_files())
                try:
                    end = await self._until_told()
                finally:
                    watching.cancel()
                    await asyncio.gather(watching, *self._reloads, return_exceptions=True)
                    self._notifier.stopping()
                    if self._listener is not None:
                        await self._listener.stop()
                await self._close(end)
            self._status.remove()
        if end is End.DONE and self._interrupting is not None:
            return End.INTERRUPTED
        return end

    # ---- beginning and end -------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _signals(self) -> Any:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self.reload_soon)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def _tell_ready(self) -> None:
        settings = self.headrace.settings
        names = [name for served in self.files.served.values() for name in served.workflows]
        logger.info(
            "the node is up",
            extra={
                "node": self.headrace.node_id,
                "pid": os.getpid(),
                "store": self.headrace.store.url,
                "configuration": str(self.configuration.file) if self.configuration.file else "none",
                "slots": self.headrace.slots,
                "workflows": names,
            },
        )
        self._write_status()
        if self._status.problem:
            logger.warning("the status cannot be written", extra={"error": self._status.problem})
        self._notifier.ready(f"node {self.headrace.node_id} serves {self.headrace.store.url}")
        self._say({"said": "ready", "node": self.headrace.node_id, "drain": settings.node.drain})

    async def _until_told(self) -> End:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._stop.wait()
                return End.DONE
            broken = self.headrace.broken()
            if broken is not None:
                logger.error("the node cannot go on and ends", extra={"error": " ".join(str(broken).split())})
                return End.BROKEN

    def stop(self) -> None:
        """Stop in order; told again, stop attempts; told a third time, end at once. For signal handlers, and safe from
        the event loop at any time."""
        self._told += 1
        self._stop.set()
        if self._told == 2 and self._closing is not None:
            logger.warning("attempts under way are stopped", extra={"attempts": self.headrace.under_way})
            self._interrupting = asyncio.create_task(self.headrace.interrupt())
        elif self._told > 2:
            self._exit_now(130)  # what is durable stays so, whatever dies

    async def _close(self, end: End) -> None:
        drain = self.headrace.settings.node.drain if end is End.DONE else 0.0
        logger.info("the node stops", extra={"attempts": self.headrace.under_way, "drain_seconds": drain})
        bound = threading.Timer(drain + STOP_GRACE_SECONDS, self._exit_now, [1])
        bound.daemon = True
        bound.start()
        self._closing = asyncio.create_task(self.headrace.close(drain_seconds=drain))
        if self._told > 1 and self._interrupting is None:
            self._interrupting = asyncio.create_task(self.headrace.interrupt())
        try:
            await self._closing
            if self._interrupting is not None:
                await self._interrupting
        finally:
            bound.cancel()
        logger.info("the node has stopped", extra={"node": self.headrace.node_id})

    # ---- changes -----------------------------------------------------------------------------------------------------

    def reload_soon(self) -> None:
        """Read everything again, as the signal SIGHUP asks for."""
        task = asyncio.create_task(self.reload(all_again=True))
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def reload(self, *, all_again: bool = False) -> bool:
        """Read the configuration and the workflow files again, those too that have not changed if ``all_again``. False
        if the configuration was refused: everything stays as it was then, and the log says why."""
        try:
            await self._read_again(all_again)
        except HeadraceError:
            return False  # logged
        return True

    async def take_over(self) -> Applied:
        """See :class:`headrace.contracts.administration.Administration`. The nodes beside this one under a supervisor
        are told to do the same."""
        self._say({"said": "reload-others"})
        done = await self._read_again(True)
        return Applied(
            node=self.headrace.node_id,
            file=self._file,
            changed=done.changed,
            needs_restart=done.needs_restart,
            workflows=msgspec.convert(self.files.document(), tuple[ServedFile, ...]),
        )

    async def _read_again(self, all_again: bool) -> Reloaded:
        async with self._reloading:
            self._notifier.reloading()
            try:
                return await self._reload(all_again)
            except HeadraceError as error:
                last = self._last_reload
                if all_again or last is None or last["problem"] != str(error):  # else told already
                    logger.error(
                        "the new configuration was refused; the old one stays in force",
                        extra={"error": " ".join(str(error).split())},
                    )
                    self._note("refused", problem=str(error))
                raise
            finally:
                self._notifier.ready(f"node {self.headrace.node_id} serves {self.headrace.store.url}")
                self._say({"said": "reloaded", "drain": self.headrace.settings.node.drain})

    async def _reload(self, all_again: bool) -> Reloaded:
        new = await asyncio.to_thread(self._load)
        server = new.settings.server
        renewed: tuple[str, ...] = ()
        if self._listener is not None and server.listen is not None:  # to stop listening takes a restart
            renewed = self._listener.change(
                server.worker_tokens,
                lease_seconds=server.worker_lease,
                admin_tokens=server.admin_tokens,
                api_tokens=server.api_tokens,
                tokenless=tokenless_of(server),
                tls_certificate=server.tls_certificate,
                tls_key=server.tls_key,
            )
        done = await self.headrace.reload(new.settings)
        done = msgspec.structs.replace(done, changed=tuple(dict.fromkeys((*done.changed, *renewed))))
        self.configuration = new
        self._secret |= {path for path, given in new.given.items() if given.secret is not None}
        self._applied(done.in_force)
        read = await self.files.read(done.in_force.workflows, all_again=all_again)
        await self.files.store()
        before = self._last_reload or {"outcome": "applied", "needs_restart": []}
        is_news = list(done.needs_restart) != before["needs_restart"] or before["outcome"] != "applied"
        if not (all_again or done.changed or read or is_news):
            return done
        logger.info(
            "the configuration was read again",
            extra={"changed": list(done.changed), "workflow_files": [str(source.path) for source in read]},
        )
        if done.needs_restart:
            logger.warning("these changes need a restart", extra={"keys": list(done.needs_restart)})
        self._note("applied", done)
        return done

    def _note(self, outcome: str, done: Reloaded | None = None, problem: str | None = None) -> None:
        self._last_reload = {
            "at": time.time(),
            "outcome": outcome,
            "changed": list(done.changed) if done else [],
            "needs_restart": list(done.needs_restart) if done else [],
            "problem": problem,
        }
        self._write_status()

    def _write_status(self) -> None:
        self._status.write(self.status())

    @property
    def _file(self) -> str | None:
        return str(self.configuration.file.absolute()) if self.configuration.file else None

    def status(self) -> dict[str, Any]:
        """See :class:`headrace.contracts.administration.Administration`; the same is in the status file."""
        return {
            "node": self.headrace.node_id,
            "pid": os.getpid(),
            "started_at": self._started_at,
            "store": self.headrace.store.url,
            "file": self._file,
            "slots": self.headrace.slots,
            "settings": entries(self.configuration, self.headrace.settings, self._secret),
            "workflows": self.files.document(),
            "reload": self._last_reload,
        }

    def _watched(self) -> list[Path]:
        server = self.configuration.settings.server
        certificates = [Path(file) for file in (server.tls_certificate, server.tls_key) if file is not None]
        return [*self.configuration.watched, *certificates, *self.files.paths, *self._folders()]

    def _folders(self) -> list[Path]:
        """A file that is new changes its folder."""
        return [Path(pattern) for pattern in self.headrace.settings.workflows if Path(pattern).is_dir()] + sorted(
            {source.path.parent for source in self.files.served if not source.named}
        )

    async def _watch_files(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._watch.look(self._watched()):
                # The files may be others by then; that shows at the next looks, which find nothing else to do.
                await self.reload()


def tokenless_of(server: ServerSettings) -> Role | None:
    """What users of the API may do who have no token."""
    return None if server.api_open == "no" else Role(server.api_open)


def _listener_of(settings: Settings, administration: Administration, *, shares_port: bool) -> Listener | None:
    """What serves workers and administrators over HTTP, listening but not answering yet; None if that is not asked for.
    Raises :class:`HeadraceError`."""
    server = settings.server
    if server.listen is None:
        return None
    try:
        from headrace.server.listener import Listener  # noqa: PLC0415 - an extra, and only for nodes that serve
    except ImportError as error:
        raise HeadraceError(
            f"server.listen is set, and the package {error.name} is missing", hint="pip install 'headrace[server]'"
        ) from None
    return Listener(
        server.listen,
        server.worker_tokens,
        lease_seconds=server.worker_lease,
        admin_tokens=server.admin_tokens,
        api_tokens=server.api_tokens,
        tokenless=tokenless_of(server),
        administration=administration,
        tls_certificate=server.tls_certificate,
        tls_key=server.tls_key,
        shares_port=shares_port,
    )
