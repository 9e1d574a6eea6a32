"""Takes runs over: those of lost nodes, and those that were given up. Every node does, as far as it has room; which nodes
are lost, the leader finds out (:mod:`~headrace.engine.watchdog`).

A run that cannot be loaded or bound (its code is gone, its history is damaged) is given up again and remembered with the
reason; it never keeps others from being taken over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headrace.contracts.store import BACK_SECONDS
from headrace.core import inputs as inp
from headrace.core.codec import decode_event
from headrace.core.errors import Fenced, HeadraceError, InvalidCommand, NotFound, StoreCorrupt
from headrace.core.events import Event, Patched, RunCreated
from headrace.core.ids import Epoch, RunId
from headrace.core.run import Run, Unit
from headrace.durable.run import CodePlan, CodeRun
from headrace.engine import outcomes, payloads
from headrace.engine.arrivals import Arrival
from headrace.engine.live import Binding, LiveRun

if TYPE_CHECKING:
    from headrace.engine.node import Node

logger = logging.getLogger("headrace.adopter")

CLAIM_RUNS = 200
HISTORY_PAGE = 20_000
FOLD_SLICE = 500
"""Events folded between two turns of the engine's loop: some tens of milliseconds."""

WATCHES_PER_LEASE = 3
WATCH_SECONDS_MAX = 5.0
"""The longest between two looks, unless a node is told to poll less often. Who gives runs up, or finds a node lost, says
so: this is for word that was lost, and for timers of parked runs whose node is gone. While the broker is out of reach no
word comes, and a node looks as often as it polls."""
REFUSED_MAX = 10_000
REFUSED_TOLD_MAX = 100
"""Refused runs that a node's entry in the store tells of, the latest."""
REASON_CHARS_MAX = 500
TELL_SECONDS = 1.0
"""Between two writes of that entry."""

REFRESH_TRIES = 100


class Adopter:
    """One node's take-overs."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._rung = asyncio.Event()
        self.refused: dict[RunId, HeadraceError] = {}
        """Runs this node could not take over, with the reason."""
        self._claimed: dict[RunId, Epoch] = {}
        """Runs that were claimed and not taken over yet, with the epoch they were claimed under; released at the end of
        the round."""
        self._round = asyncio.Lock()
        self._untold = self._telling = False

    def wake(self) -> None:
        """Somebody gave runs up: look for them now."""
        self._rung.set()

    def refuse(self, run_id: RunId, error: HeadraceError) -> None:
        """Remember not to take this run over again, and let others read why. Other nodes may well have its code, so the
        run itself is left as it is."""
        if len(self.refused) < REFUSED_MAX:
            self.refused[run_id] = error
            self._tell()

    def accept(self, run_id: RunId) -> None:
        """A run that was refused goes on here: its code was mended."""
        if self.refused.pop(run_id, None) is not None:
            self._tell()

    def reconsider(self) -> None:
        """Code has changed: try what was refused again."""
        if self.refused:
            self.refused.clear()
            self._tell()
            self.wake()

    def told(self) -> dict[str, str]:
        """What the node's entry says of refused runs: the reasons by run."""
        latest = list(self.refused.items())[-REFUSED_TOLD_MAX:]
        return {run_id: _reason(error)[:REASON_CHARS_MAX] for run_id, error in latest}

    def _tell(self) -> None:
        self._untold = True
        if not self._telling and not self._node.stopping:
            self._telling = True
            self._node.spawn(self._tell_others(), "headrace-tell-refused")

    async def _tell_others(self) -> None:
        """One write for all that are refused within a while: there may be thousands. If it fails, the next one tells."""
        try:
            while self._untold:
                await asyncio.sleep(0)
                self._untold = False
                try:
                    await self._node.membership.describe()
                except HeadraceError as error:
                    logger.debug("nobody could be told of refused runs", extra={"error": str(error)})
                await asyncio.sleep(TELL_SECONDS)
        finally:
            self._telling = False

    async def watch(self) -> None:
        """Look for unowned runs, a few times per lease and when somebody says that there are any."""
        has_failed = False
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BACK_SECONDS if has_failed else self._pause()):
                    await self._rung.wait()
            self._rung.clear()
            has_failed = True
            try:
                await self.adopt_waiting()
                has_failed = False
            except HeadraceError as error:
                logger.warning("looking for lost runs failed", extra={"error": str(error)})

    def _pause(self) -> float:
        options = self._node.options
        seconds = options.poll_seconds
        if not self._node.waker.is_deaf:
            seconds = max(WATCH_SECONDS_MAX, seconds)
        return min(options.lease_seconds / WATCHES_PER_LEASE, seconds)

    async def adopt_waiting(self) -> int:
        """Take over what nobody owns. Returns the number of runs taken over. One round at a time: a
        round ends by giving up what it could not take over, which must not be what another one is just loading."""
        async with self._round:
            try:
                return await self._adopt_waiting()
            except Fenced:
                self._claimed.clear()  # nothing is ours any more
                raise

    async def _adopt_waiting(self) -> int:
        node = self._node
        if node.stopping:  # it starts nothing any more: what it took over now would only wait for its end
            return 0
        try:
            adopted = await self._adopt_unowned()
            for run_id in await node.store.waiting_runs():
                if run_id in self.refused:
                    continue
                epoch = node.epoch
                if await node.ownership.claim(1, [run_id]):
                    self._claimed[run_id] = epoch
                    adopted += await self.adopt(run_id, epoch) is not None
        finally:
            await self._release()
        return adopted

    async def _adopt_unowned(self) -> int:
        """Claim in batches until nothing is left. Refused runs are held meanwhile: released at once they would be all
        that is ever claimed."""
        node = self._node
        adopted = 0
        while len(node.live) < node.options.live_runs_max:
            epoch = node.epoch
            claimed = await node.ownership.claim(CLAIM_RUNS)
            if not claimed:
                break
            self._claimed.update(dict.fromkeys(claimed, epoch))
            for run_id in claimed:
                if run_id not in self.refused:
                    adopted += await self.adopt(run_id, epoch) is not None
        return adopted

    async def _release(self) -> None:
        """Give up what was claimed and not taken over. What was claimed under an epoch that is over is no longer held."""
        node = self._node
        epoch = node.epoch
        run_ids = [run_id for run_id, claimed_under in self._claimed.items() if claimed_under == epoch]
        self._claimed.clear()
        if run_ids:
            await node.ownership.give_back(run_ids, epoch)

    async def adopt(self, run_id: RunId, epoch: Epoch) -> LiveRun | None:
        """Load a run that was claimed under an epoch and go on with it; None if it cannot be done: it is refused then,
        and released at the end of the round. Raises retryable errors of the store, and :class:`Fenced`."""
        node = self._node
        try:
            live = await self.load(run_id, epoch)
            self.take_up(live)
        except Fenced:
            raise
        except Exception as error:
            if isinstance(error, HeadraceError) and error.retryable:
                raise  # the store is out of reach, which says nothing about the run
            known = isinstance(error, HeadraceError)
            exc_info = None if known else error
            logger.error("run %s cannot be taken over: %s", run_id, error, exc_info=exc_info, extra={"run_id": run_id})
            self.refuse(run_id, error if isinstance(error, HeadraceError) else StoreCorrupt(repr(error)))
            return None
        self._claimed.pop(run_id, None)
        node.counts.runs_adopted += 1
        await node.commander.apply_inbox([run_id])
        if live.run.done and not live.closed and not live.tickets:
            await self.give_up(live)
            return None
        return live

    async def give_up(self, live: LiveRun) -> None:
        """Release a run that has nothing to do."""
        await self._node.journal.drained()
        if live.run.done and not live.closed:
            await self._node.let_go(live)

    async def load(self, run_id: RunId, epoch: Epoch, *, bind: bool = True, blind: bool = False) -> LiveRun:
        """Fold the history of a run that was claimed under an epoch. With ``bind`` False the run can be decided on but
        nothing can be launched; with ``blind`` True a code workflow's history is only read. Raises :class:`Fenced` if the
        epoch is over by then: the run may be somebody else's, or this node's own a second time."""
        node = self._node
        binding: Binding | None = None

        def code_for(plan: Any, source_dir: str | None) -> Any:
            nonlocal binding
            if bind or (isinstance(plan, CodePlan) and not blind):  # code needs its function even to be cancelled
                binding = node.library.binding(plan.version, source_dir)
                return binding.code
            return None

        run = await read_run(node, run_id, code_for)
        arrivals: list[Arrival] = []
        try:
            if not run.done:  # what other nodes are doing, or have done: nothing is planned before that is known
                await node.dispatcher.lookout.recall(run_id)
                arrivals = await node.commander.arrivals(run)
        except BaseException:
            run.plan.brain.close(run)
            raise
        if not node.holds(epoch):
            run.plan.brain.close(run)
            raise Fenced(f"run {run_id} was claimed under epoch {epoch}, which is over")
        live = LiveRun(run, binding or Binding((), None))
        live.careful = True
        live.inert = binding is None
        node.live[run_id] = live
        if binding is not None:
            self.accept(run_id)
        node.teller.watch(live)
        node.commander.apply_arrivals(live, arrivals)
        return live

    async def replay(self, run_id: RunId) -> Run:
        """Any run with its code run to where its history ends, for looking only: nothing is claimed or changed."""
        node = self._node
        return await read_run(
            node, run_id, lambda plan, source_dir: node.library.binding(plan.version, source_dir).code
        )

    async def refresh(self, live: LiveRun) -> None:
        """Rebuild a code run in memory from its history: a query that was refused half-way may have changed it."""
        node = self._node
        for _ in range(REFRESH_TRIES):
            await node.journal.drained()
            again = await self.replay(live.run_id)
            if live.closed or again.seq == live.run.seq:
                break
        else:
            raise InvalidCommand(f"run {live.run_id} changes too quickly to be looked at; try again")
        if live.closed:
            return
        old, live.run = live.run, again
        again.values = old.values
        for key in [key for key in live.timers if isinstance(key, Unit)]:
            live.timers.pop(key).cancel()
        for ticket in live.tickets:
            before, unit = ticket.unit, again.unit(ticket.unit.node.id, ticket.unit.item)
            if unit is not None:
                unit.planned, unit.launched, ticket.unit = before.planned, before.launched, unit
        old.plan.brain.close(old)
        node.planner.plan(live, again.plan.brain.launchable(again))

    def take_up(self, live: LiveRun) -> None:
        """Judge what the former owner left, then go on."""
        if live.run.done:
            return
        if live.run.parent is not None:
            self._node.spawn(self._node.performer.check_parent(live), "headrace-check-parent")
        self._node.decider.feed(live, inp.Recovered(), then=lambda: self._go_on(live))

    def _go_on(self, live: LiveRun) -> None:
        if not live.closed and live.run.launching and not live.inert:
            self._node.planner.watch_deadlines(live)
            self._node.performer.perform(live, live.run.plan.brain.pending(live.run))
        elif not live.closed:
            self._node.parker.consider(live)


def _reason(error: HeadraceError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message


BindRun = Callable[[Any, str | None], Any]
"""Gives the code for a plan and a source folder."""


async def read_run(node: Node, run_id: RunId, code_for: BindRun | None = None) -> Run:
    """The folded state of any run in the store. Without ``code_for`` the history of a code workflow is only read: its
    code does not run. Raises :class:`NotFound` and :class:`StoreCorrupt`."""
    run: Run | None = None
    seq = 0
    while True:
        page = await node.store.history(run_id, after=seq, limit=HISTORY_PAGE)
        if run is None and page:
            run = await _begin(node, run_id, page, code_for)
        done = 0
        while done < len(page):
            assert run is not None
            done = _fold_some(run, page, done, seq)
            seq = page[done - 1][0] if done else seq
            if done < len(page):
                if isinstance(run, CodeRun) and _is_large(run, page[done][1]):
                    await _fold_large(node, run, decode_event(page[done][1]))
                    seq = page[done][0]
                    done += 1
                else:
                    await asyncio.sleep(0)
        if len(page) < HISTORY_PAGE:
            break
    if run is None:
        raise NotFound(f"there is no run {run_id}", hint="headrace runs list")
    run.fresh.clear()
    run.effects.clear()
    return run


def _fold_some(run: Run, page: list[tuple[int, bytes]], done: int, seq: int) -> int:
    """Fold a slice of a page, up to an event whose payload has to be fetched. Returns how much of the page is done."""
    fold, mark = run.plan.brain.fold, outcomes.MARK
    with run.plan.brain.folding(run):
        for number, data in page[done : done + FOLD_SLICE]:
            if number != seq + 1:
                raise StoreCorrupt(f"the history of run {run.run_id} has a gap before event {number}")
            if mark in data and _is_large(run, data):
                break
            fold(run, decode_event(data))
            seq = number
            done += 1
    return done


def _is_large(run: Run, data: bytes) -> bool:
    return outcomes.MARK in data and isinstance(run, CodeRun) and not run.blind


async def _fold_large(node: Node, run: CodeRun, event: Event) -> None:
    """Fold an event whose payload may be in the artifact store. If it cannot be read there, the code cannot go on: the
    run is suspended with the reason, and goes on when it is resumed after the store was mended."""
    try:
        restored = await payloads.restore(event, node.artifacts)
    except HeadraceError as error:
        if error.retryable:
            raise
        run.diverge(f"event {run.seq + 1}: a large value cannot be read: {error.message}")
        restored = event
    payloads.fold_restored(run, event, restored)


async def _begin(node: Node, run_id: RunId, page: list[tuple[int, bytes]], code_for: BindRun | None) -> Run:
    created = decode_event(page[0][1])
    if not isinstance(created, RunCreated):
        raise StoreCorrupt(f"the history of run {run_id} does not begin with run.created")
    plan = await node.library.fetch(created.version)
    code = None if code_for is None else code_for(plan, created.source_dir)
    run = plan.brain.new(plan, code)
    if isinstance(run, CodeRun) and code is not None:
        await _prepare(node, run_id, run, page)
    return run


async def _prepare(node: Node, run_id: RunId, run: CodeRun, page: list[tuple[int, bytes]]) -> None:
    """Tell a code run what its replay will hold: ``patched`` has to know before it gets there."""
    patches: set[str] = set()
    last = 0
    while page:
        for number, data in page:
            last = number
            if b'"patched"' in data:
                event = decode_event(data)
                if isinstance(event, Patched):
                    patches.add(event.patch)
        if len(page) < HISTORY_PAGE:
            break
        page = await node.store.history(run_id, after=last, limit=HISTORY_PAGE)
    run.prepare(last, patches)
