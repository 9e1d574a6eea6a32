"""The store: nine small contracts over one database.

*History* is the truth, *Leases* say who may write it, *Keys* keep one run per business key, the *Inbox* brings what
comes from outside to a run's owner, *Wishes* (:mod:`headrace.contracts.wishes`) say who waits for a run's end, *Ready*
(:mod:`headrace.contracts.ready`) holds attempts on offer to others,
*Schedules* (:mod:`headrace.contracts.schedules`) say when runs start by themselves,
*Locks* (:mod:`headrace.contracts.locks`) are for users and for the election of a leader, the
*Catalog* answers lists and searches from a projection that is written in the
same transaction as the events.

All methods are coroutines; all are safe to cancel (a cancelled call may still take effect) and safe to call
concurrently. Errors of drivers are translated to :mod:`headrace.core.errors` at this border.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import msgspec

from headrace.contracts.locks import Locks, Term
from headrace.contracts.ready import Ready
from headrace.contracts.schedules import Schedules
from headrace.contracts.wishes import Wishes
from headrace.core.ids import Epoch, NodeId, RunId, WorkflowVersion
from headrace.core.where import Where

BACK_SECONDS = 0.5
"""While the store is out of reach, nobody who needs it pauses for longer than this between two tries: a node is back at
work so soon after the store is. That an orphaned run goes on within the lease and two seconds, counted from the return
of the store if that is later, rests on it (docs/explanation/guarantees.md)."""


class RunRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The projection of one run: what lists show. Written with the events it follows from.

    ``state`` is a value of :class:`headrace.core.states.RunState`. ``owner`` is the node that holds the run, None when
    nobody does. ``live`` is False when the owner's lease has ended (filled in by reads only). ``last_seq`` is the
    number of the last event. Times are seconds since the epoch. ``key`` is the business key, of which one unfinished run
    per workflow may exist; ``attributes`` are typed values (text, numbers, booleans, lists of these) to search by.
    """

    run_id: RunId
    workflow: str
    version: WorkflowVersion
    state: str
    created_at: float
    ended_at: float | None = None
    tags: dict[str, str] = {}
    params: dict[str, Any] = {}
    trigger: str = "manual"
    parent: str | None = None
    error: str | None = None
    tasks_total: int = 0
    tasks_done: int = 0
    tasks_failed: int = 0
    last_seq: int = 0
    owner: NodeId | None = None
    live: bool = False
    wake_at: float | None = None
    key: str | None = None
    attributes: dict[str, Any] = {}


class RunUpdate(msgspec.Struct, frozen=True, gc=False):
    """The changing columns of a run's projection, all of them, as of its newest event in the flush.

    ``release`` gives the run up in the same transaction (finished, parked or drained): its owner becomes None. If
    messages wait for it by then, its ``wake_at`` becomes None too, so that it can be claimed at once. ``attributes``
    replaces all of the run's; None leaves them as they are.
    """

    run_id: RunId
    state: str
    last_seq: int
    tasks_total: int
    tasks_done: int
    tasks_failed: int
    ended_at: float | None = None
    error: str | None = None
    wake_at: float | None = None
    release: bool = False
    attributes: dict[str, Any] | None = None


KEY_CHARS_MAX = 512
"""The longest business key."""


class KeyHolder(msgspec.Struct, frozen=True):
    """The run that has a business key. ``state`` is None while it is being created."""

    run_id: RunId
    state: str | None


class Flush(msgspec.Struct):
    """Everything one node makes durable in one transaction.

    ``events`` are ``(run_id, seq, data)`` with ``data`` as :mod:`headrace.core.codec` encodes it. ``inbox_done`` holds
    inbox ids that these events have folded in: they are deleted in the same transaction, as are the kept outcomes of the
    database tasks in ``outcomes_done`` (run, and task or ``task[item]``) that these events tell; see
    :class:`TaskTransactions`.
    """

    node: NodeId
    epoch: Epoch
    events: list[tuple[RunId, int, bytes]]
    new_runs: list[RunRow] = []
    updates: list[RunUpdate] = []
    inbox_done: list[int] = []
    outcomes_done: list[tuple[RunId, str]] = []


class InboxRow(msgspec.Struct, frozen=True):
    """One message waiting for a run's owner. ``id`` rises in the order of acknowledgement."""

    id: int
    run_id: RunId
    kind: str
    payload: dict[str, Any]


class NodeRow(msgspec.Struct, frozen=True):
    """One engine process. ``live`` is judged by the database's clock. ``bell`` is an address that wakes it, or ''.
    ``info`` is what it says about itself, see :class:`headrace.contracts.nodes.NodeInfo`. ``asked`` is what it was asked
    to do (:meth:`Leases.ask_node`), or ''."""

    node: NodeId
    epoch: Epoch
    expires_at: float
    live: bool
    bell: str = ""
    info: dict[str, Any] = {}
    asked: str = ""


class WorkflowRow(msgspec.Struct, frozen=True):
    """One stored workflow version. ``data`` is the canonical definition; ``source`` the file it came from, or ''."""

    version: WorkflowVersion
    name: str
    data: bytes
    source: str
    created_at: float


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs to list; every field narrows. ``tags``: all must match. ``before`` is a run id: only older ones
    (keyset pagination, newest first). ``where`` is a filter as :func:`headrace.core.where.parse_where` reads it."""

    workflow: str | None = None
    states: tuple[str, ...] = ()
    tags: dict[str, str] = {}
    before: RunId | None = None
    limit: int = 50
    where: Where | None = None


class History(Protocol):
    """The ordered facts of every run."""

    async def commit(self, flush: Flush) -> None:
        """Make a flush durable, whole or not at all; on return it survives power loss.

        First checks, in the same transaction, that ``node`` still holds ``epoch`` and that its lease was not taken:
        raises :class:`Fenced` otherwise, and for a newer update of a run that ``node`` does not own. Idempotent: a
        flush that was committed already (its outcome was unknown to the caller) succeeds again; an event whose
        ``(run_id, seq)`` exists with *other* content raises :class:`HistoryConflict`. May raise
        :class:`StoreUnavailable` (retry), :class:`StoreFull`, :class:`StoreReadOnly`, :class:`StoreCorrupt`.
        """
        ...

    def commit_now(self, flush: Flush) -> bool:
        """Commit on the caller's thread if that is expected to take no longer than handing the flush to another one;
        False if it is not (nothing was done then: use :meth:`commit`). Never waits for another writer. Raises like
        :meth:`commit`. Stores that always wait for a network return False."""
        ...

    async def history(self, run_id: RunId, after: int = 0, limit: int | None = None) -> list[tuple[int, bytes]]:
        """``(seq, data)`` of a run's events with seq > ``after``, ascending; empty for an unknown run."""
        ...

    async def put_workflow(self, row: WorkflowRow) -> None:
        """Store a workflow version; idempotent by ``version`` (``created_at`` and ``source`` of the latest put win, so
        that :meth:`workflow_named` finds what was put last). Durable on return."""
        ...

    async def workflow(self, version: WorkflowVersion) -> WorkflowRow | None:
        """A version by its hash."""
        ...

    async def workflow_named(self, name: str) -> WorkflowRow | None:
        """The version of that name that was put last."""
        ...


class Leases(Protocol):
    """Who may write which runs. All judgements of time use the database's clock, never the caller's."""

    async def join(self, node: NodeId, lease_seconds: float, bell: str, info: dict[str, Any]) -> Epoch:
        """Register a node and take its lease; returns the epoch to write with. Joining again under the same id raises
        the epoch: the former holder is fenced, its runs become unowned and its locks free; what it was asked is
        forgotten. ``info``: what others can read about it; with ``remote: True`` the node is not the calling process:
        it is judged by its lease alone, whatever becomes of the caller."""
        ...

    def renew(self, node: NodeId, epoch: Epoch, lease_seconds: float) -> bool:
        """Extend the lease; False if it was taken over (the node must stop). Synchronous on purpose: called from the
        keeper's own thread, over a connection of its own, so that a blocked event loop costs nobody a lease."""
        ...

    async def leave(self, node: NodeId, epoch: Epoch) -> None:
        """Give up the lease, every run still owned and every lock. Idempotent."""
        ...

    async def nodes(self) -> list[NodeRow]:
        """All registered nodes, live or not."""
        ...

    async def describe_node(self, node: NodeId, epoch: Epoch, info: dict[str, Any]) -> None:
        """Replace what a node says about itself. Raises :class:`Fenced`."""
        ...

    async def ask_node(self, node: NodeId, what: str) -> str | None:
        """Leave word for a living node, which finds it in its :attr:`NodeRow.asked`; '' takes it back. Returns its bell;
        None if no such node lives."""
        ...

    async def expire_lost(self, term: Term | None = None) -> list[NodeId]:
        """Take the lease of every node whose lease has ended (or whose process is known to be dead): raises its epoch,
        makes its runs unowned and its locks free, in one transaction. Returns the nodes that were lost.

        With a ``term``, the same transaction checks it: raises :class:`NotLeader` if a higher one was given. A leader
        hands its own in: of its duties none is to be done by two. Without one the call is as safe, for anybody at any
        time, however late: what it does follows from the leases and the store's clock alone, and each loss is reported
        to one caller, who tells the others."""
        ...

    async def claim(
        self, node: NodeId, epoch: Epoch, limit: int, run_ids: Sequence[RunId] | None = None
    ) -> list[RunId]:
        """Take up to ``limit`` unowned, unfinished runs whose ``wake_at`` is past or None (or exactly ``run_ids``, those
        of them that are unowned). Each run goes to one claimer. Raises :class:`Fenced`."""
        ...

    async def release(self, node: NodeId, epoch: Epoch, run_ids: Sequence[RunId]) -> None:
        """Give runs up so that others can claim them. Runs not owned by ``node`` are left alone. Raises
        :class:`Fenced`."""
        ...


class Keys(Protocol):
    """Business keys: at most one unfinished run per workflow and key. A key is reserved before its run is created, in a
    transaction of its own, so that a conflict is known before anything is recorded and never spoils a flush."""

    async def reserve_key(
        self, node: NodeId, epoch: Epoch, workflow: str, key: str, run_id: RunId, kept_by: Sequence[str] = ()
    ) -> KeyHolder | None:
        """Reserve a key for a run that ``node`` is about to create, or that has ended and goes on. None if it is
        reserved (again: idempotent); else who has it: an unfinished run, one that is being created, or one that has
        ended in a state of ``kept_by``. A reservation needs no release: it is void once ``node`` no longer holds
        ``epoch``. A new run in a flush takes its key over from the run that ends there. Raises :class:`Fenced`."""
        ...

    async def key_holder(self, workflow: str, key: str) -> KeyHolder | None:
        """The latest run of that key, ended or not; None if there was none or retention has deleted it."""
        ...


class Inbox(Protocol):
    """What reaches a run from outside: commands, signals, outcomes from workers, finished children."""

    async def post(self, run_id: RunId, kind: str, payload: dict[str, Any]) -> tuple[int, str]:
        """Store a message; durable on return. Returns its id and the ``bell`` of the run's live owner, or ''.
        Raises :class:`NotFound` for an unknown run. Clears the run's ``wake_at`` so that a parked run can be claimed."""
        ...

    async def inbox(self, run_ids: Sequence[RunId] | None, node: NodeId, limit: int = 1000) -> list[InboxRow]:
        """Messages for the runs that ``node`` owns (or for ``run_ids``), oldest first."""
        ...

    async def waiting_runs(self, limit: int = 1000) -> list[RunId]:
        """Runs without an owner, finished ones included, that have messages waiting."""
        ...


class Catalog(Protocol):
    """Lists and searches, from the projection."""

    async def run(self, run_id: RunId) -> RunRow | None:
        """One run's row."""
        ...

    async def runs(self, where: RunFilter) -> list[RunRow]:
        """Runs, newest first."""
        ...

    async def find_runs(self, prefix: str, limit: int = 10) -> list[RunId]:
        """Ids that begin with ``prefix`` (case-insensitive), newest first; lets people type a few characters."""
        ...

    async def workflows(self) -> list[WorkflowRow]:
        """The latest version of every workflow name, by name."""
        ...

    async def delete_runs(self, ended_before: float, limit: int = 500, term: Term | None = None) -> list[RunId]:
        """Delete up to ``limit`` finished, unowned runs that ended before that time, with their events and inbox rows
        (retention). Returns their ids. Raises :class:`NotLeader` like :meth:`Leases.expire_lost`."""
        ...

    async def now(self) -> float:
        """The database's clock, seconds since the epoch."""
        ...


class TaskTransactions(Protocol):
    """What a store may offer besides: tasks whose writes and whose outcome are committed together."""

    waits_in_transactions: bool
    """Whether its connections are asynchronous: then ``work`` is a coroutine function."""

    async def transact(
        self, node: NodeId, epoch: Epoch, run_id: RunId, task: str, work: Callable[[Any], bytes | Awaitable[bytes]]
    ) -> bytes:
        """Run ``work(connection)`` in a write transaction that also keeps what it returns, or return what an earlier one
        kept for that task. Durable on return. The same transaction checks that ``node`` holds ``epoch`` and the run:
        raises :class:`Fenced` otherwise, and what ``work`` raises; nothing was written then. A second call for the same
        task, by whichever node, waits for the first to end. Cancelled, it is rolled back unless the commit has begun.
        Work that takes too long fails as ``transaction_timeout``, work that ends the transaction as
        ``forbidden_statement``."""
        ...


class Store(History, Leases, Locks, Keys, Inbox, Wishes, Ready, Schedules, Catalog, Protocol):
    """All nine contracts over one database."""

    url: str

    async def open(self) -> None:
        """Connect, migrate the schema if needed. Raises :class:`StoreError` and its kin with a clear message:
        :class:`SchemaTooNew`, :class:`StoreCorrupt`, :class:`StoreReadOnly`, :class:`StoreUnavailable`."""
        ...

    async def close(self) -> None:
        """Release everything. Idempotent."""
        ...
