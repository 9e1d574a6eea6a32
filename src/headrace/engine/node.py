"""One engine process: it owns runs, decides what happens to them, records it, and acts on what is durable.

Everything here happens on the event loop's thread. The order is always the same: an input is decided by the pure core,
the events go to the journal, and only when they are durable is anything they allow released: launches to the planner,
replies to whoever waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import msgspec

from headrace.contracts.artifacts import ArtifactStore
from headrace.contracts.broker import Broker
from headrace.contracts.database import DATABASE
from headrace.contracts.locks import STORE, Locks
from headrace.contracts.ready import Outcome
from headrace.contracts.store import RunRow, Store
from headrace.core import events as ev
from headrace.core import inputs as inp
from headrace.core.brains import graph_plan
from headrace.core.codec import encode_event
from headrace.core.errors import (
    AlreadyRunning,
    EngineStopped,
    Fenced,
    HeadraceError,
    HistoryConflict,
    InvalidCommand,
    InvalidTransition,
    UpdateRejected,
)
from headrace.core.ids import Epoch, NodeId, RunId
from headrace.core.run import LostValue, Run, Unit
from headrace.core.states import RunState
from headrace.durable import following
from headrace.durable.run import CodeRun
from headrace.engine import payloads
from headrace.engine.adopter import Adopter
from headrace.engine.clock import NodeClock
from headrace.engine.commander import Commander
from headrace.engine.counts import Counts
from headrace.engine.dispatcher import Dispatcher
from headrace.engine.extras import NO_EXTRAS, RunExtras
from headrace.engine.gates import Ticket
from headrace.engine.holding import Holding
from headrace.engine.janitor import Janitor
from headrace.engine.journal import Journal, Release
from headrace.engine.keeper import Keeper
from headrace.engine.launcher import Launcher
from headrace.engine.leader import Leader
from headrace.engine.library import Binder, Library, PlanMaker
from headrace.engine.live import Binding, LiveRun
from headrace.engine.locker import GIVING_BACK, Locker
from headrace.engine.minting import new_node_id, new_run_id
from headrace.engine.options import GuestSupport, NodeOptions
from headrace.engine.outcomes import INLINE_BYTES_MAX, load_value
from headrace.engine.peers import describe
from headrace.engine.performer import TELLING, Performer
from headrace.engine.planner import Planner
from headrace.engine.puller import Puller
from headrace.engine.pulling import StoreSource
from headrace.engine.waker import Waker
from headrace.engine.watchdog import Watchdog

logger = logging.getLogger("headrace.node")

RESIGN_SECONDS_MAX = 2.0
"""How long a node that stops waits for its right to lead to be given back."""

PROGRESS_SECONDS = 1.0
"""How often a long run's row is refreshed with its progress; every change of state refreshes it at once."""


class Node:
    """The engine. ``locks``: who keeps the locks, the leader's among them (default: the store)."""

    def __init__(
        self,
        store: Store,
        artifacts: ArtifactStore,
        bind: Binder,
        options: NodeOptions | None = None,
        *,
        delete_logs: Callable[[str], None] | None = None,
        make_plan: PlanMaker = graph_plan,
        now: Callable[[], float] = time.time,
        broker: Broker | None = None,
        guests: GuestSupport | None = None,
        locks: Locks | None = None,
    ) -> None:
        self.options = options or NodeOptions()
        self.id = NodeId(self.options.node or new_node_id())
        self.store = store
        self.locks: Locks = locks if locks is not None else store
        self.artifacts = artifacts
        self.now = NodeClock(now)
        self.live: dict[RunId, LiveRun] = {}
        self.library = Library(store, bind, make_plan)
        self.locker = Locker(self, patience_seconds=lambda: self.options.patience_seconds)
        self.launcher = Launcher(self, artifacts, self.now, self.locker)
        self.launcher.may_begin = self._may_begin
        self.planner = Planner(self, self.launcher, self.options.slots, self.now, self.id)
        self.dispatcher = Dispatcher(self)
        self.planner.dispatcher = self.dispatcher
        self._guests = guests
        self.puller: Puller | None = None
        self.adopter = Adopter(self)
        self.commander = Commander(self)
        self.performer = Performer(self)
        self.holding = Holding(self.locks, self.options.lease_seconds)
        self.leader = Leader(
            self.holding,
            lambda: (self.id, self.epoch),
            authority=getattr(self.locks, "authority", STORE),
            on_change=self._leader_changed,
        )
        self.watchdog = Watchdog(self)
        self.janitor = Janitor(
            store,
            self.options.retention_seconds,
            delete_logs,
            term=self.leader.term,
            is_candidate=lambda: self.options.adopt,
            refused=self.leader.step_down,
        )
        self.waker = Waker(self, broker)
        self.journal: Journal
        self.epoch = Epoch(0)
        self.counts = Counts()
        self.broken: HeadraceError | None = None
        """Why the node can no longer work; None while it can."""
        self.stopping = False
        self._keeper: Keeper | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._rejoining = False
        self._joined = asyncio.Event()
        """Cleared while a node that lost its lease joins anew."""
        self._joined.set()

    # ---- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the store, take a lease, take over what nobody owns."""
        await self.store.open()
        await self.waker.start()
        self.locker.open()
        await self._join()
        self.spawn(self.commander.serve(), "headrace-commander")
        self.spawn(self.waker.serve(), "headrace-waker")
        self.spawn(self.dispatcher.serve(), "headrace-dispatcher")
        if self.options.adopt:
            await self.watchdog.try_look()
            await self.adopter.adopt_waiting()
            self.spawn(self.watchdog.serve(), "headrace-watchdog")
            self.spawn(self.adopter.watch(), "headrace-adopter")
        elif self.options.pull:
            self.waker.leader_wanted()  # it is to look after this one's claims
        self.spawn(self.janitor.serve(), "headrace-janitor")
        if self.options.pull and self._guests is not None:
            self._start_pulling(self._guests)

    def _start_pulling(self, guests: GuestSupport) -> None:
        """Carry out attempts of runs that others own."""
        self.puller = Puller(
            StoreSource(self),
            lambda puller: Launcher(puller, self.artifacts, self.now, self.locker),
            self.planner.gatekeeper,
            self.planner.gates_by_executor,
            guests.bind,
            guests.read_log,
            self.place,
            name=self.id,
            poll_seconds=self.options.poll_seconds,
        )
        self.puller.launcher.may_begin = self._may_begin
        self.planner.guest_launcher = self.puller.launcher
        puller = self.puller
        self.waker.on_queue = lambda _queue: puller.wake()
        self.waker.serve_queues(self.options.queues)
        self.spawn(puller.serve(), "headrace-puller")

    def launchers(self) -> list[Launcher]:
        """Who carries attempts out here: of own runs, and of others'."""
        return [self.launcher] if self.puller is None else [self.launcher, self.puller.launcher]

    def lock_freed(self, bell: str) -> None:
        """Whoever is next for a lock has this bell: another node, or a worker that asks here or there."""
        if bell == self.waker.bell:
            self.waker.on_lock()
        else:
            self.waker.ring(bell)

    def rung(self) -> None:
        """Somebody has something for this node: a message, or word on an attempt it carries out."""
        self.commander.wake()
        self.locker.wake()
        self.waker.on_lock()
        if self.puller is not None:
            self.puller.wake()

    @property
    def is_joined(self) -> bool:
        """Whether it holds its lease, as far as it knows."""
        return self._joined.is_set() and not self._rejoining

    def place(self) -> str:
        """The name of this node's data folder: who works in the same one finds logs and large values there."""
        return "" if self._guests is None else self._guests.place()

    def keep_log(self, run_id: RunId, outcome: Outcome) -> None:
        """Store what an attempt wrote elsewhere, as if it had been written here."""
        if self._guests is not None:
            self._guests.keep_log(run_id, outcome)

    async def _join(self) -> None:
        options = self.options
        pulls = options.pull and self._guests is not None
        info = {
            "version": 1,
            "broker": self.waker.broker.url,
            "adopt": options.adopt,
            **describe(options.queues, options.labels, options.slots, pulls=pulls),
        }
        if options.database_clock:
            asked_at = self.now.uncorrected()
            database_now = await self.store.now()
            self.now.follow(database_now, asked_at, self.now.uncorrected())
        begun = time.monotonic()
        self.epoch = await self.store.join(self.id, options.lease_seconds, self.waker.bell, info)
        self.journal = Journal(
            self.store,
            self.id,
            self.epoch,
            patience_seconds=self.options.patience_seconds,
            keep=self.artifacts.put,
        )
        self.journal.on_broken = self._journal_broke
        self._keeper = Keeper(
            self.store,
            self.id,
            self.epoch,
            self.options.lease_seconds,
            self._lease_lost,
            taken_at=begun,
            holding=self.holding,
        )
        self._keeper.start()

    async def stop(self, *, drain_seconds: float = 0.0) -> None:
        """Stop: start nothing new, give attempts under way ``drain_seconds`` to end, interrupt the rest, make
        everything durable that is known, give all runs up so that they can go on elsewhere. Idempotent."""
        if self.stopping:
            return
        self.stopping = True
        self._joined.set()
        self.planner.gatekeeper.open = False
        await self._resign()
        if self.puller is not None:
            await self.puller.stop(drain_seconds=drain_seconds, stop_seconds=self.options.stop_seconds)
        if drain_seconds > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(drain_seconds):
                    await self.launcher.idle()
        await self.launcher.stop_all(self.options.stop_seconds)
        self.launcher.close()
        self.locker.close()
        telling = [task for task in self._background if task.get_name() in (TELLING, GIVING_BACK)]
        if telling and self.broken is None:
            await asyncio.wait(telling, timeout=self.options.stop_seconds)
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.journal.stop()
        if self._keeper is not None:
            await self._keeper.stop()
        self.holding.lose_all("the engine stopped")
        given_up = list(self.live.values())
        for live in given_up:
            self.drop(live, EngineStopped("the engine stopped before the run had ended; it can be resumed"))
        with contextlib.suppress(HeadraceError):
            await self.store.leave(self.id, self.epoch)
            if given_up:
                self.waker.runs_unowned()
        self.performer.stop()
        await self.waker.stop()
        await self.store.close()

    async def _resign(self) -> None:
        """Let another node lead while this one drains."""
        try:
            async with asyncio.timeout(RESIGN_SECONDS_MAX):
                if await self.leader.resign():
                    self.waker.leader_wanted()
        except (TimeoutError, HeadraceError) as error:  # its right ends by itself
            logger.warning("the leader could not resign", extra={"error": str(error)})

    def _leader_changed(self) -> None:
        self.janitor.rouse()

    def reconfigure(
        self,
        *,
        slots: Mapping[str, int],
        patience_seconds: float,
        retention_seconds: float | None,
        live_runs_max: int,
    ) -> None:
        """Go by other options from now on. ``slots``: by executor; those that are not named keep theirs."""
        self.options = msgspec.structs.replace(
            self.options,
            slots={**self.options.slots, **slots},
            patience_seconds=patience_seconds,
            retention_seconds=retention_seconds,
            live_runs_max=live_runs_max,
        )
        self.journal.patience_seconds = patience_seconds
        self.janitor.keep_for(retention_seconds)
        self.planner.resize(slots)

    def abandon(self) -> None:
        """Fall silent as a process that dies does: nothing more is written, nothing is given up. For tests of what
        survives; the store must refuse this node's calls by then."""
        self.stopping = True
        self._joined.set()
        self.planner.gatekeeper.open = False
        error = EngineStopped("the engine died")
        for live in list(self.live.values()):
            self.drop(live, error)
        self.launcher.abandon()
        if self.puller is not None:
            self.puller.abandon()
        self.performer.stop()
        for task in list(self._background):
            task.cancel()
        self.holding.lose_all(str(error))
        self.journal.abandon(error)
        if self._keeper is not None:
            self._keeper.let_go()
        self.waker.fall_silent()

    def spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        """Run a duty in the background; its errors are logged, never lost."""
        task = asyncio.create_task(self._guard(coroutine, name), name=name)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        task.add_done_callback(lambda _: coroutine.close())  # one that is cancelled before it began was never awaited

    async def _guard(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        try:
            await coroutine
        except Exception:
            if not self.stopping:
                logger.exception("a background duty failed", extra={"duty": name})

    # ---- losing the right to write -----------------------------------------------------------------------------------

    def _lease_lost(self, why: str) -> None:
        self._fence(Fenced(f"node {self.id} no longer owns its runs: {why}"))

    def _may_begin(self) -> bool:
        """Whether user code may begin. A process that was suspended for longer than its lease has the answer to a commit
        before its eyes when it wakes up, and would begin what others have long done: it joins anew first."""
        if self._keeper is None or time.monotonic() < self._keeper.trusted_until:
            return True
        why = "the lease had not been renewed when an attempt was about to begin"
        asyncio.get_running_loop().call_soon(self._lease_lost, why)
        return False

    def _journal_broke(self, error: HeadraceError) -> None:
        if isinstance(error, Fenced | HistoryConflict):  # either way, what is in memory is not what is stored
            self._fence(error)
            return
        self.broken = error
        logger.error("the store cannot take what has to be recorded; the node stops", extra={"error": str(error)})
        self.planner.gatekeeper.open = False
        for live in list(self.live.values()):
            self.drop(live, error)

    def _fence(self, error: HeadraceError) -> None:
        """Another node may own our runs by now: stop everything at once, record nothing, then join anew."""
        if self._rejoining or self.stopping:
            return
        self._rejoining = True
        self._joined.clear()
        self.counts.fenced += 1
        self.holding.lose_all(f"node {self.id} lost its lease")
        logger.error("fenced", extra={"node": self.id, "epoch": self.epoch, "why": str(error)})
        for live in list(self.live.values()):
            self.drop(live, error)
        if self.puller is not None:
            self.puller.lose_everything()
        self.journal.abandon(error)
        self.spawn(self._rejoin(), "headrace-rejoin")

    async def _rejoin(self) -> None:
        old_keeper = self._keeper
        if old_keeper is not None:
            await old_keeper.stop()
        await self.launcher.stop_all(self.options.stop_seconds)
        delay = 0.1
        while True:
            try:
                await self._join()
                break
            except HeadraceError as failed:
                logger.warning("could not join again", extra={"error": str(failed)})
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5.0)
        self._rejoining = False
        self._joined.set()
        if self.options.adopt:
            await self.watchdog.try_look()
            await self.adopter.adopt_waiting()

    def holds(self, epoch: Epoch) -> bool:
        """Whether what was claimed under an epoch is still this node's, as far as it knows."""
        return epoch == self.epoch and self._joined.is_set()

    def leaving(self, run_id: RunId) -> LiveRun | None:
        """A run that this node gives up in a commit which it has not heard of yet: it has ended or is being parked."""
        live = self.live.get(run_id)
        return live if live is not None and live.run.done else self.performer.parking.get(run_id)

    async def let_go(self, live: LiveRun, error: HeadraceError | None = None) -> None:
        """Forget a run and give it up, after what it had handed in: a run that nobody owns must not be written to."""
        epoch = self.epoch
        self.drop(live, error)
        await self.journal.drained()
        if self.holds(epoch):
            await self.store.release(self.id, epoch, [live.run_id])

    def drop(self, live: LiveRun, error: HeadraceError | None = None) -> None:
        """Forget a run: this node no longer owns it. Attempts under way are interrupted, outcomes ignored."""
        if live.closed:
            return
        live.close(error)
        self.live.pop(live.run_id, None)
        self.performer.forget(
            live, error or EngineStopped("the engine let go of the run before the update was answered")
        )
        for ticket in live.tickets:
            ticket.stopping = True
        self.planner.retract(live)

    # ---- new runs ----------------------------------------------------------------------------------------------------

    async def create_run(
        self,
        version: str,
        params: dict[str, Any],
        *,
        tags: dict[str, str] | None = None,
        trigger: str = "manual",
        source_dir: str | None = None,
        run_id: RunId | None = None,
        parent: str | None = None,
        extras: RunExtras = NO_EXTRAS,
        wanted: Callable[[], bool] | None = None,
    ) -> LiveRun:
        """Create a run of a registered workflow version and own it. On return it is durable: it will reach a final
        state whatever happens to this process. ``wanted`` is asked after all waiting, just before the run begins: False
        raises :class:`Fenced`, as whoever wanted it may be somebody else's by then.

        Raises what binding raises, before anything is stored, and :class:`AlreadyRunning` if its key is held."""
        binding = self.library.binding(version, source_dir)
        await self._until_working()
        if not self.journal.has_room:
            await self.journal.room()
        at = self.now()
        event = ev.RunCreated(
            at,
            run_id or new_run_id(at),
            self.library.plan(version).spec.name,
            version,
            params,
            tags or {},
            trigger,
            source_dir=source_dir,
            parent=parent,
            signals=extras.signals,
            key=extras.key,
            attributes=extras.attributes,
            memo=extras.memo,
            headers=extras.headers,
        )
        if extras.key is None:
            return await self._create(event, binding, wanted)
        # Cancelled between the two, the key would stay reserved for a run that never comes.
        return await asyncio.shield(asyncio.ensure_future(self._create_keyed(event, binding, extras, wanted)))

    async def _create(
        self, event: ev.RunCreated, binding: Binding, wanted: Callable[[], bool] | None = None
    ) -> LiveRun:
        if wanted is not None and not wanted():
            raise Fenced(f"run {event.run_id} is no longer this node's to start")
        durable = asyncio.get_running_loop().create_future()
        live = self._begin_run(event, binding, durable)
        await durable
        return live

    async def _create_keyed(
        self, event: ev.RunCreated, binding: Binding, extras: RunExtras, wanted: Callable[[], bool] | None
    ) -> LiveRun:
        await self.reserve_key(event.workflow, event.key or "", RunId(event.run_id), extras.kept_by)
        self._check_working()
        return await self._create(event, binding, wanted)

    async def reserve_key(self, workflow: str, key: str, run_id: RunId, kept_by: tuple[str, ...] = ()) -> None:
        """Get a business key for a run that is about to be created or to go on. Raises :class:`AlreadyRunning`."""
        holder = await self.store.reserve_key(self.id, self.epoch, workflow, key, run_id, kept_by)
        if holder is not None:
            raise AlreadyRunning(workflow, key, holder.run_id, holder.state)

    def _begin_run(self, event: ev.RunCreated, binding: Binding, durable: asyncio.Future[None] | None) -> LiveRun:
        """Hand a new run to the journal; ``durable`` is told when it is safe."""
        plan = self.library.plan(event.version)
        run = plan.brain.new(plan, binding.code)
        run_id = RunId(event.run_id)
        events = plan.brain.create(run, event)
        live = LiveRun(run, binding)
        owed = self._take_effects(run)
        blobs: list[bytes] = []
        row = live.row()
        if isinstance(run, CodeRun):
            encoded, stored, blobs = payloads.encode(run, 1, events)
            row.params = getattr(stored[0], "params", row.params)
        else:
            encoded = [(run_id, number, encode_event(event)) for number, event in enumerate(events, 1)]
        self.record_run(live, row, encoded, blobs, owed, durable)
        return live

    def record_run(
        self,
        live: LiveRun,
        row: RunRow,
        encoded: list[tuple[RunId, int, bytes]],
        blobs: list[bytes],
        owed: list[Any] | None,
        durable: asyncio.Future[None] | None,
    ) -> None:
        """Hand a run that exists only in memory to the journal, with its whole history; it is this node's from then
        on. ``owed`` are its effects besides attempts."""
        run = live.run
        live.unsettled += 1

        def release(error: HeadraceError | None) -> None:
            live.unsettled -= 1
            if error is not None:
                live.close(error)
                if durable is not None and not durable.done():
                    durable.set_exception(error)
                return
            if durable is not None and not durable.done():
                durable.set_result(None)
            if run.done:
                self._close_finished(live)
            else:
                self.planner.take_up(live)
            if owed is not None:
                self.performer.perform(live, owed)
            else:
                self.performer.consider_parking(live)

        run.fresh.clear()
        run.stale = False
        self.live[live.run_id] = live
        row.owner = None if run.done else self.id
        try:
            self.journal.append(encoded, release, new_run=row, blobs=blobs)
        except HeadraceError as error:
            self.drop(live, error)
            raise
        if run.wanted:
            self._load_wanted(live)
        if run.done:
            self._begin_next(live)

    def _begin_next(self, live: LiveRun) -> None:
        """A run that is followed by another: the other begins in the same flush."""
        event = following.next_run(live.run) if isinstance(live.run, CodeRun) else None
        if event is not None:
            self._begin_run(event, live.binding, None)

    def _take_effects(self, run: Run) -> list[Any] | None:
        if not run.effects:
            return None
        owed, run.effects = run.effects, []
        return owed

    def _check_working(self) -> None:
        if self.broken is not None:
            raise self.broken
        if self.stopping:
            raise EngineStopped("the engine is stopping and takes no new work")

    async def _until_working(self) -> None:
        """Wait while a node that lost its lease joins anew: nothing of the request is stored yet, so it need not
        fail."""
        self._check_working()
        if not self._joined.is_set():
            try:
                async with asyncio.timeout(self.options.patience_seconds):
                    await self._joined.wait()
            except TimeoutError:
                raise Fenced(f"node {self.id} lost its lease and could not join again in time") from None
            self._check_working()

    # ---- inputs ------------------------------------------------------------------------------------------------------

    def feed(
        self,
        live: LiveRun,
        given: inp.Input,
        *,
        then: Callable[[], None] | None = None,
        inbox_id: int | None = None,
        outcome_done: str | None = None,
    ) -> None:
        """Decide one input and hand the events to the journal; ``then`` is called once they are durable, or when they
        never will be: the run is closed by then, with the error.

        Raises :class:`InvalidCommand` for a command that does not fit; nothing has happened then.
        """
        run = live.run
        before = run.state
        now = self.now()
        blobs: list[bytes] = []
        encoded = None if live.closed or live.parked else self._decide(live, given, now, blobs)
        if encoded is None:
            if then is not None:
                then()
            return
        if not encoded and inbox_id is None:
            if run.fresh:
                self._plan_fresh(live)
            if then is not None:
                then()
            self._load_wanted(live)
            return
        self.counts.messages_idle += not encoded
        fresh = None
        if run.fresh:
            fresh, run.fresh = run.fresh, []
        owed = self._take_effects(run) if run.effects else None
        changed = run.state is not before
        finished = changed and run.done
        update = None
        if changed or run.stale or now - live.progress_at > PROGRESS_SECONDS:
            run.stale = False
            live.progress_at = now
            update = live.update(release=finished)
        release = None
        if (
            fresh is not None
            or changed
            or owed is not None
            or then is not None
            or live.watchers
            or isinstance(given, inp.TaskTimedOut)
        ):
            release = self._releaser(live, given, before, fresh, owed, then)
        try:
            self.journal.append(
                encoded, release, update=update, inbox_id=inbox_id, blobs=blobs, outcome_done=outcome_done
            )
        except HeadraceError as error:
            self.drop(live, error)
            if then is not None:
                then()
            return
        if run.wanted:
            self._load_wanted(live)
        if finished:
            self._begin_next(live)

    def _decide(
        self, live: LiveRun, given: inp.Input, now: float, blobs: list[bytes]
    ) -> list[tuple[RunId, int, bytes]] | None:
        """The events that follow from an input, numbered and encoded; None if that is impossible: the run is dropped
        then. What they refer to is added to ``blobs``. Raises :class:`InvalidCommand`."""
        run, run_id = live.run, live.run_id
        first, before = run.seq + 1, run.state
        try:
            events = run.plan.brain.decide(run, given, now)
            if len(events) == 1:
                encoded = [(run_id, first, encode_event(events[0]))]
            else:
                encoded = [(run_id, number, encode_event(event)) for number, event in enumerate(events, first)]
            if isinstance(run, CodeRun) and any(len(data) > INLINE_BYTES_MAX for _, _, data in encoded):
                encoded, _, more = payloads.encode(run, first, events)
                blobs += more
        except (InvalidCommand, UpdateRejected):
            raise
        except Exception as error:
            self._poisoned(live, error)
            return None
        if (run.state is not before or type(given) is inp.Recovered) and run.launching:
            # What is owed follows from events up to here; whoever looks later would also see what is not durable yet.
            run.fresh.clear()
            run.fresh.extend(run.plan.brain.launchable(run))
        return encoded

    def _plan_fresh(self, live: LiveRun) -> None:
        fresh, live.run.fresh = live.run.fresh, []
        self.planner.plan(live, fresh)

    def _releaser(
        self,
        live: LiveRun,
        given: inp.Input,
        before: RunState,
        fresh: list[Unit] | None,
        owed: list[Any] | None,
        then: Callable[[], None] | None,
    ) -> Release:
        """What an input's events allow, once they are durable. If they never will be, the journal is broken, and
        :meth:`_journal_broke` drops every run."""
        changed = live.run.state is not before
        finished = changed and live.run.done
        sweep = changed or isinstance(given, inp.TaskTimedOut)
        consider = changed or isinstance(given, inp.Resume)
        live.unsettled += 1

        def release(error: HeadraceError | None) -> None:
            live.unsettled -= 1
            if error is None and not live.closed:
                if finished:
                    self._close_finished(live)
                else:
                    if sweep:
                        self._changed(live, before)
                    if fresh is not None:
                        self.planner.plan(live, fresh)
                    live.notify()
                if owed is not None:
                    self.performer.perform(live, owed)
                elif consider:
                    self.performer.consider_parking(live)
            if then is not None:
                then()

        return release

    def _changed(self, live: LiveRun, before: RunState) -> None:
        """The run's state changed durably: withdraw or take up what that means."""
        state = live.run.state
        if state is RunState.RUNNING and before is not RunState.RUNNING:
            self.planner.watch_deadlines(live)
        else:
            self.planner.retract(live)
        if before in (RunState.PAUSED, RunState.SUSPENDED):  # timers that came due meanwhile were not listened to
            self.performer.perform(live, live.run.plan.brain.pending(live.run))

    def _close_finished(self, live: LiveRun) -> None:
        live.done = True
        self.live.pop(live.run_id, None)
        if live.tickets:
            self.planner.retract(live)
        live.close()
        if live.run.parent is not None:
            self.performer.tell_parent(live)

    def _poisoned(self, live: LiveRun, cause: Exception) -> None:
        """A defect or a damaged history: this run stops here, all others go on."""
        logger.error("a run cannot go on", extra={"run_id": live.run_id}, exc_info=cause)
        error = cause if isinstance(cause, HeadraceError) else InvalidTransition(f"run {live.run_id}: {cause!r}")
        self.adopter.refuse(live.run_id, error)
        self.drop(live, error)
        self.spawn(self.let_go(live, error), "headrace-release")

    def outcome(self, ticket: Ticket, outcome: inp.Input | None) -> None:
        """An attempt is over (called by the launcher)."""
        self.planner.finished(ticket)
        live = ticket.live
        if outcome is None or live.closed:
            self.counts.late_outcomes += outcome is not None
            return
        kept = ticket.gates[-1].name == DATABASE and type(outcome) is inp.Succeeded
        self.feed(live, outcome, outcome_done=ticket.unit.name if kept else None)
        if live.timers and ticket.unit.done:
            self.planner.unwatch(live, ticket.unit)
        if not self.journal.has_room and self.planner.gatekeeper.open:
            self.planner.gatekeeper.open = False
            self.spawn(self._reopen(), "headrace-back-pressure")

    async def _reopen(self) -> None:
        await self.journal.room()
        if not self.stopping:
            self.planner.gatekeeper.reopen()

    def started(self, ticket: Ticket) -> None:
        """An attempt runs for long enough to be recorded (called by the launcher)."""
        ticket.recorded = True
        unit = ticket.unit
        self.feed(ticket.live, inp.Started(unit.node.id, unit.item, ticket.attempt, ticket.started_at, self.id))

    def heartbeat(self, ticket: Ticket, details: Any) -> None:
        """A long attempt said how far it is (called by the launcher)."""
        unit = ticket.unit
        if not ticket.live.closed:
            self.feed(ticket.live, inp.Heartbeat(unit.node.id, unit.item, ticket.attempt, details))

    def handed_over(self, ticket: Ticket) -> None:
        """An attempt will be completed from outside (called by the launcher): its slot is free from here on."""
        live, unit = ticket.live, ticket.unit
        if not live.closed:
            started = inp.Started(unit.node.id, unit.item, ticket.attempt, ticket.started_at, self.id, external=True)
            self.feed(live, started, then=lambda: self.planner.watch_external(live, unit))
        self.planner.finished(ticket)
        if not live.closed:
            self.performer.consider_parking(live)

    # ---- large values ------------------------------------------------------------------------------------------------

    def _load_wanted(self, live: LiveRun) -> None:
        if live.run.wanted:
            self.spawn(self._load(live, set(live.run.wanted)), "headrace-load-values")

    async def _load(self, live: LiveRun, digests: set[str]) -> None:
        for digest in digests:
            try:
                value = await asyncio.to_thread(load_value, self.artifacts, digest)
            except HeadraceError as error:
                value = LostValue(error.message)
            live.run.values[digest] = value
        self.feed(live, inp.ValuesLoaded())

    # ---- commands ----------------------------------------------------------------------------------------------------

    async def command(self, run_id: RunId, kind: str, payload: dict[str, Any]) -> None:
        """Apply a command, or bring it durably on its way to the run's owner.

        On return it is durable: applied here, or in the inbox of the owner, which is woken. Raises
        :class:`InvalidCommand` and :class:`NotFound`.
        """
        await self._until_working()
        given = self.commander.input_of(kind, payload)
        live = self.live.get(run_id)
        if live is not None and isinstance(live.run, CodeRun):
            given = await payloads.restore_input(given, self.artifacts)
            live = self.live.get(run_id)  # it may have been parked meanwhile
        if live is not None and live.run.done:
            await live.until_closed()  # it has ended, but that is not durable yet; another may follow it
            live = None
        if live is None:
            await self.commander.send(run_id, kind, payload)
            return
        durable = asyncio.get_running_loop().create_future()
        self.feed(
            live,
            given,
            then=lambda: None if durable.done() else durable.set_result(None),
        )
        await durable
        if live.closed and live.error is not None:
            raise live.error
