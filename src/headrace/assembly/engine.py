"""``Headrace``, the library's front door: an engine in your process, with the store you name."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from headrace.assembly.binder import Binder, make_plan
from headrace.assembly.defaults import data_dir_of, has_clock, is_shared, lease_seconds_of, part_of, slots_of
from headrace.backends.artifacts.files import FileArtifacts
from headrace.backends.artifacts.logs import FileLogs
from headrace.backends.brokers import open_broker
from headrace.backends.executors.database import DatabaseExecutor
from headrace.backends.executors.inline import InlineExecutor
from headrace.backends.executors.kinds import TaskKinds, load_task_kinds
from headrace.backends.executors.process import ProcessExecutor
from headrace.backends.executors.thread import ThreadExecutor
from headrace.backends.executors.workflow_task import WorkflowTask
from headrace.backends.keepers import open_locks
from headrace.backends.stores import open_store
from headrace.backends.stores.coded import CodedStore
from headrace.client.client import Client
from headrace.client.definitions import Definition, Workflow, WorkflowText
from headrace.client.handle import RunHandle
from headrace.config.changes import Reloaded, compare
from headrace.config.codecs import codecs_of
from headrace.config.interceptors import interceptors_of
from headrace.config.load import load as load_configuration
from headrace.config.settings import KEEPER_DEFAULT, STORE_DEFAULT, LimitSettings, NodeSettings, Settings, SlotSettings
from headrace.contracts.broker import Broker, BrokerHealth
from headrace.contracts.codec import PayloadCodec, Seal
from headrace.contracts.converters import Converter, register
from headrace.contracts.database import DATABASE
from headrace.contracts.execution import Attempt, AttemptError, Executor
from headrace.contracts.interceptor import Interceptor, Interceptors
from headrace.contracts.locks import Locks
from headrace.contracts.ready import QueueRow
from headrace.contracts.store import Store
from headrace.core.errors import InvalidCommand, RunCancelled, RunFailed
from headrace.core.ids import RunId
from headrace.core.spec import QUEUE_DEFAULT, AnySpec
from headrace.engine.counts import metrics_of
from headrace.engine.node import Node
from headrace.engine.options import GuestSupport, NodeOptions
from headrace.engine.replayer import suspend_misfits
from headrace.telemetry.metrics import Metric
from headrace.worker.guests import Guests

POLL_SECONDS = 2.0
_SLOTS = SlotSettings()
_LIMITS = LimitSettings()


class Headrace(Client):
    """An engine inside your program.

    ``async with Headrace("sqlite:///x.db") as hr: run = await hr.run(my_dag); await run.result()``

    ``store``: a store URL (or a :class:`Store`). ``workflows``: definitions whose functions cannot be imported by name
    (closures); give them so that interrupted runs can go on. ``adopt``: take over unfinished runs that nobody owns,
    among them those a crashed process left behind. ``execute``: False makes an engine that creates and commands runs
    but starts no tasks; another process carries them out. ``queues``: whose attempts this process carries out; attempts
    for others are offered to the nodes and workers that serve them. ``labels``: what tasks may ask for of the process
    that runs them. ``pull``: carry out attempts of other nodes' runs, too (default: if it adopts and executes and other
    processes can reach the store). ``source_dir``: where modules and scripts of others' attempts are looked for if the
    folder of their workflow's file does not exist here. ``threads``, ``processes``, ``shells``: attempts of each sort
    under way at once (default: four per core and at most 32; one per core; two per core and at least four).
    ``env_allow``: environment variables that shell tasks inherit beyond the usual few. ``inline``, ``http``: slots of
    coroutines and of HTTP requests. ``limits``: see :class:`~headrace.config.settings.LimitSettings`. ``data_dir``:
    folder for logs, large values and work folders (default: beside the database). ``lease_seconds``: default 60 on
    SQLite and in memory, 15 on a database server. ``node``, ``patience_seconds``, ``retention_seconds``: see
    :class:`~headrace.engine.options.NodeOptions`. ``codec``: what seals payloads on their way to the store and the
    artifacts, such as ``[Compression(), Encryption(keys)]``, in that order. ``converters``: for types of your own that
    arguments and results may have, for the whole process. ``now``: the clock, in seconds since the epoch.
    ``check_replay``: on entering, replay every run of workflow code that waits; those whose code no longer fits are
    suspended with the reason. ``interceptors``: user code around starts, messages, workflow code and attempts,
    outermost first; see :class:`~headrace.Interceptor`.
    ``broker``: what wakes nodes on other hosts, as a URL (``nats://``, ``redis://``, ``amqp://``; ``none``) or a
    :class:`~headrace.contracts.broker.Broker`; by default what the store offers (LISTEN and NOTIFY on PostgreSQL).
    ``keeper``: who keeps locks and elects the leader: ``store``, the URL of etcd (``etcd://host:2379``), or a
    :class:`~headrace.contracts.locks.Locks`.
    ``poll_seconds``: how often a node looks for messages whose wake-up was lost.

    :meth:`configured` makes one that goes by a configuration. One instance per event loop; entering starts the engine,
    leaving stops it: attempts under way get ``drain_seconds`` to end, the rest is interrupted and goes on at the next
    start.
    """

    def __init__(
        self,
        store: str | Store = STORE_DEFAULT,
        *,
        workflows: Iterable[Definition] = (),
        adopt: bool = True,
        execute: bool = True,
        queues: Iterable[str] = (QUEUE_DEFAULT,),
        labels: Mapping[str, str] | None = None,
        pull: bool | None = None,
        threads: int | None = None,
        processes: int | None = None,
        shells: int | None = None,
        inline: int = _SLOTS.inline,
        http: int = _SLOTS.http,
        limits: LimitSettings = _LIMITS,
        env_allow: tuple[str, ...] = (),
        source_dir: str | Path | None = None,
        data_dir: str | Path | None = None,
        node: str | None = None,
        lease_seconds: float | None = None,
        patience_seconds: float = 60.0,
        retention_seconds: float | None = None,
        drain_seconds: float = 0.0,
        codec: PayloadCodec | Sequence[PayloadCodec] | None = None,
        converters: Sequence[Converter] = (),
        now: Callable[[], float] = time.time,
        check_replay: bool = False,
        interceptors: Sequence[Interceptor] = (),
        broker: str | Broker | None = None,
        keeper: str | Locks = KEEPER_DEFAULT,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self.interceptors = Interceptors(interceptors)
        self.store = open_store(store) if isinstance(store, str) else store
        waking = broker if broker is not None and not isinstance(broker, str) else open_broker(broker, self.store)
        register(converters)
        seal = None
        if codec is not None:
            seal = Seal(list(codec) if isinstance(codec, Sequence) else [codec])
            self.store = cast("Store", CodedStore(self.store, seal))
        self._locks = open_locks(keeper, self.store) if isinstance(keeper, str) else keeper
        self._made_locks = isinstance(keeper, str) and self._locks is not self.store
        self.settings = Settings(
            store=store if isinstance(store, str) else self.store.url,
            broker=broker if isinstance(broker, str) else None,
            keeper=keeper if isinstance(keeper, str) else KEEPER_DEFAULT,
            data_dir=None if data_dir is None else str(data_dir),
            env_allow=env_allow,
            retention=retention_seconds,
            node=NodeSettings(name=node, lease=lease_seconds, patience=patience_seconds, drain=drain_seconds),
            slots=SlotSettings(threads=threads, processes=processes, shells=shells, inline=inline, http=http),
            limits=limits,
        )
        """What the engine goes by now; :meth:`reload` changes it."""
        self.drain_seconds = drain_seconds
        self._execute = execute
        self._check_replay = check_replay
        functions: dict[str, Callable[..., Any]] = {}
        for workflow in workflows:
            functions.update(getattr(workflow, "functions", {}))
        self._data_dir = Path(data_dir) if data_dir is not None else data_dir_of(self.store)
        self._logs = FileLogs(self._data_dir / "logs")
        self.kinds: TaskKinds = load_task_kinds()
        slots = slots_of(self.settings.slots)
        self._threads = ThreadExecutor(slots["thread"], abandoned_max=limits.abandoned_threads)
        self._processes = ProcessExecutor(
            slots["process"], calls_per_process=limits.process_calls, memory_bytes_max=limits.process_memory
        )
        self._executors: dict[str, Executor] = {
            "inline": InlineExecutor(),
            "thread": self._threads,
            "process": self._processes,
        }
        if hasattr(self.store, "transact"):
            waits: bool = getattr(self.store, "waits_in_transactions", False)
            self._executors[DATABASE] = DatabaseExecutor(self._transact, waits=waits)
        if pull is None:
            pull = adopt and execute and is_shared(self.store)
        options = NodeOptions(
            queues=tuple(queues),
            labels=dict(labels or {}),
            pull=pull and execute,
            node=node,
            lease_seconds=lease_seconds or lease_seconds_of(self.store),
            adopt=adopt,
            slots=slots,
            patience_seconds=patience_seconds,
            retention_seconds=retention_seconds,
            poll_seconds=poll_seconds,
            live_runs_max=limits.live_runs,
            database_clock=has_clock(self.store),
        )
        self.node_options = options
        artifacts = FileArtifacts(self._data_dir / "artifacts", seal)
        self._binder = Binder(
            serves=options.serves,
            data_dir=self._data_dir,
            logs=self._logs,
            executors=self._executors,
            kinds=self.kinds,
            functions=functions,
            env_allow=env_allow,
            interceptors=self.interceptors,
        )
        self._guests = Guests(
            data_dir=self._data_dir,
            logs=self._logs,
            executors=self._executors,
            kinds=self.kinds,
            functions=functions,
            env_allow=env_allow,
            interceptors=self.interceptors,
            source_dir=None if source_dir is None else str(source_dir),
        )
        engine = Node(
            self.store,
            artifacts,
            self._binder.bind,
            options,
            delete_logs=self._logs.delete_logs,
            make_plan=make_plan,
            now=now,
            broker=waking,
            guests=GuestSupport(self._guests.bind, self._guests.read_log, self._guests.keep_log, self._guests.place),
            locks=self._locks,
        )
        engine.library.give_functions = functions.update
        super().__init__(engine, self._load_source, self._logs, functions.update, self.interceptors)
        self.kinds.use(WorkflowTask(self._run_as_task))
        self.runs_awaited = 0
        """Attempts that only wait for runs of their own, see :class:`WorkflowTask`."""

    @classmethod
    def configured(cls, settings: Settings | None = None, **overrides: Any) -> Self:
        """An engine that goes by a configuration: by default the one of the working directory and the environment (see
        :func:`headrace.config.load.load`). ``overrides`` are arguments of the constructor and win. Workflow files that
        the configuration names are not loaded: see :meth:`register`. Raises :class:`InvalidConfiguration`."""
        if settings is None:
            settings = load_configuration().settings
        arguments: dict[str, Any] = {
            "store": settings.store,
            "threads": settings.slots.threads,
            "processes": settings.slots.processes,
            "shells": settings.slots.shells,
            "inline": settings.slots.inline,
            "http": settings.slots.http,
            "limits": settings.limits,
            "env_allow": settings.env_allow,
            "data_dir": settings.data_dir,
            "node": settings.node.name,
            "lease_seconds": settings.node.lease,
            "patience_seconds": settings.node.patience,
            "retention_seconds": settings.retention,
            "drain_seconds": settings.node.drain,
            "broker": settings.broker,
            "keeper": settings.keeper,
            "codec": codecs_of(settings),
            "interceptors": interceptors_of(settings),
            "labels": settings.node.labels,
            **part_of(settings.node),
        }
        made = cls(**{**arguments, **overrides})
        made.settings = settings
        return made

    async def reload(self, settings: Settings) -> Reloaded:
        """Go by other settings from now on, as far as an engine can while it runs; the rest is reported and stays as it
        was. More slots are used at once; with fewer, attempts under way end and nothing new starts until enough have.
        Safe to call at any time, on the engine's event loop."""
        done = compare(self.settings, settings)
        new = done.in_force
        self.settings = new
        slots = slots_of(new.slots)
        self._threads.resize(slots["thread"])
        self._processes.resize(slots["process"])
        self._node.reconfigure(
            slots=slots,
            patience_seconds=new.node.patience,
            retention_seconds=new.retention,
            live_runs_max=new.limits.live_runs,
        )
        self.drain_seconds = new.node.drain
        if self._binder.env_allow != new.env_allow:
            self._binder.env_allow = self._guests.env_allow = new.env_allow
            self._forget_bindings()
        return done

    def forget_code(self) -> None:
        """Look for the functions of workflows anew: runs that begin from now on see code that was changed. Runs in
        memory keep theirs, except for functions in processes."""
        self._forget_bindings()
        self._processes.renew()

    def _forget_bindings(self) -> None:
        self._node.library.forget_bindings()
        self._guests.forget_bindings()
        self._node.adopter.reconsider()

    async def __aenter__(self) -> Self:
        """Open the store and start the engine. Raises :class:`StoreError` with what is wrong and what to do."""
        for executor in self._executors.values():
            await executor.start()
        try:
            if not self._execute:
                self._node.planner.gatekeeper.open = False
            await self._node.start()
            if self._check_replay:
                await suspend_misfits(self._node)
        except BaseException:
            await self._node.waker.stop()
            await self._stop_executors()
            await self.close_keeper()
            await self.store.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the engine. Runs that have not ended stay in the store and go on at the next start."""
        await self.close()

    async def close(self, *, drain_seconds: float | None = None) -> None:
        """Stop the engine; idempotent. ``drain_seconds`` overrides the instance's."""
        drain = self.drain_seconds if drain_seconds is None else drain_seconds
        try:
            await self._node.stop(drain_seconds=drain)
        finally:
            await self._stop_executors()
            await self.close_keeper()

    async def interrupt(self, *, seconds: float = 2.0) -> None:
        """Stop the attempts under way, as a node that stops does: they are tried again when their runs go on. Cuts
        short a :meth:`close` that waits for them. Attempts that do not stop within ``seconds`` are left behind."""
        await self._node.launcher.stop_all(seconds)
        if self._node.puller is not None:
            await self._node.puller.interrupt(seconds)

    @property
    def under_way(self) -> int:
        """Attempts that this engine is carrying out now."""
        return self._node.launcher.running + self.guests

    @property
    def runs_in_memory(self) -> int:
        """Unfinished runs that this engine holds; those that only wait leave its memory after a while, once the store has
        taken note of it."""
        return len(self._node.live) + len(self._node.parker.parking)

    @property
    def broker_health(self) -> BrokerHealth:
        """Whether wake-ups from other hosts come at once."""
        return self._node.waker.broker.health()

    @property
    def node_id(self) -> str:
        """This engine's name among the nodes."""
        return self._node.id

    @property
    def slots(self) -> dict[str, int]:
        """Attempts that may be under way at once, by executor."""
        return {name: number for name, number in self._node.options.slots.items() if name != DATABASE}

    @property
    def data_dir(self) -> Path:
        """The folder of logs, large values and work folders; it may not exist yet."""
        return self._data_dir

    async def read(self, workflow: Workflow) -> AnySpec:
        """The definition in a file or of a stored name, without looking for its functions. Raises like
        :meth:`check`."""
        return (await self._definitions.find(workflow)).spec

    async def queues(self) -> list[QueueRow]:
        """What waits and what is claimed in each queue."""
        return await self.store.queues()

    def metrics(self) -> list[Metric]:
        """What can be measured of this engine now: see :mod:`headrace.telemetry.metrics`. On the engine's event loop."""
        return metrics_of(self._node)

    @property
    def guests(self) -> int:
        """Attempts of other nodes' runs under way here."""
        return self._node.puller.busy if self._node.puller is not None else 0

    def check_working(self) -> None:
        """Raise what keeps the engine from working, if anything does."""
        if self._node.broken is not None:
            raise self._node.broken

    async def delete_runs(self, older_than_seconds: float) -> int:
        """Delete the runs that ended longer ago than that, with their histories and logs. Returns their number."""
        total = 0
        while deleted := await self._node.janitor.clean(older_than_seconds):
            total += deleted
        return total

    async def close_keeper(self) -> None:
        """Let go of who keeps the locks, unless that is the store, which its node closes, or the caller's. Idempotent."""
        if self._made_locks:
            await cast("Any", self._locks).close()

    async def _stop_executors(self) -> None:
        await asyncio.gather(*(executor.stop() for executor in self._executors.values()))
        for kind in self.kinds.loaded():
            close = getattr(kind, "close", None)
            if close is not None:
                await close()

    async def _transact(self, run_id: str, task: str, work: Callable[[Any], Any]) -> bytes:
        store: Any = self.store
        return await store.transact(self._node.id, self._node.epoch, RunId(run_id), task, work)

    async def _run_as_task(self, definition: Any, attempt: Attempt) -> Any:
        """A run that is a task of a graph. It ends with its attempt, unless this process only stops."""
        tags = {**attempt.run_tags, "graph-run": attempt.run_id, "graph-task": attempt.task}
        run = await self.run_as_task(definition, attempt.args, attempt=attempt.key, tags=tags)
        self.runs_awaited += 1
        try:
            with self._node.awaited.waiting(attempt.key) as told:
                if await self._is_told(run, attempt):
                    run = run.told_by(told, self._node.options.child_check_seconds)
                return await run.result()
        except (RunFailed, RunCancelled) as error:
            raise AttemptError("run_failed", str(error)) from None
        except asyncio.CancelledError:
            if not self._node.stopping:
                with contextlib.suppress(InvalidCommand):
                    await self.cancel(run.id, f"task {attempt.task} of run {attempt.run_id} was stopped")
            raise
        finally:
            self.runs_awaited -= 1

    async def _is_told(self, run: RunHandle, attempt: Attempt) -> bool:
        """Whether the end of a run is told to this attempt: not to one that is carried out for another node, nor if the
        run comes from a version that named no parents."""
        if self._node.live.get(RunId(attempt.run_id)) is None:
            return False
        live = self._node.live.get(run.id)
        row = live.run if live is not None else await self.stored_row(run.id)
        return row is not None and row.parent == attempt.key

    def _load_source(self, source: str | WorkflowText) -> Any:
        if isinstance(source, WorkflowText):
            from headrace.authoring.yaml.load import load_yaml  # noqa: PLC0415

            return load_yaml(source.text, kinds=self.kinds, name=source.name)
        from headrace.authoring.sources import load  # noqa: PLC0415 - YAML is loaded when a file is read

        return load(source, kinds=self.kinds)
