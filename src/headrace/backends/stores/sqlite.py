"""The SQLite store: one file, one host, any number of processes, every commit durable.

Three connections, each on a thread of its own, so that nothing blocks the event loop: the *writer* runs whole
transactions, one hop each; the *reader* answers lists and histories from snapshots that do not disturb it; the
*renewer* belongs to the keeper's thread. They, and the commits, are in ``sqlite_file``; what the statements do is in
``sqlite_history``, ``sqlite_leases``, ``sqlite_inbox``, ``sqlite_ready``, ``sqlite_named_locks`` and ``sqlite_catalog``.

Two processes on one file take turns; one that is suspended in the middle of a transaction keeps SQLite's lock, and
the others raise :class:`StoreUnavailable` until it goes on or is killed.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from headrace.backends.stores import (
    sqlite_catalog,
    sqlite_history,
    sqlite_inbox,
    sqlite_keys,
    sqlite_leases,
    sqlite_named_locks,
    sqlite_ready,
    sqlite_schedules,
    sqlite_wishes,
)
from headrace.backends.stores.sqlite_connection import writing
from headrace.backends.stores.sqlite_errors import translating
from headrace.backends.stores.sqlite_file import SqliteFile
from headrace.backends.stores.sqlite_lent import Lender
from headrace.backends.stores.sqlite_transact import Transaction
from headrace.contracts.locks import STORE, LockClaim, LockRenewal, LockRow, LockTurn, Term
from headrace.contracts.ready import Beat, Claim, Offer, QueueRow, Result, Standing
from headrace.contracts.schedules import Due, Firing, ScheduleRow
from headrace.contracts.store import InboxRow, KeyHolder, NodeRow, RunFilter, RunRow, WorkflowRow
from headrace.contracts.wishes import Wish, Wished
from headrace.core.ids import Epoch, NodeId, RunId, WorkflowVersion


class SqliteStore(SqliteFile):
    """The store contract over one SQLite file; see :class:`headrace.contracts.store.Store`.

    ``url``: ``sqlite:///relative.db``, ``sqlite:////absolute.db``, or ``sqlite://`` for a private temporary database,
    which is removed by :meth:`close` and does not wait for the disk, as nobody can read it after a crash.
    ``busy_seconds``: how long a call waits for another process's lock before :class:`StoreUnavailable`.
    ``clock`` and ``file_system`` (the type of the file system under a path) are there for tests.
    """

    # ---- history -------------------------------------------------------------------------------------------------

    async def history(self, run_id: RunId, after: int = 0, limit: int | None = None) -> list[tuple[int, bytes]]:
        """See the contract."""
        return await self._read(sqlite_history.history, run_id, after, limit)

    async def put_workflow(self, row: WorkflowRow) -> None:
        """See the contract."""
        await self._write(sqlite_history.put_workflow, row)

    async def workflow(self, version: WorkflowVersion) -> WorkflowRow | None:
        """See the contract."""
        return await self._read(sqlite_history.workflow, version)

    async def workflow_named(self, name: str) -> WorkflowRow | None:
        """See the contract."""
        return await self._read(sqlite_history.workflow_named, name)

    # ---- leases --------------------------------------------------------------------------------------------------

    async def join(self, node: NodeId, lease_seconds: float, bell: str, info: dict[str, Any]) -> Epoch:
        """See the contract."""

        def work(db: sqlite3.Connection) -> Epoch:
            # _held belongs to the writer's thread.
            if (former := self._held.pop(node, None)) is not None:
                former[1].release(remove=True)
            epoch, lock = sqlite_leases.join(
                db, self._locks, node=node, lease_seconds=lease_seconds, bell=bell, info=info, now=self._clock()
            )
            if lock is not None:
                self._held[node] = (epoch, lock)
            return epoch

        return await self._write(work)

    def renew(self, node: NodeId, epoch: Epoch, lease_seconds: float) -> bool:
        """See the contract. Waits at most a third of the lease for a lock."""
        with self._renewing:
            db = self._ready().renewer
            patience = min(self._busy_seconds, lease_seconds / 3)
            with self._gate.first(), translating(str(self._path)), writing(db, patience):
                return sqlite_leases.renew(db, node, epoch, lease_seconds, self._clock())

    async def leave(self, node: NodeId, epoch: Epoch) -> None:
        """See the contract."""

        def work(db: sqlite3.Connection) -> None:
            self._transaction(db, sqlite_leases.leave, (node, epoch))
            # Only after the commit: while the row stands, its unlocked file is all that says that the node is gone.
            held = self._held.get(node)
            if held is not None and held[0] == epoch:
                held[1].release(remove=True)
                del self._held[node]
                self._locks.remove_folder()

        await self._ready().writer.call(work)

    async def nodes(self) -> list[NodeRow]:
        """See the contract. Nodes that were lost stay listed for a day."""
        return await self._read(lambda db: sqlite_leases.nodes(db, self._clock()))

    async def describe_node(self, node: NodeId, epoch: Epoch, info: dict[str, Any]) -> None:
        """See the contract."""
        await self._write(sqlite_leases.describe, node, epoch, info)

    async def ask_node(self, node: NodeId, what: str) -> str | None:
        """See the contract."""
        return await self._write(lambda db: sqlite_leases.ask(db, node, what, self._clock()))

    async def expire_lost(self, term: Term | None = None) -> list[NodeId]:
        """See the contract. A process that was killed is recognised at once by its lock file."""

        def work(db: sqlite3.Connection) -> list[NodeId]:
            sqlite_named_locks.check_term(db, term)
            return sqlite_leases.expire_lost(db, self._locks, self._clock())

        def look(db: sqlite3.Connection) -> bool:
            return sqlite_leases.anyone_lost(db, self._locks, self._clock())

        # A term of another authority is remembered, so that a lower one is refused from then on.
        if (term is None or term.authority == STORE) and not await self._read(look):
            return []
        return await self._write(work)

    async def claim(
        self, node: NodeId, epoch: Epoch, limit: int, run_ids: Sequence[RunId] | None = None
    ) -> list[RunId]:
        """See the contract."""
        return await self._write(
            lambda db: sqlite_leases.claim(db, node, epoch, limit=limit, run_ids=run_ids, now=self._clock())
        )

    async def release(self, node: NodeId, epoch: Epoch, run_ids: Sequence[RunId]) -> None:
        """See the contract."""
        await self._write(sqlite_leases.release, node, epoch, run_ids)

    # ---- locks ---------------------------------------------------------------------------------------------------

    async def take_lock(self, claim: LockClaim) -> LockTurn:
        """See the contract."""
        found = None
        if not claim.queue:
            found = await self._read(lambda db: sqlite_named_locks.elsewhere(db, self._locks, claim, self._clock()))
        return found or await self._write(lambda db: sqlite_named_locks.take(db, self._locks, claim, self._clock()))

    def renew_locks(self, node: NodeId, epoch: Epoch, renewals: Sequence[LockRenewal]) -> list[bool]:
        """See the contract. Waits at most a third of the shortest time for SQLite's lock."""
        if not renewals:
            return []
        with self._renewing:
            db = self._ready().renewer
            patience = min(self._busy_seconds, min(renewal.ttl_seconds for renewal in renewals) / 3)
            with self._gate.first(), translating(str(self._path)), writing(db, patience):
                return sqlite_named_locks.renew(db, node, epoch, renewals, self._clock())

    async def release_lock(self, name: str, holder: str) -> str:
        """See the contract."""
        return await self._write(lambda db: sqlite_named_locks.release(db, self._locks, name, holder, self._clock()))

    async def locks(self) -> list[LockRow]:
        """See the contract."""
        return await self._read(lambda db: sqlite_named_locks.rows(db, self._locks, self._clock()))

    # ---- keys ----------------------------------------------------------------------------------------------------

    async def reserve_key(
        self, node: NodeId, epoch: Epoch, workflow: str, key: str, run_id: RunId, kept_by: Sequence[str] = ()
    ) -> KeyHolder | None:
        """See the contract."""

        def work(db: sqlite3.Connection) -> KeyHolder | None:
            sqlite_history.check_fence(db, node, epoch)
            return sqlite_keys.reserve(
                db, node=node, epoch=epoch, workflow=workflow, key=key, run_id=run_id, kept_by=kept_by
            )

        return await self._write(work)

    async def key_holder(self, workflow: str, key: str) -> KeyHolder | None:
        """See the contract."""
        return await self._read(sqlite_keys.holder, workflow, key)

    # ---- database tasks ------------------------------------------------------------------------------------------

    waits_in_transactions = False

    async def transact(
        self, node: NodeId, epoch: Epoch, run_id: RunId, task: str, work: Callable[[sqlite3.Connection], bytes]
    ) -> bytes:
        """See the contract. On a connection and a thread of its own; commits of the engine wait meanwhile."""
        transaction = Transaction(node, epoch, run_id, task, work)
        try:
            return await self._ready().tasks_thread().call(self._transact, transaction)
        except asyncio.CancelledError:
            transaction.cancel()
            raise

    def _transact(self, lender: Lender, transaction: Transaction) -> bytes:
        self._gate.pass_()
        with lender.lent() as db:
            return transaction.run(db, self._busy_seconds)

    # ---- inbox ---------------------------------------------------------------------------------------------------

    async def post(self, run_id: RunId, kind: str, payload: dict[str, Any]) -> tuple[int, str]:
        """See the contract."""
        data = msgspec.json.encode(payload)
        return await self._write(lambda db: sqlite_inbox.post(db, run_id, kind, data, self._clock()))

    async def inbox(self, run_ids: Sequence[RunId] | None, node: NodeId, limit: int = 1000) -> list[InboxRow]:
        """See the contract."""
        return await self._read(sqlite_inbox.inbox, run_ids, node, limit)

    async def waiting_runs(self, limit: int = 1000) -> list[RunId]:
        """See the contract."""
        return await self._read(sqlite_inbox.waiting_runs, limit)

    # ---- wishes --------------------------------------------------------------------------------------------------

    async def wish(self, node: NodeId, run_ids: Sequence[RunId], changes: Sequence[RunId] = ()) -> list[Wished]:
        """See the contract. Looks first: who waits asks again and again, and writers take turns."""
        found, missing = await self._read(sqlite_wishes.seen, node, run_ids, changes)
        if missing:
            await self._write(sqlite_wishes.add, node, run_ids, changes)
            found, _ = await self._read(sqlite_wishes.seen, node, run_ids, changes)
        return found

    async def wishes(self, node: NodeId, run_ids: Sequence[RunId] | None = None) -> list[Wish]:
        """See the contract."""
        return await self._read(lambda db: sqlite_wishes.wishes(db, node, run_ids, self._clock()))

    async def forget_wishes(self, wishes: Sequence[tuple[RunId, NodeId]]) -> None:
        """See the contract."""
        await self._write(sqlite_wishes.forget, wishes)

    # ---- attempts on offer ---------------------------------------------------------------------------------------

    async def offer(self, node: NodeId, epoch: Epoch, offers: Sequence[Offer]) -> None:
        """See the contract."""
        await self._write(lambda db: sqlite_ready.offer(db, node, epoch, offers, self._clock()))

    async def claim_attempts(
        self, node: NodeId, epoch: Epoch, queues: Sequence[str], labels: Mapping[str, str], room: Mapping[str, int]
    ) -> list[Claim]:
        """See the contract. Writes only if there is something to claim."""
        if not await self._read(sqlite_ready.any_waiting, queues, labels, room, self._clock()):
            return []
        return await self._write(
            lambda db: sqlite_ready.claim(
                db, node=node, epoch=epoch, queues=queues, labels=labels, room=room, now=self._clock()
            )
        )

    async def held(self, node: NodeId, epoch: Epoch) -> list[Claim]:
        """See the contract."""
        return await self._read(sqlite_ready.held, node, epoch)

    async def report(self, node: NodeId, epoch: Epoch, beats: Sequence[Beat]) -> dict[str, Literal["stop", "lost"]]:
        """See the contract. Writes only if heartbeats said something."""

        def work(db: sqlite3.Connection) -> dict[str, Literal["stop", "lost"]]:
            sqlite_ready.keep_details(db, node, epoch, beats)
            return sqlite_ready.look(db, node, epoch, beats)

        if any(beat.details is not None for beat in beats):
            return await self._write(work)
        return await self._read(sqlite_ready.look, node, epoch, beats)

    async def complete(self, node: NodeId, epoch: Epoch, results: Sequence[Result]) -> list[str | None]:
        """See the contract."""
        return await self._write(lambda db: sqlite_ready.complete(db, node, epoch, results, self._clock()))

    async def give_back(self, node: NodeId, epoch: Epoch, claims: Sequence[Beat]) -> None:
        """See the contract."""
        await self._write(sqlite_ready.give_back, node, epoch, claims)

    async def requeue_lost(self, limit: int = 1000) -> tuple[int, list[str]]:
        """See the contract."""
        if not await self._read(sqlite_ready.anything_lost):
            return 0, []
        return await self._write(lambda db: sqlite_ready.requeue_lost(db, limit, self._clock()))

    async def withdraw(
        self, node: NodeId, epoch: Epoch, keys: Sequence[str], *, stop: bool = True
    ) -> list[tuple[str, str]]:
        """See the contract."""
        return await self._write(lambda db: sqlite_ready.withdraw(db, node, epoch, keys, self._clock(), stop=stop))

    async def offered(self, node: NodeId, limit: int = 100_000) -> list[Standing]:
        """See the contract."""
        return await self._read(sqlite_ready.offered, node, limit)

    async def queues(self) -> list[QueueRow]:
        """See the contract."""
        return await self._read(lambda db: sqlite_ready.queues(db, self._clock()))

    # ---- schedules -----------------------------------------------------------------------------------------------

    async def schedules(self, after: str = "", limit: int = 1000) -> list[ScheduleRow]:
        """See the contract."""
        return await self._read(sqlite_schedules.schedules, after, limit)

    async def schedule(self, name: str) -> ScheduleRow | None:
        """See the contract."""
        return await self._read(sqlite_schedules.schedule, name)

    async def due_schedules(self, limit: int = 100) -> Due:
        """See the contract."""
        return await self._read(lambda db: sqlite_schedules.due(db, limit, self._clock()))

    async def put_schedule(self, row: ScheduleRow) -> bool:
        """See the contract."""
        return await self._write(sqlite_schedules.put, row)

    async def remove_schedule(self, name: str) -> bool:
        """See the contract."""
        return await self._write(sqlite_schedules.remove, name)

    async def fire(self, firing: Firing) -> bool:
        """See the contract."""
        return await self._write(sqlite_schedules.fire, firing)

    # ---- catalog -------------------------------------------------------------------------------------------------

    async def run(self, run_id: RunId) -> RunRow | None:
        """See the contract."""

        def read(db: sqlite3.Connection) -> RunRow | None:
            row = sqlite_catalog.run(db, run_id, self._clock())
            sqlite_leases.judge(db, self._locks, [row] if row else [])
            return row

        return await self._read(read)

    async def runs(self, where: RunFilter) -> list[RunRow]:
        """See the contract."""

        def read(db: sqlite3.Connection) -> list[RunRow]:
            now = self._clock()
            live = [] if where.where is None else sqlite_leases.live_nodes(db, self._locks, now)
            rows = sqlite_catalog.runs(db, where, now, live)
            sqlite_leases.judge(db, self._locks, rows)
            return rows

        return await self._read(read)

    async def find_runs(self, prefix: str, limit: int = 10) -> list[RunId]:
        """See the contract."""
        return await self._read(sqlite_catalog.find_runs, prefix, limit)

    async def workflows(self) -> list[WorkflowRow]:
        """See the contract."""
        return await self._read(sqlite_history.workflows)

    async def delete_runs(self, ended_before: float, limit: int = 500, term: Term | None = None) -> list[RunId]:
        """See the contract. The runs are gone in one transaction; their events follow in small ones, between which
        commits take their turn. If that is cut short, the next call goes on with it."""

        def work(db: sqlite3.Connection) -> list[RunId]:
            sqlite_named_locks.check_term(db, term)
            return sqlite_catalog.delete_rows(db, ended_before, limit)

        deleted = await self._write(work)
        while await self._write(sqlite_catalog.delete_events):
            pass
        return deleted

    async def now(self) -> float:
        """See the contract: the clock of this host, the only one that can hold the file."""
        return self._clock()
