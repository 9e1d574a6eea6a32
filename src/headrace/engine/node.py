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
from headrace.contracts.locks import STORE, Locks
from headrace.contracts.ready import Outcome
from headrace.contracts.store import Store
from headrace.core.brains import graph_plan
from headrace.core.errors import (
    EngineStopped,
    Fenced,
    HeadraceError,
    HistoryConflict,
)
from headrace.core.ids import Epoch, NodeId, RunId
from headrace.durable.run import CodeRun
from headrace.engine import payloads
from headrace.engine.adopter import Adopter
from headrace.engine.awaited import Awaited
from headrace.engine.clock import NodeClock
from headrace.engine.commander import Commander
from headrace.engine.counts import Counts
from headrace.engine.decider import Decider
from headrace.engine.dispatcher import Dispatcher
from headrace.engine.holding import Holding
from headrace.engine.janitor import Janitor
from headrace.engine.journal import Journal
from headrace.engine.launcher import Launcher
from headrace.engine.leader import Leader
from headrace.engine.library import Binder, Library, PlanMaker
from headrace.engine.live import LiveRun
from headrace.engine.locker import GIVING_BACK, Locker
from headrace.engine.membership import Membership
from headrace.engine.minting import new_node_id
from headrace.engine.options import GuestSupport, NodeOptions
from headrace.engine.ownership import Ownership
from headrace.engine.parker import Parker
from headrace.engine.performer import TELLING, Performer
from headrace.engine.planner import Planner
from headrace.engine.puller import Puller
from headrace.engine.pulling import StoreSource
from headrace.engine.scheduler import Scheduler
from headrace.engine.starter import Starter
from headrace.engine.teller import Teller
from headrace.engine.updater import Updater
from headrace.engine.waker import Waker
from headrace.engine.watchdog import Watchdog
from headrace.engine.wisher import Wisher

logger = logging.getLogger("headrace.node")

RESIGN_SECONDS_MAX = 2.0
"""How long a node that stops waits for its right to lead to be given back."""


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
        self.membership = Membership(self)
        self.locker = Locker(self, patience_seconds=lambda: self.options.patience_seconds)
        self.starter = Starter(self)
        self.decider = Decider(self)
        self.launcher = Launcher(self.decider, artifacts, self.now, self.locker)
        self.launcher.may_begin = self.membership.may_begin
        self.planner = Planner(self.decider, self.launcher, self.options.slots, self.now, self.id)
        self.dispatcher = Dispatcher(self)
        self.planner.dispatcher = self.dispatcher
        self._guests = guests
        self.puller: Puller | None = None
        self.ownership = Ownership(self)
        self.adopter = Adopter(self)
        self.commander = Commander(self)
        self.performer = Performer(self)
        self.updater = Updater(self)
        self.parker = Parker(self)
        self.awaited = Awaited()
        self.teller = Teller(self)
        self.wisher = Wisher(self)
        self.holding = Holding(self.locks, self.options.lease_seconds)
        self.leader = Leader(
            self.holding,
            lambda: (self.id, self.epoch),
            authority=getattr(self.locks, "authority", STORE),
            on_change=self._leader_changed,
        )
        self.watchdog = Watchdog(self)
        self.scheduler = Scheduler(self)
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
        """This one and ``journal`` are the membership's to change."""
        self.counts = Counts()
        self.broken: HeadraceError | None = None
        """Why the node can no longer work; None while it can."""
        self.stopping = False
        self._background: set[asyncio.Task[None]] = set()
        self._stopped = asyncio.Event()

    # ---- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the store, take a lease, take over what nobody owns."""
        await self.store.open()
        await self.waker.start()
        self.locker.open()
        await self.membership.join()
        self.spawn(self.commander.serve(), "headrace-commander")
        self.spawn(self.waker.serve(), "headrace-waker")
        self.spawn(self.dispatcher.lookout.serve(), "headrace-dispatcher")
        self.spawn(self.teller.serve(), "headrace-teller")
        self.spawn(self.wisher.serve(), "headrace-wisher")
        if self.options.adopt:
            await self.watchdog.try_look()
            await self.adopter.adopt_waiting()
            self.spawn(self.watchdog.serve(), "headrace-watchdog")
            self.spawn(self.adopter.watch(), "headrace-adopter")
            self.spawn(self.scheduler.serve(), "headrace-scheduler")
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
            is_deaf=lambda: self.waker.is_deaf,
        )
        self.puller.launcher.may_begin = self.membership.may_begin
        if self.membership.keeper is not None:
            self.puller.launcher.lease = self.membership.keeper
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
        return self.membership.is_held and not self.membership.is_rejoining

    @property
    def pulls(self) -> bool:
        """Whether it carries out attempts of runs that others own."""
        return self.options.pull and self._guests is not None

    def place(self) -> str:
        """The name of this node's data folder: who works in the same one finds logs and large values there."""
        return "" if self._guests is None else self._guests.place()

    def keep_log(self, run_id: RunId, outcome: Outcome) -> None:
        """Store what an attempt wrote elsewhere, as if it had been written here."""
        if self._guests is not None:
            self._guests.keep_log(run_id, outcome)

    async def stop(self, *, drain_seconds: float = 0.0) -> None:
        """Stop: start nothing new, give attempts under way ``drain_seconds`` to end, interrupt the rest, make
        everything durable that is known, give all runs up so that they can go on elsewhere. Idempotent: whoever asks
        again waits for the same end, and the shorter patience counts. Nobody is told that it has stopped before."""
        if self.stopping:
            await self._stop_sooner(drain_seconds)
            return
        self.stopping = True
        try:
            await self._stop(drain_seconds)
        finally:
            self._stopped.set()

    async def _stop_sooner(self, drain_seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_seconds):
                await self._stopped.wait()
        if not self._stopped.is_set():
            await self.launcher.stop_all(self.options.stop_seconds)
            if self.puller is not None:
                await self.puller.interrupt(self.options.stop_seconds)
            await self._stopped.wait()

    async def _stop(self, drain_seconds: float) -> None:
        self.membership.give_up_waiting()
        self.wisher.give_up()
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
        await self.membership.stop()
        self.holding.lose_all("the engine stopped")
        given_up = list(self.live.values())
        for live in given_up:
            self.drop(live, EngineStopped("the engine stopped before the run had ended; it can be resumed"))
        await self.wisher.close()
        with contextlib.suppress(HeadraceError):
            await self.store.leave(self.id, self.epoch)
            if given_up:
                self.waker.runs_unowned()
        self.updater.stop()
        self.parker.stop()
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
        self.scheduler.wake()

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
        self._stopped.set()
        self.membership.give_up_waiting()
        self.planner.gatekeeper.open = False
        error = EngineStopped("the engine died")
        for live in list(self.live.values()):
            self.drop(live, error)
        self.launcher.abandon()
        if self.puller is not None:
            self.puller.abandon()
        self.updater.stop()
        self.parker.stop()
        for task in list(self._background):
            task.cancel()
        self.leader.fall_silent()
        self.holding.lose_all(str(error))
        self.journal.abandon(error)
        self.membership.fall_silent()
        self.waker.fall_silent()
        self.wisher.give_up()

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

    # ---- what goes wrong ---------------------------------------------------------------------------------------------

    def journal_broke(self, error: HeadraceError) -> None:
        if isinstance(error, Fenced | HistoryConflict):  # either way, what is in memory is not what is stored
            self.membership.fence(error)
            return
        self.broken = error
        logger.error("the store cannot take what has to be recorded; the node stops", extra={"error": str(error)})
        self.planner.gatekeeper.open = False
        for live in list(self.live.values()):
            self.drop(live, error)
        self.wisher.give_up()

    def fenced(self, error: HeadraceError) -> None:
        """Another node may own our runs by now: stop everything at once, record nothing."""
        for live in list(self.live.values()):
            self.drop(live, error)
        if self.puller is not None:
            self.puller.lose_everything()
        self.journal.abandon(error)

    def holds(self, epoch: Epoch) -> bool:
        """Whether what was claimed under an epoch is still this node's, as far as it knows."""
        return epoch == self.epoch and self.membership.is_held

    def leaving(self, run_id: RunId) -> LiveRun | None:
        """A run that this node gives up in a commit which it has not heard of yet: it has ended or is being parked."""
        live = self.live.get(run_id)
        return live if live is not None and live.run.done and live.unsettled else self.parker.parking.get(run_id)

    async def let_go(self, live: LiveRun, error: HeadraceError | None = None) -> None:
        """Forget a run and give it up, after what it had handed in: a run that nobody owns must not be written to."""
        epoch = self.epoch
        self.drop(live, error)
        await self.journal.drained()
        if self.holds(epoch):
            await self.ownership.give_back([live.run_id], epoch)

    def drop(self, live: LiveRun, error: HeadraceError | None = None) -> None:
        """Forget a run: this node no longer owns it. Attempts under way are interrupted, outcomes ignored."""
        if live.closed:
            return
        live.close(error)
        self.live.pop(live.run_id, None)
        self.teller.forget(live.run_id)
        self.updater.forget(live, error or EngineStopped("the engine let go of the run before the update was answered"))
        for ticket in live.tickets:
            ticket.stopping = True
        self.planner.retract(live)

    # ---- what callers wait for ---------------------------------------------------------------------------------------

    def check_working(self) -> None:
        """Raise why the node takes no new work, if it does not."""
        if self.broken is not None:
            raise self.broken
        if self.stopping:
            raise EngineStopped("the engine is stopping and takes no new work")

    async def until_working(self) -> None:
        """Wait while a node that lost its lease joins anew: nothing of the request is stored yet, so it need not
        fail."""
        self.check_working()
        if not self.membership.is_held:
            await self.membership.until_held()
            self.check_working()

    # ---- commands ----------------------------------------------------------------------------------------------------

    async def command(self, run_id: RunId, kind: str, payload: dict[str, Any]) -> None:
        """Apply a command, or bring it durably on its way to the run's owner.

        On return it is durable: applied here, or in the inbox of the owner, which is woken. Raises
        :class:`InvalidCommand` and :class:`NotFound`.
        """
        await self.until_working()
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
        self.decider.feed(
            live,
            given,
            then=lambda: None if durable.done() else durable.set_result(None),
        )
        await durable
        if live.closed and live.error is not None:
            raise live.error
