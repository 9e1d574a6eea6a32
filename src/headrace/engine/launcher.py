"""Carries attempts out: renders the call, runs the bound task, turns what happens into an outcome.

The clock of an attempt starts when it starts. Cancellation, timeouts and a stopping node all reach the bound task as
``asyncio.CancelledError``; flags on the ticket tell which it was. Exactly one outcome is reported per ticket, or none
when the node stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from time import monotonic  # by its own name: where workflow code runs, time.monotonic is replaced
from typing import Any, Protocol

import msgspec

from headrace.contracts.artifacts import ArtifactStore
from headrace.contracts.execution import Attempt, CompletesLater
from headrace.contracts.outcome import failure_of
from headrace.core import inputs as inp
from headrace.core.errors import HeadraceError, SkipTask, TemplateError
from headrace.core.events import Failure
from headrace.core.expressions import NeedValue
from headrace.core.ids import attempt_key
from headrace.core.plan import render_call
from headrace.core.run import REFERENCE_KEY, Run
from headrace.engine.gates import Ticket
from headrace.engine.locker import Locker
from headrace.engine.outcomes import is_plain, load_value, normalise

logger = logging.getLogger("headrace.launcher")

LONG_ATTEMPT_SECONDS = 0.5
"""An attempt that runs for longer has its start recorded, so that others can see it."""

HEARTBEAT_RECORD_SECONDS = 2.0
"""How often the details of an attempt's heartbeats are recorded at most, for whoever takes over after a crash."""

LOADED_VALUES_MAX = 64
"""Large values kept in a run's memory between launches."""

STOP_SECONDS_MAX = 30.0
"""How long an attempt that was told to stop may take before it is left behind."""


class Reporter(Protocol):
    """Who hears of outcomes: the node."""

    def outcome(self, ticket: Ticket, outcome: inp.Input | None) -> None:
        """The attempt is over; None when it was stopped with the node."""
        ...

    def started(self, ticket: Ticket) -> None:
        """The attempt runs for long enough to be recorded."""
        ...

    def heartbeat(self, ticket: Ticket, details: Any) -> None:
        """The attempt said something new about how far it is."""
        ...

    def handed_over(self, ticket: Ticket) -> None:
        """The attempt's function is over; its outcome will be told from outside."""
        ...


class Lease(Protocol):
    """The right by which attempts are carried out: the keeper's."""

    trusted_until: float
    """Until when, by the monotonic clock, nobody else can have taken it."""


class _NoLease:
    trusted_until = 0.0


_NO_LEASE = _NoLease()


class Launcher:
    """One node's attempts under way."""

    def __init__(
        self, reporter: Reporter, artifacts: ArtifactStore, now: Callable[[], float], locker: Locker | None = None
    ) -> None:
        self._reporter = reporter
        self._artifacts = artifacts
        self._now = now
        self._locker = locker
        self._running: dict[Ticket, None] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._heard = self._heartbeat
        self._loop: asyncio.AbstractEventLoop
        self.lease: Lease = _NO_LEASE
        self.may_begin: Callable[[], bool] = lambda: True
        """Asked last before an attempt begins, if the lease is not trusted; False if this process may have lost the right
        to it."""

    @property
    def running(self) -> int:
        """Attempts under way."""
        return len(self._running)

    def launch(self, ticket: Ticket) -> None:
        """Start an attempt that passed every gate."""
        ticket.unit.launched = True
        ticket.started_at = self._now()
        ticket.heard = self._heard
        self._running[ticket] = None
        loop = self._loop = asyncio.get_running_loop()
        ticket.task = loop.create_task(self._attempt(ticket))
        if self._sweep is None:
            self._sweep = loop.call_later(LONG_ATTEMPT_SECONDS, self._record_long)

    def stop(self, ticket: Ticket) -> None:
        """Interrupt an attempt under way; its outcome is reported once it has stopped.

        An attempt that has not had its first turn looks at its ticket's flags when it has it: a task that is cancelled
        before would end without a word.
        """
        if ticket.task is not None and ticket.begun:
            ticket.task.cancel()

    def fail(self, key: str, error: HeadraceError) -> None:
        """End an attempt under way as failed with that error; one that is not here is left alone."""
        for ticket in self._running:
            unit = ticket.unit
            if attempt_key(ticket.live.run_id, unit.node.id, unit.item, ticket.attempt) == key:
                ticket.fault = error
                self.stop(ticket)

    async def stop_all(self, seconds: float) -> None:
        """Interrupt everything, for a node that stops. Attempts that do not stop in time are left behind; their
        outcome is never recorded."""
        tasks = []
        for ticket in list(self._running):
            ticket.stopping = True
            self.stop(ticket)
            if ticket.task is not None:
                tasks.append(ticket.task)
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=seconds)
            if left:
                logger.warning("attempts did not stop in time and were left behind", extra={"count": len(left)})

    def abandon(self) -> None:
        """Interrupt everything and wait for nothing; no outcome is recorded."""
        for ticket in list(self._running):
            ticket.stopping = True
            self.stop(ticket)
        self.close()

    async def idle(self) -> None:
        """Wait until nothing is under way."""
        while self._running:
            tasks = [ticket.task for ticket in self._running if ticket.task is not None]
            await asyncio.wait(tasks)

    def close(self) -> None:
        """Stop watching for long attempts."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def _record_long(self) -> None:
        """Report the start of attempts that outlived the bound; they are in order of their start. As long as some have
        yet to: whoever launches another one sees to it that this goes on."""
        self._sweep = None
        border = self._now() - LONG_ATTEMPT_SECONDS * 0.9
        for ticket in list(self._running):
            if ticket.started_at > border:
                self._sweep = asyncio.get_running_loop().call_later(LONG_ATTEMPT_SECONDS, self._record_long)
                break
            if not ticket.recorded:
                self._reporter.started(ticket)

    def _heartbeat(self, ticket: Ticket) -> None:
        """An attempt has given details, on whatever thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: a thread was left behind
            self._loop.call_soon_threadsafe(self._tell_in_time, ticket)

    def _tell_in_time(self, ticket: Ticket) -> None:
        """What comes within a while is told together. An attempt that ends soon says more by its outcome."""
        wait = ticket.told_at + HEARTBEAT_RECORD_SECONDS - monotonic()
        self._loop.call_later(max(wait, LONG_ATTEMPT_SECONDS), self._tell, ticket)

    def _tell(self, ticket: Ticket) -> None:
        """Report what the last heartbeats said. ``telling`` first: what a thread gives from here on calls again."""
        ticket.telling = False
        if ticket not in self._running or ticket.cancelled or ticket.stopping:
            return
        if not ticket.recorded:
            self._reporter.started(ticket)
        if ticket.details is not ticket.details_told:
            ticket.details_told, ticket.told_at = ticket.details, monotonic()
            self._reporter.heartbeat(ticket, _details(ticket))

    def _interrupted(self, ticket: Ticket) -> inp.Input | None:
        unit = ticket.unit
        task, item = unit.node.id, unit.item
        if ticket.timed_out:
            if ticket.silent:
                bound = unit.node.timeouts.heartbeat
                failure = Failure("heartbeat_timeout", f"the attempt gave no heartbeat for {bound:g} s")
            else:
                bound = unit.node.timeouts.attempt
                failure = Failure("timeout", f"the attempt took longer than its bound of {bound:g} s")
            return inp.Failed(task, item, ticket.attempt, ticket.started_at, failure, _details(ticket))
        if ticket.stopping:
            return inp.Interrupted(task, item, ticket.attempt) if ticket.recorded else None
        if ticket.fault is not None and not ticket.cancelled:
            return inp.Failed(task, item, ticket.attempt, ticket.started_at, failure_of(ticket.fault), _details(ticket))
        return inp.Cancelled(task, item, ticket.attempt, ticket.started_at)

    async def _attempt(self, ticket: Ticket) -> None:  # noqa: PLR0912, PLR0915 - flat for speed
        """Carry one attempt out and report its outcome. One flat coroutine: every task of every run passes here."""
        live, unit = ticket.live, ticket.unit
        run, node = live.run, unit.node
        task, item, number = node.id, unit.item, ticket.attempt
        attempt: Attempt | None = None
        timeout: asyncio.TimerHandle | None = None
        outcome: inp.Input | None
        ticket.begun = True
        try:
            if ticket.cancelled or ticket.stopping:
                raise asyncio.CancelledError
            if monotonic() >= self.lease.trusted_until and not self.may_begin():
                ticket.stopping = True
                raise asyncio.CancelledError
            if node.has_constant_call:
                config, args = node.options.config, node.args
            else:
                try:
                    config, args = render_call(node, run.scope_for(unit))
                except NeedValue as need:
                    config, args = await self._load_and_render(ticket, need)
            timeouts = node.timeouts
            bound = timeouts.attempt
            attempt = Attempt(
                run_id=run.run_id,
                workflow=run.plan.spec.name,
                task=task,
                attempt=number,
                config=config,
                args=args,
                item=item,
                timeout_seconds=bound,
                source_dir=run.source_dir,
                run_tags=run.tags,
                headers=run.headers if node.headers is None else node.headers,
                heartbeat_seconds=timeouts.heartbeat,
                heartbeat_details=unit.details,
                pulse=ticket.beat,
                locker=self._locker,
            )
            if bound is not None:
                timeout = asyncio.get_running_loop().call_later(bound, self._time_out, ticket)
            if attempt.heartbeat_seconds is not None:
                ticket.beat(None)
                self._listen(ticket, attempt.heartbeat_seconds)
            output = await live.binding.bound[node.index].run(attempt)
            if ticket.timed_out:
                outcome = self._interrupted(ticket)
            else:
                if output is not None and not is_plain(output):
                    output = await self._store_output(output, live.run)
                outcome = inp.Succeeded(task, item, number, ticket.started_at, output)
        except SkipTask as skip:
            outcome = inp.Skipped(task, item, number, ticket.started_at, str(skip) or "the task asked to be skipped")
        except CompletesLater:
            outcome = (
                self._interrupted(ticket) if ticket.timed_out or ticket.stopping or ticket.cancelled else _EXTERNAL
            )
        except TemplateError as error:
            outcome = inp.Failed(task, item, number, None, Failure("template", error.message, retryable=False))
        except asyncio.CancelledError:
            if ticket.timed_out or ticket.stopping or ticket.cancelled or ticket.fault is not None:
                outcome = self._interrupted(ticket)
            else:
                failure = Failure("CancelledError", "the task's own code raised asyncio.CancelledError")
                outcome = inp.Failed(task, item, number, ticket.started_at, failure, _details(ticket))
        except BaseException as error:  # user code may raise anything; the engine goes on
            if ticket.timed_out or ticket.stopping:
                outcome = self._interrupted(ticket)  # how user code takes the interruption is not its outcome
            else:
                outcome = inp.Failed(task, item, number, ticket.started_at, failure_of(error), _details(ticket))
        if timeout is not None:
            timeout.cancel()
        if attempt is not None:
            log = attempt.log
            if log is not None:
                log.closed = True
                if log.opened is not None:
                    log.close()
            if attempt.folder is not None:
                live.binding.context.finish(attempt)
            if self._locker is not None and self._locker.owners:
                self._locker.end(attempt.key)
        self._running.pop(ticket, None)
        unit.launched = False
        if outcome is _EXTERNAL:
            self._reporter.handed_over(ticket)
        else:
            self._reporter.outcome(ticket, outcome)

    async def _load_and_render(self, ticket: Ticket, need: NeedValue) -> tuple[dict[str, object], dict[str, object]]:
        """The attempt's config and arguments when they need large values: those are loaded first."""
        run = ticket.live.run
        while True:
            digest = need.digest
            run.values[digest] = await asyncio.to_thread(load_value, self._artifacts, digest)
            try:
                rendered = render_call(ticket.unit.node, run.scope_for(ticket.unit))
            except NeedValue as another:
                need = another
                continue
            if len(run.values) > LOADED_VALUES_MAX and not run.wanted:
                run.values.clear()
            return rendered

    async def _store_output(self, output: object, run: Run) -> object:
        """Normalise an output; a long one is written to the artifact store off the loop. Workflow code is waiting for the
        value itself: what becomes of it in the history, the journal sees to."""
        spilled: list[bytes] = []

        def keep(data: bytes) -> str:
            spilled.append(data)
            return ""

        value = normalise(output, keep)
        if spilled and not run.keeps_references:
            return await asyncio.to_thread(msgspec.json.decode, spilled[0])
        if spilled:
            value[REFERENCE_KEY] = await asyncio.to_thread(self._artifacts.put, spilled[0])
        return value

    def _time_out(self, ticket: Ticket) -> None:
        if ticket in self._running:
            ticket.timed_out = True
            self.stop(ticket)

    def _listen(self, ticket: Ticket, bound: float) -> None:
        """Look again when the next heartbeat has to have come. A heartbeat itself touches no timer: it may come from
        any thread, and often."""
        if ticket not in self._running or ticket.timed_out:
            return
        left = ticket.beat_at + bound - monotonic()
        if left <= 0:
            ticket.silent = True
            self._time_out(ticket)
        else:
            asyncio.get_running_loop().call_later(left, self._listen, ticket, bound)


_EXTERNAL = inp.Recovered()
"""Stands for the outcome of an attempt that somebody else will complete; compared by identity, never decided on."""


def _details(ticket: Ticket) -> Any:
    """What the attempt's last heartbeat said."""
    return None if ticket.details is None else msgspec.json.decode(ticket.details)
