"""Speaks for workers without database access: holds nothing that the store does not.

A remote worker has a row and a lease in the store like every node; its requests name its epoch, and the store refuses
what comes too late. So any node can answer for any worker, and one that is started anew goes on where it was. What a
desk remembers is who waits at it, to wake them.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from headrace.contracts import remote as wire
from headrace.contracts.ready import Beat, Claim, Result, labels_of
from headrace.core.errors import Fenced, ServerUnavailable
from headrace.core.ids import NodeId, attempt_key
from headrace.engine.counts import metrics_of
from headrace.engine.peers import describe
from headrace.telemetry.metrics import Metric

if TYPE_CHECKING:
    from headrace.contracts.store import Store
    from headrace.engine.node import Node

logger = logging.getLogger("headrace.server")

WAITING_MAX = 2_000
"""Workers that may wait at one desk; more are sent away."""

_OUTCOMES = frozenset({"succeeded", "failed", "skipped", "cancelled", "external", "unfit"})
"""What a worker can say; ``lost`` is for the store alone."""


class BadRequest(Exception):
    """What was asked cannot be meant; the message says why."""


class _Waiting:
    """A claim that waits for something to come."""

    __slots__ = ("over", "queues", "rung")

    def __init__(self, queues: frozenset[str]) -> None:
        self.queues = queues
        self.rung = asyncio.Event()
        self.over = False


class Desk:
    """One node's. ``lease_seconds``: of workers that join or renew from now on."""

    def __init__(self, node: Node, *, lease_seconds: float, poll_seconds: float = 2.0) -> None:
        self._node = node
        self.lease_seconds = lease_seconds
        self._poll = poll_seconds
        self._waiting: dict[str, _Waiting] = {}
        self._closed = False
        node.waker.on_remote = self._heard

    @property
    def _store(self) -> Store:
        return self._node.store

    def is_ready(self) -> bool:
        """Whether the node can serve."""
        node = self._node
        return not self._closed and node.broken is None and not node.stopping and node.is_joined

    def metrics(self) -> list[Metric]:
        """What can be measured of the node now."""
        return metrics_of(self._node)

    def close(self) -> None:
        """Send everybody who waits away with nothing. Idempotent."""
        self._closed = True
        for waiting in self._waiting.values():
            waiting.rung.set()

    # ---- leases ------------------------------------------------------------------------------------------------------

    async def join(self, asked: wire.Join) -> wire.Joined:
        """See :class:`headrace.contracts.remote.Join`; durable on return."""
        worker = wire.WORKER_PREFIX + (asked.name or secrets.token_hex(6))
        self._send_away(worker)
        info = {
            "version": 1,
            "remote": True,
            "adopt": False,
            **describe(asked.queues, asked.labels, asked.slots, pulls=True),
        }
        lease = self.lease_seconds
        epoch = await self._store.join(NodeId(worker), lease, self._node.waker.bell, info)
        self._node.watchdog.wake()
        self._node.waker.leader_wanted()  # wherever it is, it is to look after this one's claims
        logger.info("a worker has joined", extra={"worker": worker, "queues": list(asked.queues)})
        return wire.Joined(worker=worker, epoch=epoch, lease_seconds=lease)

    async def renew(self, asked: wire.Asked) -> wire.Renewed:
        """Extend the lease. Raises :class:`Fenced` if it is lost."""
        lease = self.lease_seconds
        if not await asyncio.to_thread(self._store.renew, NodeId(asked.worker), asked.epoch, lease):
            raise Fenced(f"worker {asked.worker} does not hold epoch {asked.epoch}")
        return wire.Renewed(lease_seconds=lease)

    async def leave(self, asked: wire.Asked) -> wire.Nothing:
        """Give the lease up, and what is claimed with it. Idempotent."""
        self._send_away(asked.worker)
        await self._store.leave(NodeId(asked.worker), asked.epoch)
        logger.info("a worker has left", extra={"worker": asked.worker})
        return wire.Nothing()

    # ---- attempts ----------------------------------------------------------------------------------------------------

    async def claim(self, asked: wire.AskClaim) -> wire.Claimed:
        """Take attempts, waiting for some to come. A later request of the same worker for claims ends the wait of an
        earlier one, whose answer nobody reads."""
        self._send_away(asked.worker)
        if len(self._waiting) >= WAITING_MAX:
            raise ServerUnavailable(f"{WAITING_MAX:,} workers wait here already")
        waiting = self._waiting[asked.worker] = _Waiting(frozenset(asked.queues))
        self._listen()
        labels = labels_of(asked.worker, asked.labels)
        room = {executor: min(count, wire.CLAIMS_MAX) for executor, count in asked.room.items()}
        until = time.monotonic() + min(asked.wait_seconds, wire.WAIT_SECONDS_MAX)
        try:
            while not (waiting.over or self._closed):
                waiting.rung.clear()
                claims = await self._store.claim_attempts(NodeId(asked.worker), asked.epoch, asked.queues, labels, room)
                left = until - time.monotonic()
                if claims or left <= 0:
                    return await self._bounded(asked, claims)
                try:
                    async with asyncio.timeout(min(left, self._poll)):
                        await waiting.rung.wait()
                except TimeoutError:
                    pass
            return wire.Claimed(claims=[])
        finally:
            if self._waiting.get(asked.worker) is waiting:
                del self._waiting[asked.worker]
                self._listen()

    async def _bounded(self, asked: wire.Asked, claims: list[Claim]) -> wire.Claimed:
        """As many as an answer may hold; the others are offered again."""
        size, kept, beyond = 0, list[wire.WireClaim](), list[Beat]()
        for one in claims:
            size += len(one.call) + len(one.details or b"")
            if kept and size > wire.ANSWER_BYTES_MAX:
                beyond.append(Beat(one.key, one.delivery))
            else:
                kept.append(wire.to_wire(one))
        if beyond:
            await self._store.give_back(NodeId(asked.worker), asked.epoch, beyond)
        return wire.Claimed(claims=kept)

    async def held(self, asked: wire.Asked) -> wire.Claimed:
        """What the worker has: for one that did not hear the answer to a claim."""
        self._send_away(asked.worker)
        return await self._bounded(asked, await self._store.held(NodeId(asked.worker), asked.epoch))

    async def report(self, asked: wire.AskReport) -> wire.Reported:
        """Hear how claims are, say what has become of them."""
        verdicts = await self._store.report(NodeId(asked.worker), asked.epoch, [_beat(one) for one in asked.beats])
        return wire.Reported(verdicts=verdicts)

    async def complete(self, asked: wire.AskComplete) -> wire.Completed:
        """Bring outcomes to their runs and wake their owners."""
        results = [Result(one.key, one.delivery, _outcome(one, asked.worker)) for one in asked.results]
        bells = await self._store.complete(NodeId(asked.worker), asked.epoch, results)
        for bell in {bell for bell in bells if bell}:
            self._node.waker.ring(bell)
        refused = sum(bell is None for bell in bells)
        if refused:
            self._node.counts.remote_refused += refused
            logger.info("outcomes were refused", extra={"worker": asked.worker, "count": refused})
        return wire.Completed(answers=["refused" if bell is None else "recorded" for bell in bells])

    async def give_back(self, asked: wire.AskGiveBack) -> wire.Nothing:
        """Offer claims again."""
        await self._store.give_back(NodeId(asked.worker), asked.epoch, [_beat(one) for one in asked.claims])
        for waiting in self._waiting.values():
            waiting.rung.set()
        return wire.Nothing()

    # ---- waking ------------------------------------------------------------------------------------------------------

    def _send_away(self, worker: str) -> None:
        waiting = self._waiting.get(worker)
        if waiting is not None:
            waiting.over = True
            waiting.rung.set()

    def _listen(self) -> None:
        self._node.waker.serve_remote({queue for one in self._waiting.values() for queue in one.queues})

    def _heard(self, queue: str | None) -> None:
        for waiting in self._waiting.values():
            if queue is None or queue in waiting.queues:
                waiting.rung.set()


def _beat(one: wire.WireBeat) -> Beat:
    return Beat(one.key, one.delivery, None if one.details is UNSET else bytes(one.details))


def _outcome(one: wire.WireResult, worker: str) -> dict[str, object]:
    """The outcome as the store takes it. Raises :class:`BadRequest` if it is not one of that attempt."""
    told = one.outcome
    run_id = one.key.partition("/")[0]
    if attempt_key(run_id, told.task, told.item, told.attempt) != one.key:
        raise BadRequest(f"the outcome of task {told.task!r}, attempt {told.attempt}, is not one of {one.key}")
    if told.kind not in _OUTCOMES:
        raise BadRequest(f"{one.key}: a worker cannot say {told.kind!r}")
    if told.kind in ("failed", "unfit") and told.failure is None:
        raise BadRequest(f"{one.key}: {told.kind!r} needs a failure")
    told.stored = False  # a remote worker has no place to store in
    told.worker = worker
    return msgspec.to_builtins(told)
