"""The PostgreSQL store: one database, any number of nodes on any number of hosts.

- Whatever writes is one SQL function (``postgres_migrations/``): one round trip, one transaction. Every one of them that
  needs the lease checks the epoch first and holds a lock on it until it has committed.
- The database's clock judges leases and timers; the clocks of nodes do not matter.
- Five connections per node at most: one for flushes, three for everything else, one for the lease, which is renewed on a
  thread of its own. All are made again when they break; what was under way then ends in :class:`StoreUnavailable`, and a
  flush may be repeated whatever became of it. A node has a sixth one, for wake-ups
  (:mod:`headrace.backends.brokers.postgres`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import msgspec

from headrace.backends.stores import postgres_catalog as catalog
from headrace.backends.stores import postgres_ready as ready
from headrace.backends.stores import postgres_schedules, postgres_wishes
from headrace.backends.stores.database_claims import Claims
from headrace.backends.stores.database_opened import OTHER_CONNECTIONS, Opened
from headrace.backends.stores.postgres_connections import Connection, pool_of
from headrace.backends.stores.postgres_history import (
    FLUSH_ARGUMENTS,
    FLUSH_MORE_ARGUMENTS,
    SELECT_WORKFLOW,
    call_text,
    flush_arguments,
    is_plain,
    more_arguments,
    outcome_arguments,
    workflow_row,
)
from headrace.backends.stores.postgres_renewal import Renewal
from headrace.backends.stores.postgres_schema import prepare_database
from headrace.backends.stores.postgres_transact import Transaction
from headrace.backends.stores.postgres_url import place_of_url
from headrace.backends.stores.run_rows import run_row
from headrace.contracts.broker import Broker
from headrace.contracts.locks import PLACE_SECONDS, LockClaim, LockRenewal, LockRow, LockTurn, Term
from headrace.contracts.ready import DELIVERIES_MAX, Beat, Claim, Offer, QueueRow, Result, Standing
from headrace.contracts.schedules import Due, Firing, ScheduleRow
from headrace.contracts.store import Flush, InboxRow, KeyHolder, NodeRow, RunFilter, RunRow, WorkflowRow
from headrace.contracts.wishes import Wish, Wished
from headrace.core.errors import NotFound, StoreError
from headrace.core.ids import Epoch, NodeId, RunId, WorkflowVersion

T = TypeVar("T")


class PostgresStore:
    """The store contract over a schema of a PostgreSQL database; see :class:`headrace.contracts.store.Store`.

    ``url``: see :mod:`.postgres_url`. :attr:`url` is without passwords. One event loop at a time; :meth:`renew` may be
    called from any thread.
    """

    def __init__(self, url: str) -> None:
        self._place = place_of_url(url)
        self.url = self._place.shown
        self._schema = self._place.schema
        self._opened: Opened[Connection, Renewal] | None = None
        self._claims: dict[tuple[NodeId, Epoch], Claims] = {}
        self._flush = call_text(self._schema, "flush_1", FLUSH_ARGUMENTS)
        self._flush_more = call_text(self._schema, "flush_more_1", FLUSH_MORE_ARGUMENTS)

    async def open(self) -> None:
        """See the contract. Makes the schema if needed, not the database. Does not wait for a server that is down.
        Idempotent."""
        if self._opened is not None:
            return
        writer = pool_of(self._place, 1)
        try:
            await writer.open()
            await writer.call(lambda db: prepare_database(db, self._place))
        except BaseException:
            await writer.close()
            raise
        self._opened = Opened(writer, pool_of(self._place, OTHER_CONNECTIONS), Renewal(self._place))

    async def close(self) -> None:
        """See the contract. Waits shortly for the calls under way."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()

    def broker(self) -> Broker:
        """What carries wake-ups between the nodes on this database, over a sixth connection."""
        from headrace.backends.brokers.postgres import postgres_broker  # noqa: PLC0415 - only nodes need it

        return postgres_broker(self._place)

    def _ready(self) -> Opened[Connection, Renewal]:
        if self._opened is None:
            raise StoreError(
                f"the store {self.url} is not open", hint="call open() first; a closed store may be opened again"
            )
        return self._opened

    async def _call(self, function: Callable[[Connection], Awaitable[T]], *, repeatable: bool = False) -> T:
        return await self._ready().others.call(function, repeatable=repeatable)

    async def _value(self, function: str, *arguments: Any, repeatable: bool = False) -> Any:
        """What one of our functions returns."""
        text = call_text(self._schema, function, len(arguments))
        return await self._call(lambda db: db.fetchval(text, *arguments), repeatable=repeatable)

    async def _row(self, text: str, *arguments: Any) -> Any:
        """The first row of a query, or None."""
        return await self._call(lambda db: db.fetchrow(self._named(text), *arguments), repeatable=True)

    async def _rows(self, text: str, *arguments: Any) -> list[Any]:
        """The rows of a query."""
        return await self._call(lambda db: db.fetch(self._named(text), *arguments), repeatable=True)

    def _named(self, text: str) -> str:
        return text.replace("{schema}", self._schema)

    # ---- history -------------------------------------------------------------------------------------------------

    async def commit(self, flush: Flush) -> None:
        """See the contract."""
        if is_plain(flush):
            text, arguments = self._flush, flush_arguments(flush)
        elif flush.outcomes_done:
            arguments = [*outcome_arguments(flush), *flush_arguments(flush), *more_arguments(flush)]
            text = call_text(self._schema, "flush_outcomes_1", len(arguments))
        else:
            text, arguments = self._flush_more, [*flush_arguments(flush), *more_arguments(flush)]
        await self._ready().writer.call(lambda db: db.fetchval(text, *arguments))

    def commit_now(self, flush: Flush) -> bool:
        """See the contract: a network is always waited for."""
        return False

    async def history(self, run_id: RunId, after: int = 0, limit: int | None = None) -> list[tuple[int, bytes]]:
        """See the contract."""
        rows = await self._rows(
            "SELECT seq, convert_to(data, 'UTF8') FROM {schema}.events WHERE run_id = $1 AND seq > $2"
            " ORDER BY seq LIMIT $3",
            run_id,
            after,
            None if limit is None else max(limit, 0),
        )
        return [(seq, data) for seq, data in rows]

    async def put_workflow(self, row: WorkflowRow) -> None:
        """See the contract."""
        await self._value(
            "put_workflow_1", row.version, row.name, row.created_at, row.source, row.data.decode(), repeatable=True
        )

    async def workflow(self, version: WorkflowVersion) -> WorkflowRow | None:
        """See the contract."""
        found = await self._row(f"{SELECT_WORKFLOW} WHERE version = $1", version)
        return workflow_row(found) if found else None

    async def workflow_named(self, name: str) -> WorkflowRow | None:
        """See the contract."""
        found = await self._row(f"{SELECT_WORKFLOW} WHERE name = $1 ORDER BY put_number DESC LIMIT 1", name)
        return workflow_row(found) if found else None

    # ---- leases --------------------------------------------------------------------------------------------------

    async def join(self, node: NodeId, lease_seconds: float, bell: str, info: dict[str, Any]) -> Epoch:
        """See the contract."""
        return Epoch(await self._value("join_2", node, lease_seconds, bell, msgspec.json.encode(info).decode()))

    def renew(self, node: NodeId, epoch: Epoch, lease_seconds: float) -> bool:
        """See the contract. Waits at most a third of the lease for the database."""
        return self._ready().renewal.renew(node, epoch, lease_seconds)

    async def leave(self, node: NodeId, epoch: Epoch) -> None:
        """See the contract."""
        await self._value("leave_2", node, epoch, repeatable=True)
        self._claims.pop((node, epoch), None)

    async def nodes(self) -> list[NodeRow]:
        """See the contract. Nodes that were lost stay listed for a day."""
        return [catalog.node_row(row) for row in await self._rows(catalog.SELECT_NODES)]

    async def describe_node(self, node: NodeId, epoch: Epoch, info: dict[str, Any]) -> None:
        """See the contract."""
        await self._value("describe_node_1", node, epoch, msgspec.json.encode(info).decode(), repeatable=True)

    async def ask_node(self, node: NodeId, what: str) -> str | None:
        """See the contract."""
        return await self._value("ask_node_1", node, what, repeatable=True)

    async def expire_lost(self, term: Term | None = None) -> list[NodeId]:
        """See the contract."""
        return [NodeId(node) for node in await self._value("expire_lost_2", *_term(term))]

    async def claim(
        self, node: NodeId, epoch: Epoch, limit: int, run_ids: Sequence[RunId] | None = None
    ) -> list[RunId]:
        """See the contract. What a claim took whose answer never came is given up by the next one."""
        claims = self._claims.setdefault((node, epoch), Claims())
        async with claims.turn:  # the next claim must know what became of this one
            claims.last += 1
            number = claims.last
            named = None if run_ids is None else list(run_ids)
            found = await self._value("claim_1", node, epoch, max(limit, 0), named, number, claims.known)
            claims.known = number
        return [RunId(run_id) for run_id in found]

    async def release(self, node: NodeId, epoch: Epoch, run_ids: Sequence[RunId]) -> None:
        """See the contract."""
        await self._value("release_1", node, epoch, list(run_ids), repeatable=True)

    # ---- locks ---------------------------------------------------------------------------------------------------

    async def take_lock(self, claim: LockClaim) -> LockTurn:
        """See the contract."""
        found = await self._row(
            "SELECT * FROM {schema}.take_lock_1($1, $2, $3, $4, $5, $6, $7)",
            *(claim.name, claim.holder, claim.node, claim.epoch, claim.ttl_seconds, claim.queue, PLACE_SECONDS),
        )
        return LockTurn(*found)

    def renew_locks(self, node: NodeId, epoch: Epoch, renewals: Sequence[LockRenewal]) -> list[bool]:
        """See the contract. Waits at most a third of the shortest time for the database."""
        if not renewals:
            return []
        text = call_text(self._schema, "renew_locks_1", 6)
        columns = [list(column) for column in zip(*map(msgspec.structs.astuple, renewals), strict=True)]

        async def work(connection: Connection) -> set[int]:
            return set(await connection.fetchval(text, node, epoch, *columns))

        kept = self._ready().renewal.call(work, min(renewal.ttl_seconds for renewal in renewals) / 3)
        return [place in kept for place in range(1, len(renewals) + 1)]

    async def release_lock(self, name: str, holder: str) -> str:
        """See the contract."""
        return await self._value("release_lock_1", name, holder, repeatable=True)

    async def locks(self) -> list[LockRow]:
        """See the contract."""
        return [LockRow(*row) for row in await self._rows(catalog.SELECT_LOCKS)]

    # ---- keys ----------------------------------------------------------------------------------------------------

    async def reserve_key(
        self, node: NodeId, epoch: Epoch, workflow: str, key: str, run_id: RunId, kept_by: Sequence[str] = ()
    ) -> KeyHolder | None:
        """See the contract."""
        found = await self._row(
            "SELECT * FROM {schema}.reserve_key_1($1, $2, $3, $4, $5, $6)",
            *(node, epoch, workflow, key, run_id, list(kept_by)),
        )
        return KeyHolder(RunId(found[0]), found[1]) if found else None

    async def key_holder(self, workflow: str, key: str) -> KeyHolder | None:
        """See the contract."""
        found = await self._row(catalog.SELECT_KEY_HOLDER, workflow, key)
        return KeyHolder(RunId(found[0]), found[1]) if found else None

    # ---- database tasks ------------------------------------------------------------------------------------------

    waits_in_transactions = True

    async def transact(
        self, node: NodeId, epoch: Epoch, run_id: RunId, task: str, work: Callable[[Any], Awaitable[bytes]]
    ) -> bytes:
        """See the contract. One at a time."""
        tasks = await self._ready().tasks()
        return await Transaction(self._place, node, epoch, run_id, task, work).run(tasks)

    # ---- inbox ---------------------------------------------------------------------------------------------------

    async def post(self, run_id: RunId, kind: str, payload: dict[str, Any]) -> tuple[int, str]:
        """See the contract. Not tried again if the connection breaks: the message may have been stored."""
        text = f"SELECT message, bell FROM {self._schema}.post_1($1, $2, $3)"
        data = msgspec.json.encode(payload).decode()
        found = await self._call(lambda db: db.fetchrow(text, run_id, kind, data))
        if found is None:
            raise NotFound(f"there is no run {run_id}", hint="`headrace runs` lists the runs there are")
        return found[0], found[1]

    async def inbox(self, run_ids: Sequence[RunId] | None, node: NodeId, limit: int = 1000) -> list[InboxRow]:
        """See the contract."""
        text, whose = (
            (catalog.SELECT_INBOX_OWNED, node) if run_ids is None else (catalog.SELECT_INBOX_OF_RUNS, list(run_ids))
        )
        return [catalog.inbox_row(row) for row in await self._rows(text, whose, max(limit, 0))]

    async def waiting_runs(self, limit: int = 1000) -> list[RunId]:
        """See the contract."""
        return [RunId(row[0]) for row in await self._rows(catalog.SELECT_WAITING_RUNS, max(limit, 0))]

    # ---- wishes --------------------------------------------------------------------------------------------------

    async def wish(self, node: NodeId, run_ids: Sequence[RunId], changes: Sequence[RunId] = ()) -> list[Wished]:
        """See the contract."""
        await self._rows(postgres_wishes.ADD, node, list(run_ids), list(changes))
        return [postgres_wishes.wished_of(row) for row in await self._rows(postgres_wishes.SEEN, list(run_ids))]

    async def wishes(self, node: NodeId, run_ids: Sequence[RunId] | None = None) -> list[Wish]:
        """See the contract."""
        text, whose = (postgres_wishes.OF_OWNER, node) if run_ids is None else (postgres_wishes.OF_RUNS, list(run_ids))
        return [postgres_wishes.wish_of(row) for row in await self._rows(text, whose)]

    async def forget_wishes(self, wishes: Sequence[tuple[RunId, NodeId]]) -> None:
        """See the contract."""
        once = sorted(set(wishes))
        await self._rows(postgres_wishes.FORGET, [run_id for run_id, _ in once], [node for _, node in once])

    # ---- attempts on offer ---------------------------------------------------------------------------------------

    async def _table(self, function: str, *arguments: Any, repeatable: bool = False) -> list[Any]:
        """The rows of one of our functions."""
        text = call_text(self._schema, function, len(arguments)).replace("SELECT ", "SELECT * FROM ", 1)
        return await self._call(lambda db: db.fetch(text, *arguments), repeatable=repeatable)

    async def offer(self, node: NodeId, epoch: Epoch, offers: Sequence[Offer]) -> None:
        """See the contract."""
        if offers:
            once = list({one.key: one for one in offers}.values())
            await self._value("offer_2", node, epoch, *ready.offer_arguments(once), repeatable=True)

    async def claim_attempts(
        self, node: NodeId, epoch: Epoch, queues: Sequence[str], labels: Mapping[str, str], room: Mapping[str, int]
    ) -> list[Claim]:
        """See the contract. Claims whose answer never came are lost with the claimer's lease."""
        wanted = {executor: limit for executor, limit in room.items() if limit > 0}
        arguments = [[*dict.fromkeys(queues)], ready.text(dict(labels)), list(wanted), list(wanted.values())]
        return [ready.claim_of(row) for row in await self._table("claim_attempts_2", node, epoch, *arguments)]

    async def held(self, node: NodeId, epoch: Epoch) -> list[Claim]:
        """See the contract."""
        return [ready.claim_of(row) for row in await self._rows(ready.SELECT_HELD, node, epoch)]

    async def report(self, node: NodeId, epoch: Epoch, beats: Sequence[Beat]) -> dict[str, Literal["stop", "lost"]]:
        """See the contract."""
        keys, deliveries = [beat.key for beat in beats], [beat.delivery for beat in beats]
        details = [None if beat.details is None else beat.details.decode() for beat in beats]
        rows = await self._table("report_1", node, epoch, keys, deliveries, details, repeatable=True)
        return {row[0]: row[1] for row in rows}

    async def complete(self, node: NodeId, epoch: Epoch, results: Sequence[Result]) -> list[str | None]:
        """See the contract. Not tried again if the connection breaks: the outcomes may have been stored."""
        if not results:
            return []
        return list(await self._value("complete_1", node, epoch, *ready.complete_arguments(results)))

    async def give_back(self, node: NodeId, epoch: Epoch, claims: Sequence[Beat]) -> None:
        """See the contract."""
        keys, deliveries = [one.key for one in claims], [one.delivery for one in claims]
        await self._value("give_back_1", node, epoch, keys, deliveries, repeatable=True)

    async def requeue_lost(self, limit: int = 1000) -> tuple[int, list[str]]:
        """See the contract."""
        lost = await self._table("lost_claims_1", max(limit, 0), repeatable=True)
        if not lost and not await self._rows(ready.ANY_ENDED):
            return 0, []
        arguments = ready.requeue_arguments([(row[0], row[1], row[2]) for row in lost])
        ((again, bells),) = await self._table("requeue_lost_1", *arguments, DELIVERIES_MAX, max(limit, 0))
        return again, sorted({bell for bell in bells if bell})

    async def withdraw(
        self, node: NodeId, epoch: Epoch, keys: Sequence[str], *, stop: bool = True
    ) -> list[tuple[str, str]]:
        """See the contract."""
        rows = await self._table("withdraw_1", node, epoch, list(keys), stop, repeatable=True)
        return [(row[0], row[1]) for row in rows]

    async def offered(self, node: NodeId, limit: int = 100_000) -> list[Standing]:
        """See the contract."""
        return [ready.standing_of(row) for row in await self._rows(ready.SELECT_OFFERED, node, max(limit, 0))]

    async def queues(self) -> list[QueueRow]:
        """See the contract."""
        return [ready.queue_of(row) for row in await self._rows(ready.SELECT_QUEUES)]

    # ---- schedules -----------------------------------------------------------------------------------------------

    async def schedules(self, after: str = "", limit: int = 1000) -> list[ScheduleRow]:
        """See the contract."""
        rows = await self._rows(postgres_schedules.PAGE, after, max(limit, 0))
        return [postgres_schedules.row_of(row) for row in rows]

    async def schedule(self, name: str) -> ScheduleRow | None:
        """See the contract."""
        found = await self._row(postgres_schedules.ONE, name)
        return None if found is None else postgres_schedules.row_of(found)

    async def due_schedules(self, limit: int = 100) -> Due:
        """See the contract."""
        return postgres_schedules.due_of(await self._rows(postgres_schedules.DUE, max(limit, 0)))

    async def put_schedule(self, row: ScheduleRow) -> bool:
        """See the contract."""
        return await self._value("put_schedule_1", *postgres_schedules.put_arguments(row))

    async def remove_schedule(self, name: str) -> bool:
        """See the contract."""
        return await self._value("remove_schedule_1", name)

    async def fire(self, firing: Firing) -> bool:
        """See the contract."""
        return await self._value("fire_1", *postgres_schedules.fire_arguments(firing))

    # ---- catalog -------------------------------------------------------------------------------------------------

    async def run(self, run_id: RunId) -> RunRow | None:
        """See the contract."""
        found = await self._row(catalog.run_statement(self._schema), run_id)
        return run_row(found) if found else None

    async def runs(self, where: RunFilter) -> list[RunRow]:
        """See the contract."""
        text, values = catalog.runs_statement(self._schema, where)
        return [run_row(row) for row in await self._rows(text, *values)]

    async def find_runs(self, prefix: str, limit: int = 10) -> list[RunId]:
        """See the contract."""
        text, values = catalog.find_statement(self._schema, prefix, limit)
        return [RunId(row[0]) for row in await self._rows(text, *values)]

    async def workflows(self) -> list[WorkflowRow]:
        """See the contract."""
        text = SELECT_WORKFLOW.replace("SELECT", "SELECT DISTINCT ON (name)", 1)
        return [workflow_row(row) for row in await self._rows(f"{text} ORDER BY name, put_number DESC")]

    async def delete_runs(self, ended_before: float, limit: int = 500, term: Term | None = None) -> list[RunId]:
        """See the contract. The runs are gone in one transaction; their events follow in small ones. If that is cut
        short, the next call goes on with it."""
        deleted = await self._value("delete_runs_2", ended_before, max(limit, 0), *_term(term))
        while await self._value("delete_events_1", catalog.EVENTS_PER_DELETE):
            pass
        return [RunId(run_id) for run_id in deleted]

    async def now(self) -> float:
        """See the contract."""
        return (await self._row("SELECT {schema}.clock_seconds()"))[0]


def _term(term: Term | None) -> tuple[str | None, int | None]:
    return (None, None) if term is None else (term.authority, term.number)


__all__ = ["PostgresStore"]
