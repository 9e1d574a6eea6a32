"""Pulls attempts that others have on offer, and carries them out beside (or without) runs of its own.

The same puller serves a node, a worker with database access and a remote worker: they differ in their
:class:`AttemptSource`. It claims when it is rung, when an attempt has ended and, as a safety net, every few seconds;
never more than it has free slots for. Outcomes are sent in batches and tried again until the source takes or refuses
them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Literal, Protocol, cast

import msgspec

from headrace.contracts.outcome import failure_of
from headrace.contracts.ready import Beat, Call, Claim, Outcome, Result
from headrace.contracts.store import BACK_SECONDS
from headrace.core import inputs as inp
from headrace.core.errors import Fenced, HeadraceError
from headrace.core.events import Failure
from headrace.core.plan import PlanNode
from headrace.core.run import Run, Unit, reference_of
from headrace.core.states import TaskState
from headrace.engine.gates import Gate, Gatekeeper, Ticket
from headrace.engine.launcher import Launcher
from headrace.engine.live import Binding, LiveRun

logger = logging.getLogger("headrace.puller")

OUTCOMES_PER_CALL = 200
OUTPUT_BYTES_MAX = 16 * 1024 * 1024
"""The largest output that travels to the owner of its run; larger ones need the owner's data folder."""

IDLE_POLLS = 4
"""How often ``poll_seconds`` pass between two looks when nothing comes, unless wake-ups cannot come: owners ring again
for what nobody claims."""

ANY_EXECUTOR = ""
"""Attempts whose owner does not know which slots they will take here: they may wait for one."""
ANY_CLAIMS_MAX = 4


class AttemptSource(Protocol):
    """Where attempts come from: the store of this node, or a server over HTTP. Raises :class:`Fenced` when this claimer
    has lost everything it had."""

    async def claim(self, room: Mapping[str, int]) -> list[Claim]:
        """Take attempts, at most so many of each executor. May wait for some to come."""
        ...

    async def report(self, beats: Sequence[Beat]) -> dict[str, Literal["stop", "lost"]]:
        """See :meth:`headrace.contracts.ready.Ready.report`."""
        ...

    async def complete(self, results: Sequence[Result]) -> int:
        """Bring outcomes home; how many were refused."""
        ...

    async def give_back(self, claims: Sequence[Beat]) -> None:
        """See :meth:`headrace.contracts.ready.Ready.give_back`."""
        ...


class GuestRun(Run):
    """As much of somebody else's run as an attempt needs."""

    __slots__ = ("keeps",)

    def __init__(self, call: Call, *, keeps_references: bool) -> None:
        super().__init__(SimpleNamespace(spec=SimpleNamespace(name=call.workflow)))
        self.run_id = call.run_id
        self.tags = call.run_tags
        self.headers = call.headers
        self.source_dir = call.source_dir
        self.keeps = keeps_references

    @property
    def keeps_references(self) -> bool:  # type: ignore[override]
        """Only beside its owner, who finds there what they refer to."""
        return self.keeps

    def scope_for(self, unit: Unit) -> dict[str, Any]:
        """Nothing: a call comes rendered."""
        return {}


class Guest:
    """One claimed attempt under way, in the place of a :class:`LiveRun`."""

    __slots__ = ("at_most_once", "beat", "binding", "call", "claim", "closed", "is_home", "run", "run_id")

    def __init__(self, claim: Claim, call: Call, binding: Binding, *, is_home: bool) -> None:
        self.claim = claim
        self.call = call
        self.binding = binding
        self.run = GuestRun(call, keeps_references=is_home)
        self.run_id = call.run_id
        self.is_home = is_home
        """It works in the folder of its run's owner: logs and large outputs are there already."""
        self.closed = False
        self.at_most_once = call.task.at_most_once
        self.beat: bytes | None = None


BindCall = Callable[[Call], Binding]
"""Binds the task of a call. Raises ``InvalidDefinition`` and ``UserCodeError``."""

ReadLog = Callable[[Call], str]
"""What the attempt wrote, as far as it is kept."""


class Puller:
    """One process's guests. ``gate`` gives an executor's gate; ``place`` names its data folder. ``retry_seconds_max``:
    the longest pause between two tries while the source is out of reach. ``is_deaf``: whether wake-ups cannot come."""

    def __init__(
        self,
        source: AttemptSource,
        launcher_of: Callable[[Any], Launcher],
        gatekeeper: Gatekeeper,
        gates: Callable[[], Mapping[str, Gate]],
        bind: BindCall,
        read_log: ReadLog,
        place: Callable[[], str],
        *,
        name: str,
        poll_seconds: float = 2.0,
        retry_seconds_max: float = BACK_SECONDS,
        is_deaf: Callable[[], bool] = lambda: False,
    ) -> None:
        self._source = source
        self.launcher = launcher_of(self)
        self._gatekeeper = gatekeeper
        self._gates = gates
        self._bind = bind
        self._read_log = read_log
        self._place = place
        self._name = name
        self._poll = poll_seconds
        self._retry_max = retry_seconds_max
        self._is_deaf = is_deaf
        self._rung = asyncio.Event()
        self._guests: dict[str, Ticket] = {}
        self._results: list[Result] = []
        self._given_back: list[Beat] = []
        self._sending: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self.stopping = False
        self.refused = 0
        """Outcomes that nobody wanted any more: the claim was lost, or the run has ended."""
        self.done = 0
        """Attempts that came to an end here."""

    @property
    def busy(self) -> int:
        """Attempts under way."""
        return len(self._guests)

    def wake(self) -> None:
        """There may be something to claim, or to stop."""
        self._rung.set()

    # ---- claiming ------------------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Pull until cancelled."""
        delay, pause = 0.0, self._poll
        while True:
            before = self.done + self.busy
            try:
                full = await self._claim()
                if self._guests:
                    await self._report()
                delay = 0.0
            except Fenced:
                self.lose_everything()
                full, delay = False, min(max(0.1, delay * 2), self._retry_max)
            except HeadraceError as error:
                logger.warning("attempts could not be pulled", extra={"error": str(error)})
                full, delay = False, min(max(0.1, delay * 2), self._retry_max)
            if delay:
                await asyncio.sleep(delay)
            elif not full:
                if self._guests or self.done + self.busy > before:
                    pause = self._poll
                try:
                    async with asyncio.timeout(pause):
                        await self._rung.wait()
                    pause = self._poll
                except TimeoutError:
                    pause = self._poll if self._is_deaf() else min(2 * pause, IDLE_POLLS * self._poll)
            self._rung.clear()

    def _free(self) -> dict[str, int]:
        room = {
            name: gate.slots - gate.inside
            for name, gate in self._gates().items()
            if gate.slots is not None and not gate.waiting and not gate.away and gate.slots > gate.inside
        }
        if room and len(self._guests) < ANY_CLAIMS_MAX:
            room[ANY_EXECUTOR] = ANY_CLAIMS_MAX - len(self._guests)
        return room

    async def _claim(self) -> bool:
        """Fill the free slots; whether everything that was asked for came, so that there may be more."""
        if self.stopping or not self._gatekeeper.open:
            return False
        room = self._free()
        if not room:
            return False
        gates = self._gates()
        for name, slots in room.items():
            if name:
                gates[name].inside += slots  # kept free until the answer is there
        try:
            claims = await self._source.claim(room)
        finally:
            for name, slots in room.items():
                if name:
                    self._gatekeeper.free(gates[name], slots)
        for claim in claims:
            self._begin(claim)
        return len(claims) > 0 and any(
            sum(claim.executor == name for claim in claims) >= slots for name, slots in room.items() if name
        )

    def _begin(self, claim: Claim) -> None:
        try:
            call = msgspec.json.decode(claim.call, type=Call)
            binding = self._bind(call)
        except Exception as error:  # user code is imported here: anything may come
            self._unfit(claim, error)
            return
        guest = Guest(claim, call, binding, is_home=call.place != "" and call.place == self._place())
        node = PlanNode(0, call.task)
        node.has_constant_call = True
        unit = Unit(node, call.item, TaskState.READY, call.attempt - 1)
        unit.details = call.details if claim.details is None else msgspec.json.decode(claim.details)
        gates = self._gates()
        gate = gates.get(binding.bound[0].executor)
        if gate is None:
            self._unfit(claim, HeadraceError(f"{self._name} has no executor {binding.bound[0].executor!r}"))
            return
        ticket = Ticket(cast("LiveRun", guest), unit, (gate,), call.attempt, guest=True)
        self._guests[claim.key] = ticket
        self._idle.clear()
        self._gatekeeper.enter(ticket)

    def _unfit(self, claim: Claim, error: Exception) -> None:
        """It cannot be carried out here at all: its owner has to know why."""
        call = msgspec.json.decode(claim.call, type=dict[str, Any])
        failure = msgspec.structs.replace(failure_of(error), type="unfit", retryable=False)
        failure = msgspec.structs.replace(failure, message=f"{self._name} cannot run the task: {failure.message}")
        outcome = Outcome(
            kind="unfit",
            task=call.get("task", {}).get("id", ""),
            attempt=call.get("attempt", 0),
            item=call.get("item"),
            failure=failure,
            worker=self._name,
        )
        logger.warning("an attempt cannot be carried out here", extra={"key": claim.key, "error": failure.message})
        self._send(None, claim, outcome)

    # ---- under way -----------------------------------------------------------------------------------------------------

    async def _report(self) -> None:
        beats: list[Beat] = []
        for ticket in self._guests.values():
            claim = _guest(ticket).claim
            news = ticket.details if ticket.details is not ticket.details_told else None
            ticket.details_told = ticket.details
            beats.append(Beat(claim.key, claim.delivery, news))
        for key, verdict in (await self._source.report(beats)).items():
            ticket = self._guests.get(key)
            if ticket is None:
                continue
            if verdict == "lost":
                _guest(ticket).closed = True
            ticket.cancelled = True
            self.launcher.stop(ticket)

    def lose_everything(self) -> None:
        """The lease is gone, and every claim with it."""
        for ticket in list(self._guests.values()):
            _guest(ticket).closed = True
            ticket.cancelled = True
            self.launcher.stop(ticket)

    # The launcher's reporter:

    def started(self, ticket: Ticket) -> None:
        """The owner sees that from the claim."""
        ticket.recorded = False

    def heartbeat(self, ticket: Ticket, details: Any) -> None:
        """Sent with the next report: see there."""
        ticket.details_told = None
        self.wake()

    def handed_over(self, ticket: Ticket) -> None:
        """Its outcome will be told from outside."""
        unit = ticket.unit
        self._end(
            ticket,
            Outcome(
                kind="external",
                task=unit.node.id,
                item=unit.item,
                attempt=ticket.attempt,
                started_at=ticket.started_at,
                worker=self._name,
            ),
        )

    def outcome(self, ticket: Ticket, outcome: inp.Input | None) -> None:
        """An attempt is over; None when it was stopped with this process."""
        guest = _guest(ticket)
        if outcome is None and not guest.at_most_once:
            self._leave(ticket)
            self._given_back.append(Beat(guest.claim.key, guest.claim.delivery))
            return
        unit = ticket.unit
        told = Outcome(
            kind="cancelled", task=unit.node.id, item=unit.item, attempt=ticket.attempt, worker=self._name,
            started_at=ticket.started_at or None,
        )  # fmt: skip
        if isinstance(outcome, inp.Succeeded):
            told.kind, told.output = "succeeded", outcome.output
            if guest.is_home:
                told.stored = reference_of(outcome.output) is not None
        elif isinstance(outcome, inp.Failed):
            told.kind, told.failure, told.details = "failed", outcome.failure, outcome.details
        elif isinstance(outcome, inp.Skipped):
            told.kind, told.reason = "skipped", outcome.reason
        elif outcome is None:
            told.kind = "failed"
            told.failure = Failure(
                "lost", f"{self._name} stopped, and an at-most-once task is never run again", retryable=False
            )
        self._end(ticket, told)

    def _leave(self, ticket: Ticket) -> None:
        self._guests.pop(_guest(ticket).claim.key, None)
        self._gatekeeper.leave(ticket)
        self.done += 1
        if not self._guests:
            self._idle.set()
        self.wake()

    def _end(self, ticket: Ticket, outcome: Outcome) -> None:
        guest = _guest(ticket)
        self._leave(ticket)
        if guest.closed:
            self.refused += 1  # the claim was lost: the outcome would be refused
            return
        self._send(guest, guest.claim, outcome)

    # ---- outcomes ------------------------------------------------------------------------------------------------------

    def _send(self, guest: Guest | None, claim: Claim, outcome: Outcome) -> None:
        if guest is not None and not guest.is_home:
            outcome.log = self._read_log(guest.call)
        data = msgspec.json.encode(outcome)
        if len(data) > OUTPUT_BYTES_MAX:
            outcome.kind, outcome.output, outcome.log = "failed", None, ""
            outcome.failure = Failure(
                "output_too_large",
                f"the output is {len(data):,} bytes; {OUTPUT_BYTES_MAX:,} at most travel to another node: "
                "write a file and return its path",
                retryable=False,
            )
            data = msgspec.json.encode(outcome)
        self._results.append(Result(claim.key, claim.delivery, msgspec.json.decode(data)))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.get_running_loop().create_task(self._send_all(), name="headrace-outcomes")

    async def _send_all(self) -> None:
        """Send what waits; an outcome that cannot be sent is kept: its attempt would be carried out again."""
        delay = 0.1
        while self._results:
            batch = self._results[:OUTCOMES_PER_CALL]
            try:
                self.refused += await self._source.complete(batch)
            except Fenced:
                self.refused += len(batch)
            except HeadraceError as error:
                logger.warning("outcomes could not be sent; it is tried again", extra={"error": str(error)})
                await asyncio.sleep(delay)
                delay = min(delay * 2, self._retry_max)
                continue
            del self._results[: len(batch)]
            self.wake()

    async def interrupt(self, seconds: float) -> None:
        """Interrupt everything under way, to be given back."""
        await self.launcher.stop_all(seconds)

    # ---- the end -------------------------------------------------------------------------------------------------------

    async def stop(self, *, drain_seconds: float, stop_seconds: float) -> None:
        """Claim nothing more, give attempts under way ``drain_seconds``, interrupt the rest and give them back."""
        self.stopping = True
        try:
            async with asyncio.timeout(drain_seconds):
                await self._idle.wait()
        except TimeoutError:
            pass
        await self.launcher.stop_all(stop_seconds)
        self.launcher.close()
        try:
            async with asyncio.timeout(stop_seconds):
                if self._sending is not None:
                    await self._sending
                if self._given_back:
                    await self._source.give_back(self._given_back)
        except (TimeoutError, HeadraceError) as error:
            logger.warning("claims could not be given back; they are lost with the lease", extra={"error": str(error)})
        if self._sending is not None:
            self._sending.cancel()

    def abandon(self) -> None:
        """Fall silent as a process that dies does."""
        self.stopping = True
        self.launcher.abandon()
        if self._sending is not None:
            self._sending.cancel()


def _guest(ticket: Ticket) -> Guest:
    return cast("Guest", ticket.live)
