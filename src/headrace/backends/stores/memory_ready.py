"""Attempts on offer in memory: see :mod:`headrace.contracts.ready`. Short enough to be read as its meaning.

A mix-in of :class:`headrace.backends.stores.memory.MemoryStore`; every method holds the database's lock throughout.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from headrace.contracts.ready import (
    DELIVERIES_MAX,
    Beat,
    Claim,
    Offer,
    QueueRow,
    Result,
    Standing,
    lost_outcome,
    outcome_kind,
    run_of,
)
from headrace.contracts.store import InboxRow
from headrace.core.ids import Epoch, NodeId

if TYPE_CHECKING:
    from headrace.backends.stores.memory import MemoryDatabase


class ReadyRow(msgspec.Struct):
    """One offer, and who has claimed it."""

    offer: Offer
    offered_at: float
    worker: tuple[NodeId, Epoch] | None = None
    delivery: int = 0
    claimed_at: float | None = None
    stop: bool = False
    details: bytes | None = None
    was_claimed: bool = False


class MemoryReady:
    """The methods of :class:`headrace.contracts.ready.Ready`."""

    database: MemoryDatabase

    async def offer(self, node: NodeId, epoch: Epoch, offers: Sequence[Offer]) -> None:
        """See the contract."""
        base = self.database
        with base.lock:
            base.check_fence(node, epoch)
            told = {(message.run_id, message.kind) for message in base.inbox.values()}
            for one in offers:
                run = base.runs.get(one.run_id)
                if run is None or run.owner != node or (one.run_id, outcome_kind(one.key)) in told:
                    continue
                base.ready.setdefault(one.key, ReadyRow(one, base.clock()))

    async def claim_attempts(
        self, node: NodeId, epoch: Epoch, queues: Sequence[str], labels: Mapping[str, str], room: Mapping[str, int]
    ) -> list[Claim]:
        """See the contract."""
        base = self.database
        with base.lock:
            base.check_fence(node, epoch)
            left = dict(room)
            claims: list[Claim] = []
            for row in sorted(base.ready.values(), key=lambda row: -row.offer.priority):  # stable: the older first
                one = row.offer
                run = base.runs.get(one.run_id)
                if (
                    row.worker is None
                    and one.queue in queues
                    and left.get(one.executor, 0) > 0
                    and one.labels.items() <= dict(labels).items()
                    and (
                        one.prefer is None
                        or row.was_claimed
                        or one.prefer.items() <= dict(labels).items()
                        or row.offered_at + one.prefer_seconds <= base.clock()
                    )
                    and run is not None
                    and run.ended_at is None
                ):
                    left[one.executor] -= 1
                    row.worker, row.claimed_at = (node, epoch), base.clock()
                    row.delivery += 1
                    row.was_claimed = True
                    claims.append(Claim(one.key, row.delivery, one.queue, one.executor, one.call, row.details))
            return claims

    async def held(self, node: NodeId, epoch: Epoch) -> list[Claim]:
        """See the contract."""
        base = self.database
        with base.lock:
            holder = base.nodes.get(node)
            if holder is None or holder.epoch != epoch:
                return []
            return [
                Claim(one.offer.key, one.delivery, one.offer.queue, one.offer.executor, one.offer.call, one.details)
                for one in base.ready.values()
                if one.worker == (node, epoch)
            ]

    def _held(self, node: NodeId, epoch: Epoch, key: str, delivery: int) -> ReadyRow | None:
        row = self.database.ready.get(key)
        return row if row is not None and row.worker == (node, epoch) and row.delivery == delivery else None

    async def report(self, node: NodeId, epoch: Epoch, beats: Sequence[Beat]) -> dict[str, Literal["stop", "lost"]]:
        """See the contract."""
        base = self.database
        verdicts: dict[str, Literal["stop", "lost"]] = {}
        with base.lock:
            if any(beat.details is not None for beat in beats):
                base.check_fence(node, epoch)
            for beat in beats:
                row = self._held(node, epoch, beat.key, beat.delivery)
                if row is None:
                    verdicts[beat.key] = "lost"
                    continue
                if beat.details is not None:
                    row.details = beat.details
                if row.stop:
                    verdicts[beat.key] = "stop"
        return verdicts

    async def complete(self, node: NodeId, epoch: Epoch, results: Sequence[Result]) -> list[str | None]:
        """See the contract."""
        base = self.database
        with base.lock:
            base.check_fence(node, epoch)
            answers: list[str | None] = []
            for result in results:
                held = self._held(node, epoch, result.key, result.delivery)
                if held is not None:
                    del base.ready[result.key]
                answers.append(None if held is None else self._deliver(result.key, result.outcome))
            return answers

    def _deliver(self, key: str, outcome: dict[str, Any]) -> str | None:
        base = self.database
        run = base.runs.get(run_of(key))
        if run is None or run.ended_at is not None:
            return None
        base.last_message += 1
        payload = msgspec.json.decode(msgspec.json.encode(outcome))
        base.inbox[base.last_message] = InboxRow(base.last_message, run.run_id, outcome_kind(key), payload)
        run.wake_at = None
        return base.nodes[run.owner].bell if run.owner is not None and base.is_live(run.owner) else ""

    async def give_back(self, node: NodeId, epoch: Epoch, claims: Sequence[Beat]) -> None:
        """See the contract."""
        base = self.database
        with base.lock:
            base.check_fence(node, epoch)
            for one in claims:
                row = self._held(node, epoch, one.key, one.delivery)
                if row is None:
                    continue
                if row.stop:
                    del base.ready[one.key]
                else:
                    row.worker = row.claimed_at = None
                    row.delivery -= 1

    async def requeue_lost(self, limit: int = 1000) -> tuple[int, list[str]]:
        """See the contract."""
        base = self.database
        again, bells = 0, set[str]()
        with base.lock:
            for key, row in list(base.ready.items()):
                run = base.runs.get(row.offer.run_id)
                if run is None or (row.worker is None and run.ended_at is not None):
                    del base.ready[key]
                    continue
                if row.worker is None:
                    continue
                worker, epoch = row.worker
                holder = base.nodes.get(worker)
                if holder is not None and holder.epoch == epoch:
                    continue
                if row.offer.at_most_once or row.stop or row.delivery >= DELIVERIES_MAX:
                    del base.ready[key]
                    bells.add(self._deliver(key, lost_outcome(key, worker, row.delivery)) or "")
                else:
                    again += 1
                    row.worker = row.claimed_at = None
        return again, sorted(bells - {""})

    async def withdraw(
        self, node: NodeId, epoch: Epoch, keys: Sequence[str], *, stop: bool = True
    ) -> list[tuple[str, str]]:
        """See the contract."""
        base = self.database
        claimed: list[tuple[str, str]] = []
        with base.lock:
            base.check_fence(node, epoch)
            for key in keys:
                row = base.ready.get(key)
                if row is None:
                    continue
                if row.worker is None:
                    del base.ready[key]
                else:
                    row.stop = row.stop or stop
                    worker = row.worker[0]
                    claimed.append((key, base.nodes[worker].bell if base.is_live(worker) else ""))
        return claimed

    async def offered(self, node: NodeId, limit: int = 100_000) -> list[Standing]:
        """See the contract."""
        base = self.database
        with base.lock:
            return [
                Standing(key, row.delivery, row.worker[0] if row.worker else None, row.claimed_at, row.details)
                for key, row in base.ready.items()
                if base.runs[row.offer.run_id].owner == node
            ][: max(limit, 0)]

    async def queues(self) -> list[QueueRow]:
        """See the contract."""
        base = self.database
        with base.lock:
            waiting = Counter(row.offer.queue for row in base.ready.values() if row.worker is None)
            claimed = Counter(row.offer.queue for row in base.ready.values() if row.worker is not None)
            oldest: dict[str, float] = {}
            for row in base.ready.values():
                if row.worker is None:
                    oldest.setdefault(row.offer.queue, row.offered_at)
            now = base.clock()
            return [
                QueueRow(queue, waiting[queue], claimed[queue], max(0.0, now - oldest.get(queue, now)))
                for queue in sorted(waiting.keys() | claimed.keys())
            ]
