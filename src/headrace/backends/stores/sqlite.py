"""The SQLite store: one file, one host, any number of processes, every commit durable.

Three connections, each on a thread of its own, so that nothing blocks the event loop: the *writer* runs whole
transactions, one hop each; the *reader* answers lists and histories from snapshots that do not disturb it; the
*renewer* belongs to the keeper's thread. They are opened in ``sqlite_opened``; what the statements do is in
``sqlite_history``, ``sqlite_leases``, ``sqlite_inbox``, ``sqlite_ready``, ``sqlite_named_locks`` and ``sqlite_catalog``.

Two processes on one file take turns; one that is suspended in the middle of a transaction keeps SQLite's lock, and
the others raise :class:`StoreUnavailable` until it goes on or is killed.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter  # by its own name: where workflow code runs, time.perf_counter is replaced
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

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
from headrace.backends.stores.sqlite_connection import (
    BUSY_SECONDS,
    RenewalGate,
    checkpoint,
    patiently,
    reading,
    roll_back,
    try_begin,
    writing,
)
from headrace.backends.stores.sqlite_errors import LOCKED, primary_code, translated, translating
from headrace.backends.stores.sqlite_files import file_system_of, path_of_url, prepare_place
from headrace.backends.stores.sqlite_locks import NodeLock, NodeLocks
from headrace.backends.stores.sqlite_opened import Opened
from headrace.backends.stores.sqlite_pace import Pace, is_small
from headrace.backends.stores.sqlite_transact import Transaction
from headrace.contracts.locks import STORE, LockClaim, LockRenewal, LockRow, LockTurn, Term
from headrace.contracts.ready import Beat, Claim, Offer, QueueRow, Result, Standing
from headrace.contracts.schedules import Due, Firing, ScheduleRow
from headrace.contracts.store import Flush, InboxRow, KeyHolder, NodeRow, RunFilter, RunRow, WorkflowRow
from headrace.contracts.wishes import Wish, Wished
from headrace.core.errors import StoreError
from headrace.core.ids import Epoch, NodeId, RunId, WorkflowVersion

P = ParamSpec("P")
T = TypeVar("T")


class SqliteStore:
    """The store contract over one SQLite file; see :class:`headrace.contracts.store.Store`.

    ``url``: ``sqlite:///relative.db``, ``sqlite:////absolute.db``, or ``sqlite://`` for a private temporary database,
    which is removed by :meth:`close` and does not wait for the disk, as nobody can read it after a crash.
    ``busy_seconds``: how long a call waits for another process's lock before :class:`StoreUnavailable`.
    ``clock`` and ``file_system`` (the type of the file system under a path) are there for tests.
    """

    def __init__(
        self,
        url: str,
        *,
        busy_seconds: float = BUSY_SECONDS,
        clock: Callable[[], float] = time.time,
        file_system: Callable[[Path], str] = file_system_of,
    ) -> None:
        self.url = url
        self._path = path_of_url(url)
        self._busy_seconds = busy_seconds
        self._clock = clock
        self._file_system = file_system
        self._temporary: Path | None = None
        self._locks = NodeLocks(self._path or Path())
        self._held: dict[NodeId, tuple[Epoch, NodeLock]] = {}
        self._opened: Opened | None = None
        self._gate = RenewalGate()
        self._pace = Pace()
        self._renewing = threading.Lock()

    @property
    def path(self) -> Path:
        """The database file. Of a temporary database it is known once the store is open."""
        if self._path is None:
            raise StoreError("a temporary database has no file before it is opened")
        return self._path

    async def open(self) -> None:
        """See the contract. Creates the file and its folder if needed. Idempotent."""
        if self._opened is None:
            self._opened = await asyncio.to_thread(self._open)

    def _open(self) -> Opened:
        if self._path is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="headrace-"))
            self._path = self._temporary / "headrace.db"
            self._locks = NodeLocks(self._path)
        prepare_place(self._path, self._file_system)
        return Opened(self._path, "OFF" if self._temporary else "FULL", self._busy_seconds)

    async def close(self) -> None:
        """Finish what was asked, release everything. A node that has not left counts as dead from now on.
        Idempotent."""
        opened, self._opened = self._opened, None
        if opened is None:
            return
        await opened.stop()
        await asyncio.to_thread(self._close, opened)

    def _close(self, opened: Opened) -> None:
        with self._renewing:
            opened.renewer.close()
        for _, lock in self._held.values():
            lock.release(remove=False)
        self._held.clear()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = self._path = None

    # ---- the ways to the threads ------------------------------------------------------------------------------------

    def _ready(self) -> Opened:
        if self._opened is None:
            raise StoreError(
                f"the store {self.url} is not open", hint="call open() first; a closed store may be opened again"
            )
        return self._opened

    async def _write(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a function in one write transaction on the writer's thread; durable on return."""
        assert not kwargs
        return await self._ready().writer.call(self._transaction, function, args)

    def _transaction(self, db: sqlite3.Connection, function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        self._gate.pass_()
        with translating(str(self._path)), writing(db, self._busy_seconds):
            return function(db, *arguments)

    async def _read(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a function over one snapshot on the reader's thread."""
        assert not kwargs
        return await self._ready().reader.call(self._snapshot, function, args)

    def _snapshot(self, db: sqlite3.Connection, function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        with translating(str(self._path)), reading(db):
            return function(db, *arguments)

    # ---- history -------------------------------------------------------------------------------------------------

    async def commit(self, flush: Flush) -> None:
        """See the contract. The caller leaves the flush alone until this returns."""
        await self._ready().writer.call(self._commit, flush)

    def commit_now(self, flush: Flush) -> bool:
        """See the contract. Small flushes only, and only while the disk is quick: see :mod:`.sqlite_pace`."""
        if not (self._pace.is_quick and self._gate.is_open):
            return False
        rest = flush.new_runs or flush.updates or flush.inbox_done or flush.outcomes_done
        if len(flush.events) == 1 and not rest:
            commit = self._commit_event
        elif is_small(flush):
            commit = self._commit_idle
        else:
            return False
        return (self._opened or self._ready()).writer.now(commit, flush) or False

    def _commit(self, db: sqlite3.Connection, flush: Flush) -> None:
        self._gate.pass_()
        with translating(str(self._path)):
            patiently(lambda: db.execute("BEGIN IMMEDIATE"), self._busy_seconds)
            self._commit_begun(db, flush, small=is_small(flush))

    def _commit_event(self, db: sqlite3.Connection, flush: Flush) -> bool:
        """One statement, and a transaction of its own: this is the hop of every chain, and what is not done costs
        nothing. A store that is locked and an event that cannot be inserted are left to the long way."""
        begun = perf_counter()
        try:  # what translating() does, without the cost of a generator
            run_id, seq, data = flush.events[0]  # sqlite_history.insert_fenced, without the call
            event = (run_id, seq, data.decode(), flush.node, flush.epoch)
            if db.execute(sqlite_history.INSERT_FENCED, event).rowcount != 1:
                return False
        except (sqlite3.IntegrityError, UnicodeDecodeError):
            return False
        except sqlite3.Error as error:
            if primary_code(error) in LOCKED:
                return False
            raise translated(error, str(self._path)) from error
        if self._pace.saw(perf_counter() - begun):
            self._checkpoint()
        return True

    def _commit_idle(self, db: sqlite3.Connection, flush: Flush) -> bool:
        with translating(str(self._path)):
            if not try_begin(db):
                return False
            self._commit_begun(db, flush, small=True)
        return True

    def _commit_begun(self, db: sqlite3.Connection, flush: Flush, *, small: bool) -> None:
        begun = perf_counter()
        try:
            sqlite_history.commit(db, flush)
            db.execute("COMMIT")
        except BaseException:
            roll_back(db)
            raise
        if small and self._pace.saw(perf_counter() - begun):
            self._checkpoint()

    def _checkpoint(self) -> None:
        opened = self._opened  # None for the last commit before the end, which closing checkpoints anyway
        if opened is not None:
            opened.writer.give(checkpoint)

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
            sqlite_leases.leave(db, node, epoch)
            held = self._held.get(node)
            if held is not None and held[0] == epoch:
                held[1].release(remove=True)
                del self._held[node]
                self._locks.remove_folder()

        await self._write(work)

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

    def _transact(self, db: sqlite3.Connection, transaction: Transaction) -> bytes:
        self._gate.pass_()
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
