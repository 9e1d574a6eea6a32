"""The MySQL store, for MySQL and MariaDB: one database, any number of nodes on any number of hosts.

- Whatever writes is one procedure (``mysql_migrations/``) or, for flushes, one packet of statements: one round trip, one
  transaction. Every one that needs the lease checks the epoch first and holds a lock on it until it has committed.
- The database's clock judges leases and timers; the clocks of nodes do not matter.
- Five connections per node at most: one for flushes, three for everything else, one for the lease, which is renewed on a
  thread of its own. All are made again when they break; what was under way then ends in :class:`StoreUnavailable`, and a
  flush may be repeated whatever became of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import msgspec

from headrace.backends.stores import mysql_catalog as catalog
from headrace.backends.stores import mysql_ready as ready
from headrace.backends.stores import mysql_schedules, mysql_wishes
from headrace.backends.stores.database_claims import Claims
from headrace.backends.stores.database_opened import OTHER_CONNECTIONS, Opened
from headrace.backends.stores.mysql_connections import Connection, pool_of
from headrace.backends.stores.mysql_history import SELECT_WORKFLOW, commit, workflow_row
from headrace.backends.stores.mysql_renewal import Renewal
from headrace.backends.stores.mysql_schema import prepare_database
from headrace.backends.stores.mysql_text import Json, Value, call, placed
from headrace.backends.stores.mysql_transact import Transaction
from headrace.backends.stores.mysql_url import place_of_url
from headrace.contracts.locks import PLACE_SECONDS, LockClaim, LockRenewal, LockRow, LockTurn, Term
from headrace.contracts.ready import DELIVERIES_MAX, Beat, Claim, Offer, QueueRow, Result, Standing
from headrace.contracts.schedules import Due, Firing, ScheduleRow
from headrace.contracts.store import Flush, InboxRow, KeyHolder, NodeRow, RunFilter, RunRow, WorkflowRow
from headrace.contracts.wishes import Wish, Wished
from headrace.core.errors import NotFound, StoreError
from headrace.core.ids import Epoch, NodeId, RunId, WorkflowVersion

T = TypeVar("T")

_ROWS_MAX = (1 << 63) - 1


class MysqlStore:
    """The store contract over a MySQL or MariaDB database; see :class:`headrace.contracts.store.Store`.

    ``url``: see :mod:`.mysql_url`. :attr:`url` is without the password. One event loop at a time; :meth:`renew` may be
    called from any thread.
    """

    def __init__(self, url: str) -> None:
        self._place = place_of_url(url)
        self.url = self._place.shown
        self._opened: Opened[Connection, Renewal] | None = None
        self._claims: dict[tuple[NodeId, Epoch], Claims] = {}

    async def open(self) -> None:
        """See the contract. Makes the database if there is none and the user may. Does not wait for a server that is
        down. Idempotent."""
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

    def _ready(self) -> Opened[Connection, Renewal]:
        if self._opened is None:
            raise StoreError(
                f"the store {self.url} is not open", hint="call open() first; a closed store may be opened again"
            )
        return self._opened

    async def _call(self, function: Callable[[Connection], Awaitable[T]], *, repeatable: bool = False) -> T:
        return await self._ready().others.call(function, repeatable=repeatable)

    async def _procedure(self, name: str, *values: Value, repeatable: bool = False) -> list[Any]:
        """The rows that one of our procedures gives."""
        text = call(name, *values)
        return await self._call(lambda db: db.rows(text), repeatable=repeatable)

    async def _rows(self, text: str, *values: Value) -> list[Any]:
        """The rows of a query."""
        statement = placed(text, values)
        return await self._call(lambda db: db.rows(statement), repeatable=True)

    # ---- history -------------------------------------------------------------------------------------------------

    async def commit(self, flush: Flush) -> None:
        """See the contract."""
        await self._ready().writer.call(lambda db: commit(db, flush))

    def commit_now(self, flush: Flush) -> bool:
        """See the contract: a network is always waited for."""
        return False

    async def history(self, run_id: RunId, after: int = 0, limit: int | None = None) -> list[tuple[int, bytes]]:
        """See the contract."""
        rows = await self._rows(
            "SELECT seq, data FROM events WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?",
            run_id,
            after,
            _ROWS_MAX if limit is None else max(limit, 0),
        )
        return [(seq, data) for seq, data in rows]

    async def put_workflow(self, row: WorkflowRow) -> None:
        """See the contract."""
        values = row.version, row.name, row.created_at, row.source, row.data
        await self._procedure("put_workflow_1", *values, repeatable=True)

    async def workflow(self, version: WorkflowVersion) -> WorkflowRow | None:
        """See the contract."""
        found = await self._rows(f"{SELECT_WORKFLOW} WHERE version = ?", version)
        return workflow_row(found[0]) if found else None

    async def workflow_named(self, name: str) -> WorkflowRow | None:
        """See the contract."""
        found = await self._rows(f"{SELECT_WORKFLOW} WHERE name = ? ORDER BY put_number DESC LIMIT 1", name)
        return workflow_row(found[0]) if found else None

    # ---- leases --------------------------------------------------------------------------------------------------

    async def join(self, node: NodeId, lease_seconds: float, bell: str, info: dict[str, Any]) -> Epoch:
        """See the contract."""
        found = await self._procedure("join_1", node, float(lease_seconds), bell, msgspec.json.encode(info))
        return Epoch(found[0][0])

    def renew(self, node: NodeId, epoch: Epoch, lease_seconds: float) -> bool:
        """See the contract. Waits at most a third of the lease for the database."""
        return self._ready().renewal.renew(node, epoch, lease_seconds)

    async def leave(self, node: NodeId, epoch: Epoch) -> None:
        """See the contract."""
        await self._procedure("leave_1", node, epoch, repeatable=True)
        self._claims.pop((node, epoch), None)

    async def nodes(self) -> list[NodeRow]:
        """See the contract. Nodes that were lost stay listed for a day."""
        return [catalog.node_row(row) for row in await self._rows(catalog.SELECT_NODES)]

    async def describe_node(self, node: NodeId, epoch: Epoch, info: dict[str, Any]) -> None:
        """See the contract."""
        await self._procedure("describe_node_1", node, epoch, msgspec.json.encode(info), repeatable=True)

    async def ask_node(self, node: NodeId, what: str) -> str | None:
        """See the contract."""
        found = await self._procedure("ask_node_1", node, what, repeatable=True)
        return found[0][0].decode() if found else None

    async def expire_lost(self, term: Term | None = None) -> list[NodeId]:
        """See the contract."""
        found = await self._procedure("expire_lost_1", *_term(term))
        return [NodeId(node) for node in catalog.ids_of(found[0][0])]

    async def claim(
        self, node: NodeId, epoch: Epoch, limit: int, run_ids: Sequence[RunId] | None = None
    ) -> list[RunId]:
        """See the contract. What a claim took whose answer never came is given up by the next one."""
        claims = self._claims.setdefault((node, epoch), Claims())
        async with claims.turn:  # the next claim must know what became of this one
            claims.last += 1
            number = claims.last
            named = None if run_ids is None else Json(sorted(run_ids))
            text = call("claim_1", node, epoch, max(limit, 0), named, number, claims.known)
            found = await self._call(lambda db: db.value(text))
            claims.known = number
        return [RunId(run_id) for run_id in catalog.ids_of(found)]

    async def release(self, node: NodeId, epoch: Epoch, run_ids: Sequence[RunId]) -> None:
        """See the contract."""
        await self._procedure("release_1", node, epoch, Json(sorted(run_ids)), repeatable=True)

    # ---- locks ---------------------------------------------------------------------------------------------------

    async def take_lock(self, claim: LockClaim) -> LockTurn:
        """See the contract."""
        found = await self._procedure(
            "take_lock_1",
            *(claim.name, claim.holder, claim.node, claim.epoch, float(claim.ttl_seconds), claim.queue, PLACE_SECONDS),
            repeatable=True,
        )
        token, node, ahead, frees_in_seconds = found[0]
        return LockTurn(token, node if isinstance(node, str) else node.decode(), ahead, float(frees_in_seconds))

    def renew_locks(self, node: NodeId, epoch: Epoch, renewals: Sequence[LockRenewal]) -> list[bool]:
        """See the contract. Waits at most a third of the shortest time for the database."""
        if not renewals:
            return []
        rows = [
            {"p": place, "n": one.name, "h": one.holder, "t": one.token, "s": float(one.ttl_seconds)}
            for place, one in enumerate(renewals)
        ]
        text = call("renew_locks_1", node, epoch, Json(sorted(rows, key=lambda row: row["n"])))

        async def work(connection: Connection) -> set[int]:
            return {row[0] for row in await connection.rows(text)}

        kept = self._ready().renewal.call(work, min(renewal.ttl_seconds for renewal in renewals) / 3)
        return [place in kept for place in range(len(renewals))]

    async def release_lock(self, name: str, holder: str) -> str:
        """See the contract."""
        return (await self._procedure("release_lock_1", name, holder, repeatable=True))[0][0].decode()

    async def locks(self) -> list[LockRow]:
        """See the contract."""
        return [catalog.lock_row(row) for row in await self._rows(catalog.SELECT_LOCKS)]

    # ---- keys ----------------------------------------------------------------------------------------------------

    async def reserve_key(
        self, node: NodeId, epoch: Epoch, workflow: str, key: str, run_id: RunId, kept_by: Sequence[str] = ()
    ) -> KeyHolder | None:
        """See the contract."""
        values = node, epoch, workflow, key, run_id, ",".join(kept_by)
        return _holder(await self._procedure("reserve_key_1", *values, repeatable=True))

    async def key_holder(self, workflow: str, key: str) -> KeyHolder | None:
        """See the contract."""
        return _holder(await self._rows(catalog.SELECT_KEY_HOLDER, workflow, key))

    # ---- database tasks ------------------------------------------------------------------------------------------

    waits_in_transactions = True

    async def transact(
        self, node: NodeId, epoch: Epoch, run_id: RunId, task: str, work: Callable[[Any], Awaitable[bytes]]
    ) -> bytes:
        """See the contract. One at a time."""
        tasks = await self._ready().tasks()
        return await Transaction(self._place.shown, node, epoch, run_id, task, work).run(tasks)

    # ---- inbox ---------------------------------------------------------------------------------------------------

    async def post(self, run_id: RunId, kind: str, payload: dict[str, Any]) -> tuple[int, str]:
        """See the contract. Not tried again if the connection breaks: the message may have been stored."""
        found = await self._procedure("post_1", run_id, kind, msgspec.json.encode(payload))
        known, message, bell = found[0]
        if not known:
            raise NotFound(f"there is no run {run_id}", hint="`headrace runs` lists the runs there are")
        return message, bell.decode()

    async def inbox(self, run_ids: Sequence[RunId] | None, node: NodeId, limit: int = 1000) -> list[InboxRow]:
        """See the contract."""
        if run_ids is None:
            rows = await self._rows(catalog.SELECT_INBOX_OWNED, node, max(limit, 0))
        elif run_ids:
            text = catalog.inbox_statement(run_ids, max(limit, 0))
            rows = await self._call(lambda db: db.rows(text), repeatable=True)
        else:
            rows = []
        return [catalog.inbox_row(row) for row in rows]

    async def waiting_runs(self, limit: int = 1000) -> list[RunId]:
        """See the contract."""
        return [RunId(row[0].decode()) for row in await self._rows(catalog.SELECT_WAITING_RUNS, max(limit, 0))]

    # ---- wishes --------------------------------------------------------------------------------------------------

    async def wish(self, node: NodeId, run_ids: Sequence[RunId], changes: Sequence[RunId] = ()) -> list[Wished]:
        """See the contract."""
        if not run_ids:
            return []
        add = mysql_wishes.add_statement(node, run_ids, changes)
        await self._call(lambda db: db.run(add), repeatable=True)
        seen = mysql_wishes.seen_statement(run_ids)
        rows = await self._call(lambda db: db.rows(seen), repeatable=True)
        return [mysql_wishes.wished_of(row) for row in rows]

    async def wishes(self, node: NodeId, run_ids: Sequence[RunId] | None = None) -> list[Wish]:
        """See the contract."""
        statement = mysql_wishes.select_statement(node, run_ids)
        rows = await self._call(lambda db: db.rows(statement), repeatable=True)
        return [mysql_wishes.wish_of(row) for row in rows]

    async def forget_wishes(self, wishes: Sequence[tuple[RunId, NodeId]]) -> None:
        """See the contract."""
        if wishes:
            statement = mysql_wishes.forget_statement(sorted(set(wishes)))
            await self._call(lambda db: db.run(statement), repeatable=True)

    # ---- attempts on offer ---------------------------------------------------------------------------------------

    async def offer(self, node: NodeId, epoch: Epoch, offers: Sequence[Offer]) -> None:
        """See the contract."""
        if offers:
            once = list({one.key: one for one in offers}.values())
            await self._procedure("offer_2", node, epoch, Json(ready.offer_rows(once)), repeatable=True)

    async def claim_attempts(
        self, node: NodeId, epoch: Epoch, queues: Sequence[str], labels: Mapping[str, str], room: Mapping[str, int]
    ) -> list[Claim]:
        """See the contract. Claims whose answer never came are lost with the claimer's lease."""
        asked = Json([*dict.fromkeys(queues)]), Json(dict(labels)), Json(ready.room_rows(room))
        return [ready.claim_of(row) for row in await self._procedure("claim_attempts_2", node, epoch, *asked)]

    async def held(self, node: NodeId, epoch: Epoch) -> list[Claim]:
        """See the contract."""
        return [ready.claim_of(row) for row in await self._rows(ready.SELECT_HELD, node, epoch)]

    async def report(self, node: NodeId, epoch: Epoch, beats: Sequence[Beat]) -> dict[str, Literal["stop", "lost"]]:
        """See the contract."""
        if not beats:
            return {}
        has_details = any(beat.details is not None for beat in beats)
        values = node, epoch, Json(ready.beat_rows(beats)), has_details
        rows = await self._procedure("report_1", *values, repeatable=True)
        return {key.decode(): verdict for key, verdict in rows}

    async def complete(self, node: NodeId, epoch: Epoch, results: Sequence[Result]) -> list[str | None]:
        """See the contract. Not tried again if the connection breaks: the outcomes may have been stored."""
        if not results:
            return []
        found = await self._procedure("complete_2", node, epoch, Json(ready.result_rows(results)))
        bells: dict[int, str] = {place: bell.decode() for place, bell in found}
        return [bells.get(place) for place in range(len(results))]

    async def give_back(self, node: NodeId, epoch: Epoch, claims: Sequence[Beat]) -> None:
        """See the contract."""
        await self._procedure("give_back_1", node, epoch, Json(ready.beat_rows(claims)), repeatable=True)

    async def requeue_lost(self, limit: int = 1000) -> tuple[int, list[str]]:
        """See the contract."""
        lost = await self._rows(ready.SELECT_LOST, max(limit, 0))
        if not lost and not await self._rows(ready.ANY_ENDED):
            return 0, []
        found = await self._procedure("requeue_lost_1", Json(ready.lost_rows(lost)), DELIVERIES_MAX, max(limit, 0))
        again, bells = found[0]
        return again, sorted({bell for bell in ready.bells_of(bells) if bell})

    async def withdraw(
        self, node: NodeId, epoch: Epoch, keys: Sequence[str], *, stop: bool = True
    ) -> list[tuple[str, str]]:
        """See the contract."""
        rows = await self._procedure("withdraw_1", node, epoch, Json(sorted({*keys})), int(stop), repeatable=True)
        return [(key.decode(), bell.decode()) for key, bell in rows]

    async def offered(self, node: NodeId, limit: int = 100_000) -> list[Standing]:
        """See the contract."""
        return [ready.standing_of(row) for row in await self._rows(ready.SELECT_OFFERED, node, max(limit, 0))]

    async def queues(self) -> list[QueueRow]:
        """See the contract."""
        return [ready.queue_of(row) for row in await self._rows(ready.SELECT_QUEUES)]

    # ---- schedules -----------------------------------------------------------------------------------------------

    async def schedules(self, after: str = "", limit: int = 1000) -> list[ScheduleRow]:
        """See the contract."""
        return [mysql_schedules.row_of(row) for row in await self._rows(mysql_schedules.PAGE, after, max(limit, 0))]

    async def schedule(self, name: str) -> ScheduleRow | None:
        """See the contract."""
        found = await self._rows(mysql_schedules.ONE, name)
        return mysql_schedules.row_of(found[0]) if found else None

    async def due_schedules(self, limit: int = 100) -> Due:
        """See the contract."""
        return await self._call(lambda db: mysql_schedules.due(db, max(limit, 0)), repeatable=True)

    async def put_schedule(self, row: ScheduleRow) -> bool:
        """See the contract."""
        return bool((await self._procedure("put_schedule_1", *mysql_schedules.put_values(row)))[0][0])

    async def remove_schedule(self, name: str) -> bool:
        """See the contract."""
        return bool((await self._procedure("remove_schedule_1", name))[0][0])

    async def fire(self, firing: Firing) -> bool:
        """See the contract."""
        return await self._call(lambda db: mysql_schedules.fire(db, firing))

    # ---- catalog -------------------------------------------------------------------------------------------------

    async def run(self, run_id: RunId) -> RunRow | None:
        """See the contract."""
        found = await self._rows(catalog.SELECT_RUN, run_id)
        return catalog.run_row(found[0]) if found else None

    async def runs(self, where: RunFilter) -> list[RunRow]:
        """See the contract."""
        text = catalog.runs_statement(where)
        return [catalog.run_row(row) for row in await self._call(lambda db: db.rows(text), repeatable=True)]

    async def find_runs(self, prefix: str, limit: int = 10) -> list[RunId]:
        """See the contract."""
        text = catalog.find_statement(prefix, limit)
        return [RunId(row[0].decode()) for row in await self._call(lambda db: db.rows(text), repeatable=True)]

    async def workflows(self) -> list[WorkflowRow]:
        """See the contract."""
        rows = await self._rows(
            f"{SELECT_WORKFLOW} JOIN (SELECT name AS latest_name, MAX(put_number) AS latest FROM workflows GROUP BY name)"
            " AS found ON found.latest_name = workflows.name AND found.latest = workflows.put_number ORDER BY name"
        )
        return [workflow_row(row) for row in rows]

    async def delete_runs(self, ended_before: float, limit: int = 500, term: Term | None = None) -> list[RunId]:
        """See the contract. The runs are gone in one transaction; their events follow in small ones. If that is cut
        short, the next call goes on with it."""
        deleted = await self._procedure("delete_runs_2", float(ended_before), max(limit, 0), *_term(term))
        while (await self._procedure("delete_events_1", catalog.EVENTS_PER_DELETE))[0][0]:
            pass
        return [RunId(run_id) for run_id in catalog.ids_of(deleted[0][0])]

    async def now(self) -> float:
        """See the contract."""
        return (await self._rows("SELECT seconds FROM clock"))[0][0]


def _term(term: Term | None) -> tuple[str | None, int | None]:
    return (None, None) if term is None else (term.authority, term.number)


def _holder(rows: list[Any]) -> KeyHolder | None:
    if not rows:
        return None
    run_id, state = rows[0]
    return KeyHolder(RunId(run_id.decode()), None if state is None else state.decode())


__all__ = ["MysqlStore"]
