"""The memory store: everything in this process, gone with it. Short enough to be read as the meaning of the contract,
and the oracle other stores are compared with.

Several :class:`MemoryStore` handles may share one :class:`MemoryDatabase`, as nodes share a database. Every method
does its work under one lock and without awaiting, so it is atomic for coroutines and for the keeper's thread. Lists
are sorted when asked for: meant for thousands of runs, not millions.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from headrace.backends.stores.memory_named_locks import NamedLocks
from headrace.backends.stores.memory_ready import MemoryReady, ReadyRow
from headrace.backends.stores.memory_schedules import MemorySchedules
from headrace.backends.stores.memory_wishes import MemoryWishes
from headrace.contracts.locks import LockClaim, LockRenewal, LockRow, LockTurn, Term
from headrace.contracts.schedules import ScheduleRow
from headrace.contracts.store import Flush, InboxRow, KeyHolder, NodeRow, RunFilter, RunRow, RunUpdate, WorkflowRow
from headrace.core.errors import Fenced, HistoryConflict, NotFound
from headrace.core.ids import Epoch, NodeId, RunId, WorkflowVersion
from headrace.core.where import Field, items_of, matches

T = TypeVar("T")


class _Node(msgspec.Struct):
    epoch: Epoch
    expires_at: float
    lost: bool
    bell: str
    info: dict[str, Any]
    asked: str = ""


class MemoryDatabase:
    """What handles share. ``clock`` returns seconds since the epoch; tests give their own."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.lock = threading.RLock()
        self.runs: dict[RunId, RunRow] = {}
        self.events: dict[RunId, dict[int, bytes]] = {}
        self.inbox: dict[int, InboxRow] = {}  # in the order of ids
        self.nodes: dict[NodeId, _Node] = {}
        self.workflows: dict[WorkflowVersion, WorkflowRow] = {}  # in the order of puts
        self.keys: dict[tuple[str, str], tuple[RunId, NodeId, Epoch]] = {}
        """The latest run of every business key, and under which right it was created."""
        self.ready: dict[str, ReadyRow] = {}  # in the order of offers
        self.wishes: dict[tuple[RunId, NodeId], bool] = {}
        """Who waits for which run, and whether every change is wanted."""
        self.schedules: dict[str, ScheduleRow] = {}
        self.named_locks = NamedLocks()
        self.last_epoch = 0
        self.last_message = 0
        self.claimable: set[RunId] = set()
        """Unowned and unfinished, whatever their ``wake_at``."""

    def index(self, run: RunRow) -> None:
        """To be called when a run's owner or end has changed."""
        if run.owner is None and run.ended_at is None:
            self.claimable.add(run.run_id)
        else:
            self.claimable.discard(run.run_id)

    def disown_all(self, node: NodeId) -> None:
        """Make a node's runs unowned and its locks free."""
        for run in self.runs.values():
            if run.owner == node:
                run.owner = None
                self.index(run)
        self.named_locks.drop_node(node)

    def is_live(self, node: NodeId | None) -> bool:
        """Whether a node's lease runs."""
        row = self.nodes.get(node) if node is not None else None
        return row is not None and not row.lost and row.expires_at > self.clock()

    def lease_end(self, node: NodeId, epoch: Epoch) -> float:
        """When the lease ends that a node holds under that epoch; 0 if it holds none."""
        row = self.nodes.get(node)
        return row.expires_at if row is not None and row.epoch == epoch and not row.lost else 0.0

    def next_epoch(self) -> Epoch:
        """Epochs come from one counter, so they never return; so do the tokens of locks."""
        self.last_epoch += 1
        return Epoch(self.last_epoch)

    def check_fence(self, node: NodeId, epoch: Epoch) -> None:
        """Raise :class:`Fenced` unless the node holds that epoch."""
        row = self.nodes.get(node)
        if row is None or row.epoch != epoch:
            raise Fenced(
                f"node {node} no longer holds epoch {epoch}: {'it left' if row is None else 'its lease was taken'}",
                hint="drop its runs and join again",
            )


def _copy(value: T) -> T:
    """A copy that shares nothing: what a database would give back, and only what one could store."""
    return msgspec.json.decode(msgspec.json.encode(value), type=type(value))


class MemoryStore(MemoryReady, MemoryWishes, MemorySchedules):
    """One handle on a memory database, a fresh one unless given; see :class:`headrace.contracts.store.Store`."""

    def __init__(self, database: MemoryDatabase | None = None) -> None:
        self.url = "memory://"
        self.database = database or MemoryDatabase()

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do: the database lives as long as somebody holds it."""

    # ---- history -------------------------------------------------------------------------------------------------

    async def commit(self, flush: Flush) -> None:
        """See the contract."""
        self.commit_now(flush)

    def commit_now(self, flush: Flush) -> bool:
        """See the contract; always True. Everything is checked before anything is changed."""
        base = self.database
        with base.lock:
            base.check_fence(flush.node, flush.epoch)
            for run_id, seq, data in flush.events:
                stored = base.events.get(run_id, {}).get(seq)
                if stored is not None and stored != data:
                    raise HistoryConflict(
                        f"run {run_id} has another event {seq} already: two nodes wrote it, this one came second",
                        hint="drop the run and read its history again",
                    )
            fresh = {run.run_id: run for run in flush.new_runs}
            updates = [
                update
                for update in flush.updates
                if self._is_due(base.runs.get(update.run_id) or fresh.get(update.run_id), flush.node, update)
            ]
            copies = {run.run_id: _copy(run) for run in flush.new_runs}

            for run_id, seq, data in flush.events:
                base.events.setdefault(run_id, {}).setdefault(seq, data)
            for run in copies.values():
                base.index(base.runs.setdefault(run.run_id, run))
                if run.key is not None:
                    base.keys[run.workflow, run.key] = (run.run_id, flush.node, flush.epoch)
            for number in flush.inbox_done:
                base.inbox.pop(number, None)
            for update in updates:
                self._apply(update)
            return True

    @staticmethod
    def _is_due(run: RunRow | None, node: NodeId, update: RunUpdate) -> bool:
        """Whether an update is to be applied; False if a newer one was, or this one by an earlier try."""
        if run is None:
            raise NotFound(f"there is no run {update.run_id} to update")
        if run.owner == node:
            return run.last_seq <= update.last_seq
        if run.last_seq < update.last_seq:
            raise Fenced(
                f"run {update.run_id} is owned by {run.owner or 'nobody'}, not by {node}",
                hint="claim a run before writing to it",
            )
        return False

    def _apply(self, update: RunUpdate) -> None:
        base = self.database
        run = base.runs[update.run_id]
        run.state, run.last_seq, run.ended_at, run.error = update.state, update.last_seq, update.ended_at, update.error
        run.tasks_total, run.tasks_done, run.tasks_failed = update.tasks_total, update.tasks_done, update.tasks_failed
        run.wake_at = update.wake_at
        if update.attributes is not None:
            run.attributes = _copy(update.attributes)
        if update.release:
            run.owner = None
            # A message that arrived while the run was being parked must not wait for its timer.
            if any(message.run_id == run.run_id for message in base.inbox.values()):
                run.wake_at = None
        base.index(run)

    async def history(self, run_id: RunId, after: int = 0, limit: int | None = None) -> list[tuple[int, bytes]]:
        """See the contract."""
        with self.database.lock:
            events = sorted(item for item in self.database.events.get(run_id, {}).items() if item[0] > after)
        return events if limit is None else events[: max(limit, 0)]

    async def put_workflow(self, row: WorkflowRow) -> None:
        """See the contract."""
        with self.database.lock:
            former = self.database.workflows.pop(row.version, row)
            self.database.workflows[row.version] = msgspec.structs.replace(
                former, source=row.source, created_at=row.created_at
            )

    async def workflow(self, version: WorkflowVersion) -> WorkflowRow | None:
        """See the contract."""
        return self.database.workflows.get(version)

    async def workflow_named(self, name: str) -> WorkflowRow | None:
        """See the contract."""
        with self.database.lock:
            return next((row for row in reversed(self.database.workflows.values()) if row.name == name), None)

    # ---- leases --------------------------------------------------------------------------------------------------

    async def join(self, node: NodeId, lease_seconds: float, bell: str, info: dict[str, Any]) -> Epoch:
        """See the contract."""
        base = self.database
        with base.lock:
            epoch = base.next_epoch()
            base.nodes[node] = _Node(epoch, base.clock() + lease_seconds, False, bell, _copy(info))
            base.disown_all(node)
            return epoch

    def renew(self, node: NodeId, epoch: Epoch, lease_seconds: float) -> bool:
        """See the contract."""
        base = self.database
        with base.lock:
            row = base.nodes.get(node)
            if row is None or row.lost or row.epoch != epoch:
                return False
            row.expires_at = base.clock() + lease_seconds
            return True

    async def leave(self, node: NodeId, epoch: Epoch) -> None:
        """See the contract."""
        base = self.database
        with base.lock:
            row = base.nodes.get(node)
            if row is not None and row.epoch == epoch:
                del base.nodes[node]
                base.disown_all(node)

    async def nodes(self) -> list[NodeRow]:
        """See the contract."""
        base = self.database
        with base.lock:
            return [
                NodeRow(node, row.epoch, row.expires_at, base.is_live(node), row.bell, _copy(row.info), row.asked)
                for node, row in sorted(base.nodes.items())
            ]

    async def describe_node(self, node: NodeId, epoch: Epoch, info: dict[str, Any]) -> None:
        """See the contract."""
        base = self.database
        with base.lock:
            base.check_fence(node, epoch)
            base.nodes[node].info = _copy(info)

    async def ask_node(self, node: NodeId, what: str) -> str | None:
        """See the contract."""
        base = self.database
        with base.lock:
            if not base.is_live(node):
                return None
            base.nodes[node].asked = what
            return base.nodes[node].bell

    async def expire_lost(self, term: Term | None = None) -> list[NodeId]:
        """See the contract."""
        base = self.database
        with base.lock:
            base.named_locks.check_term(term)
            lost = sorted(node for node, row in base.nodes.items() if not row.lost and not base.is_live(node))
            for node in lost:
                base.nodes[node].lost = True
                base.nodes[node].epoch = base.next_epoch()
                base.disown_all(node)
            return lost

    async def claim(
        self, node: NodeId, epoch: Epoch, limit: int, run_ids: Sequence[RunId] | None = None
    ) -> list[RunId]:
        """See the contract."""
        base = self.database
        with base.lock:
            base.check_fence(node, epoch)
            now = base.clock()
            if run_ids is None:
                open_runs = (base.runs[run_id] for run_id in base.claimable)
                # Due timers first, then by age.
                order = [
                    (run.wake_at is None, run.wake_at or 0.0, run.run_id)
                    for run in open_runs
                    if (run.wake_at or now) <= now
                ]
                found = [run_id for _, _, run_id in heapq.nsmallest(max(limit, 0), order)]
            else:
                asked = (base.runs.get(run_id) for run_id in dict.fromkeys(run_ids))
                found = [run.run_id for run in asked if run is not None and run.owner is None][: max(limit, 0)]
            for run_id in found:
                base.runs[run_id].owner = node
                base.claimable.discard(run_id)
            return found

    async def release(self, node: NodeId, epoch: Epoch, run_ids: Sequence[RunId]) -> None:
        """See the contract."""
        base = self.database
        with base.lock:
            base.check_fence(node, epoch)
            for run_id in run_ids:
                run = base.runs.get(run_id)
                if run is not None and run.owner == node:
                    run.owner = None
                    base.index(run)

    # ---- locks ---------------------------------------------------------------------------------------------------

    async def take_lock(self, claim: LockClaim) -> LockTurn:
        """See the contract."""
        base = self.database
        with base.lock:
            base.check_fence(claim.node, claim.epoch)
            return base.named_locks.take(claim, base.clock(), base.lease_end, base.next_epoch)

    def renew_locks(self, node: NodeId, epoch: Epoch, renewals: Sequence[LockRenewal]) -> list[bool]:
        """See the contract."""
        base = self.database
        with base.lock:
            row = base.nodes.get(node)
            held = row is not None and row.epoch == epoch and not row.lost
            return [held and base.named_locks.renew(renewal, base.clock()) for renewal in renewals]

    async def release_lock(self, name: str, holder: str) -> str:
        """See the contract."""
        base = self.database
        with base.lock:
            heir = base.named_locks.release(name, holder, base.clock(), base.lease_end)
            return base.nodes[heir].bell if heir is not None else ""

    async def locks(self) -> list[LockRow]:
        """See the contract."""
        base = self.database
        with base.lock:
            return base.named_locks.rows(base.clock(), base.lease_end)

    # ---- keys ----------------------------------------------------------------------------------------------------

    async def reserve_key(
        self, node: NodeId, epoch: Epoch, workflow: str, key: str, run_id: RunId, kept_by: Sequence[str] = ()
    ) -> KeyHolder | None:
        """See the contract."""
        base = self.database
        with base.lock:
            base.check_fence(node, epoch)
            former = base.keys.get((workflow, key))
            if former is not None and former[0] != run_id:
                run = base.runs.get(former[0])
                if run is None:  # being created; or it never came into being
                    row = base.nodes.get(former[1])
                    held = row is not None and row.epoch == former[2]
                else:
                    held = run.ended_at is None or run.state in kept_by
                if held:
                    return KeyHolder(former[0], run.state if run is not None else None)
            base.keys[workflow, key] = (run_id, node, epoch)
            return None

    async def key_holder(self, workflow: str, key: str) -> KeyHolder | None:
        """See the contract."""
        base = self.database
        with base.lock:
            entry = base.keys.get((workflow, key))
            run = base.runs.get(entry[0]) if entry is not None else None
            return KeyHolder(run.run_id, run.state) if run is not None else None

    # ---- inbox ---------------------------------------------------------------------------------------------------

    async def post(self, run_id: RunId, kind: str, payload: dict[str, Any]) -> tuple[int, str]:
        """See the contract."""
        base = self.database
        with base.lock:
            run = base.runs.get(run_id)
            if run is None:
                raise NotFound(f"there is no run {run_id}", hint="`headrace runs` lists the runs there are")
            base.last_message += 1
            base.inbox[base.last_message] = InboxRow(base.last_message, run_id, kind, _copy(payload))
            run.wake_at = None
            return base.last_message, base.nodes[run.owner].bell if run.owner is not None and base.is_live(
                run.owner
            ) else ""

    async def inbox(self, run_ids: Sequence[RunId] | None, node: NodeId, limit: int = 1000) -> list[InboxRow]:
        """See the contract."""
        base = self.database
        with base.lock:
            asked = None if run_ids is None else set(run_ids)
            found = [
                message
                for message in base.inbox.values()
                if (base.runs[message.run_id].owner == node if asked is None else message.run_id in asked)
            ]
            return [
                msgspec.structs.replace(message, payload=_copy(message.payload)) for message in found[: max(limit, 0)]
            ]

    async def waiting_runs(self, limit: int = 1000) -> list[RunId]:
        """See the contract."""
        base = self.database
        with base.lock:
            unowned = (message.run_id for message in base.inbox.values() if base.runs[message.run_id].owner is None)
            return list(dict.fromkeys(unowned))[: max(limit, 0)]

    # ---- catalog -------------------------------------------------------------------------------------------------

    def _seen(self, run: RunRow) -> RunRow:
        copy = _copy(run)
        copy.live = self.database.is_live(run.owner)
        return copy

    async def run(self, run_id: RunId) -> RunRow | None:
        """See the contract."""
        with self.database.lock:
            run = self.database.runs.get(run_id)
            return self._seen(run) if run is not None else None

    async def runs(self, where: RunFilter) -> list[RunRow]:
        """See the contract."""
        with self.database.lock:
            found = (
                run
                for run in self.database.runs.values()
                if (where.workflow is None or run.workflow == where.workflow)
                and (not where.states or run.state in where.states)
                and (where.before is None or run.run_id < where.before)
                and all(run.tags.get(key) == value for key, value in where.tags.items())
                and (where.where is None or matches(where.where, lambda field, run=run: self._look(run, field)))
            )
            return [self._seen(run) for run in heapq.nlargest(max(where.limit, 0), found, key=lambda run: run.run_id)]

    def _look(self, run: RunRow, field: Field) -> list[Any]:
        """What a filter sees of a run."""
        if field.source == "tag":
            return [run.tags[field.name]] if field.name in run.tags else []
        if field.source == "attribute":
            return list(items_of(run.attributes[field.name])) if field.name in run.attributes else []
        if field.name == "id":
            return [run.run_id]
        if field.name == "duration":
            return [(run.ended_at if run.ended_at is not None else self.database.clock()) - run.created_at]
        if field.name == "status" and run.state in ("running", "cancelling"):
            if run.owner is None and run.wake_at is not None and run.wake_at > self.database.clock():
                return ["waiting"]
            return [run.state if self.database.is_live(run.owner) else "interrupted"]
        value = getattr(run, "state" if field.name == "status" else field.name)
        return [] if value is None else [value]

    async def find_runs(self, prefix: str, limit: int = 10) -> list[RunId]:
        """See the contract."""
        with self.database.lock:
            found = (run_id for run_id in self.database.runs if run_id.casefold().startswith(prefix.casefold()))
            return heapq.nlargest(max(limit, 0), found)

    async def workflows(self) -> list[WorkflowRow]:
        """See the contract."""
        with self.database.lock:
            latest = {row.name: row for row in self.database.workflows.values()}
        return [latest[name] for name in sorted(latest)]

    async def delete_runs(self, ended_before: float, limit: int = 500, term: Term | None = None) -> list[RunId]:
        """See the contract."""
        base = self.database
        with base.lock:
            base.named_locks.check_term(term)
            ended = (
                (run.ended_at, run.run_id)
                for run in base.runs.values()
                if run.ended_at is not None and run.ended_at < ended_before and run.owner is None
            )
            found = [run_id for _, run_id in heapq.nsmallest(max(limit, 0), ended)]
            for run_id in found:
                run = base.runs.pop(run_id)
                if run.key is not None and base.keys[run.workflow, run.key][0] == run_id:
                    del base.keys[run.workflow, run.key]
                base.events.pop(run_id, None)
            gone = set(found)
            base.inbox = {number: row for number, row in base.inbox.items() if row.run_id not in gone}
            base.ready = {key: row for key, row in base.ready.items() if row.offer.run_id not in gone}
            return found

    async def now(self) -> float:
        """See the contract."""
        return self.database.clock()
