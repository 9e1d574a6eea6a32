"""Attempts that other nodes and workers may carry out: the narrow ``ready`` table, as a contract.

The owner of a run *offers* attempts; whoever serves their queue *claims* them, each row by one claimer; the outcome
comes back through the run's inbox, in the transaction that deletes the row. Rows are never the truth: what a run owes
follows from its folded state, so its owner (the next one too) offers again what is missing, under the same key.

A claim lasts as long as its claimer's lease, which the keeper's thread renews: a claim costs no heartbeat of its own.
Whoever loses the lease (killed, suspended, cut off, joined anew) loses its claims; they are offered again as a new
*delivery*. ``(node, epoch, delivery)`` is the fencing token: with an older one nothing is taken any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from headrace.core.events import Failure
from headrace.core.ids import Epoch, NodeId, RunId
from headrace.core.spec import NODE_LABEL, TaskSpec

DELIVERIES_MAX = 3
"""Claims of one attempt that may be lost; after that it has failed: something in it kills its process."""

OUTCOME_KIND = "attempt"
"""Inbox messages with outcomes are of the kind ``attempt <key>``: so it can be seen without reading the payload that
the outcome of an attempt is on its way."""


class Offer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An attempt for others. ``key`` is :func:`headrace.core.ids.attempt_key`, which begins with the run's id. ``call``
    is a :class:`Call` as JSON. ``labels``: what a claimer must have, all of it. ``executor``: which slots it will take
    there, '' if that is not known here. ``prefer``: labels of those who may claim it at once; all others wait
    ``prefer_seconds`` from the offer on, by the database's clock. None: it is for everybody at once."""

    key: str
    queue: str
    call: bytes
    executor: str = ""
    labels: dict[str, str] = {}
    priority: int = 0
    at_most_once: bool = False
    prefer: dict[str, str] | None = None
    prefer_seconds: float = 0.0

    @property
    def run_id(self) -> RunId:
        """The run it belongs to."""
        return run_of(self.key)


class Claim(msgspec.Struct, frozen=True, gc=False):
    """An attempt that a claimer has. ``delivery`` counts its claims; ``details`` are those of an earlier delivery's
    last heartbeat, as JSON."""

    key: str
    delivery: int
    queue: str
    executor: str
    call: bytes
    details: bytes | None = None


class Standing(msgspec.Struct, frozen=True, gc=False):
    """What became of an offer so far. ``worker`` is None while it waits; ``claimed_at`` is by the database's clock."""

    key: str
    delivery: int
    worker: NodeId | None = None
    claimed_at: float | None = None
    details: bytes | None = None


class Beat(msgspec.Struct, frozen=True, gc=False):
    """A claimer's word on a claim: what its heartbeat said since the last report, None if nothing new."""

    key: str
    delivery: int
    details: bytes | None = None


class Result(msgspec.Struct, frozen=True, gc=False):
    """A claimer's outcome: ``outcome`` is a :class:`Outcome` as plain values."""

    key: str
    delivery: int
    outcome: dict[str, Any]


class QueueRow(msgspec.Struct, frozen=True):
    """One queue: attempts that wait and that are claimed, and how long the oldest has waited, in seconds."""

    queue: str
    waiting: int
    claimed: int
    waited_seconds: float = 0.0


class Call(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Everything a claimer needs to carry an attempt out: it needs no access to the run. ``task`` has its ``config``
    and ``args`` rendered. ``place`` names the owner's data folder: who works in the same one sends neither logs nor
    large outputs. ``details`` are those of the last heartbeat before this attempt. ``source_dir`` is the workflow
    file's folder on the owner's host: scripts and modules are expected there."""

    run_id: str
    workflow: str
    version: str
    task: TaskSpec
    attempt: int
    item: int | None = None
    source_dir: str | None = None
    run_tags: dict[str, str] = {}
    headers: dict[str, str] = {}
    place: str = ""
    details: Any = None


class Outcome(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What became of a claimed attempt.

    ``external``: its function has left the outcome to somebody else. ``unfit``: it cannot be carried out there at all,
    ``failure`` says why; it was not begun. ``lost``: nobody knows, and it must not be tried again (entered by
    :meth:`Ready.requeue_lost`). ``log``: its output, unless that is in the owner's data folder already. ``stored``:
    ``output`` is a reference to a value that is there.
    """

    kind: Literal["succeeded", "failed", "skipped", "cancelled", "external", "unfit", "lost"]
    task: str
    attempt: int
    item: int | None = None
    started_at: float | None = None
    output: Any = None
    failure: Failure | None = None
    reason: str = ""
    details: Any = None
    worker: str = ""
    log: str = ""
    stored: bool = False


def labels_of(node: str, labels: Mapping[str, str]) -> dict[str, str]:
    """A claimer's labels as offers are compared with them: its own, and :data:`NODE_LABEL`, which every claimer has."""
    return {**labels, NODE_LABEL: node}


def run_of(key: str) -> RunId:
    """The run of an attempt's key."""
    return RunId(key.partition("/")[0])


def outcome_kind(key: str) -> str:
    """The inbox kind of an attempt's outcome."""
    return f"{OUTCOME_KIND} {key}"


def lost_outcome(key: str, worker: str, delivery: int) -> dict[str, Any]:
    """The outcome of an attempt that was lost and that nobody may try again: for stores."""
    name, _, attempt = key.partition("/")[2].rpartition("/")
    task, bracket, item = name.partition("[")
    outcome: dict[str, Any] = {"kind": "lost", "task": task, "attempt": int(attempt), "worker": worker}
    if bracket:
        outcome["item"] = int(item[:-1])
    return outcome | {"reason": f"delivery {delivery}"}


class Ready(Protocol):
    """Attempts on offer. Every call that names a node and an epoch raises :class:`Fenced` if the node no longer holds
    it."""

    async def offer(self, node: NodeId, epoch: Epoch, offers: Sequence[Offer]) -> None:
        """Put attempts of runs that ``node`` owns on offer; durable on return. Idempotent by key: an offer that stands,
        claimed or not, stays as it is, and none is made of an attempt whose outcome waits in the inbox. Offers of runs
        that ``node`` does not own are ignored."""
        ...

    async def claim_attempts(
        self, node: NodeId, epoch: Epoch, queues: Sequence[str], labels: Mapping[str, str], room: Mapping[str, int]
    ) -> list[Claim]:
        """Take waiting offers of those queues whose labels are all among ``labels``, at most ``room[executor]`` of each
        executor, higher priority first, then the older one. Offers that prefer others are left to them until their time
        is over, or until they were claimed once. Each offer goes to one claimer; none of a run that has ended. Durable
        on return."""
        ...

    async def held(self, node: NodeId, epoch: Epoch) -> list[Claim]:
        """Everything a claimer has, in the order in which it was offered: for one that did not hear the answer to a
        claim. Empty if it no longer holds ``epoch``: does not raise :class:`Fenced`."""
        ...

    async def report(self, node: NodeId, epoch: Epoch, beats: Sequence[Beat]) -> dict[str, Literal["stop", "lost"]]:
        """Say that claims are alive and how far they are. Returns what the claimer has to know: which to stop, because
        their run no longer wants them, and which it has lost."""
        ...

    async def complete(self, node: NodeId, epoch: Epoch, results: Sequence[Result]) -> list[str | None]:
        """Bring outcomes to their runs: each row is deleted, its outcome put into the inbox (kind
        :func:`outcome_kind`), its run's ``wake_at`` cleared, in one transaction; durable on return. Answers the bell of
        the run's live owner, or '', for each; None where it was refused, because the claim was lost or the run has
        ended."""
        ...

    async def give_back(self, node: NodeId, epoch: Epoch, claims: Sequence[Beat]) -> None:
        """Put claims on offer again that were not begun, or were interrupted and may be tried again. Not counted as
        deliveries. Idempotent."""
        ...

    async def requeue_lost(self, limit: int = 1000) -> tuple[int, list[str]]:
        """Offer again what lost claimers had. An ``at_most_once`` attempt, and one that was lost
        :data:`DELIVERIES_MAX` times, gets the outcome ``lost`` instead. Removes waiting offers of ended runs. Returns
        how many were offered again, and the bells of owners who have outcomes to read. Leases are judged by
        :meth:`Leases.expire_lost` alone; call that first.

        Takes no term, because it decides nothing: a claim is lost once its epoch is over, which the same transaction
        looks up, and an epoch that is over never comes back. So anybody may call this at any time, a former leader that
        wakes up too; claims of living claimers stay, and each lost one is offered again once."""
        ...

    async def withdraw(
        self, node: NodeId, epoch: Epoch, keys: Sequence[str], *, stop: bool = True
    ) -> list[tuple[str, str]]:
        """Take offers back. Those that nobody has claimed are gone on return. The others stay until their outcome
        comes, and are to be stopped unless ``stop`` is False: their keys are returned with the bells of their
        claimers."""
        ...

    async def offered(self, node: NodeId, limit: int = 100_000) -> list[Standing]:
        """The offers of all runs that ``node`` owns."""
        ...

    async def queues(self) -> list[QueueRow]:
        """What waits and what is claimed, by queue."""
        ...
