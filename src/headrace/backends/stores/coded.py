"""A store whose payloads are sealed by codecs: wraps any other.

The stored form of an event keeps what lists and operators need in the clear and holds the whole event, byte for byte, in
``sealed``. Reading gives the bytes that were written, so nothing above knows of codecs. What was written before there was
a codec is read as it is. Tags, typed attributes, business keys and definitions are searched or shared and stay readable.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from headrace.contracts.codec import Seal
from headrace.contracts.ready import Beat, Claim, Offer, Result, Standing, run_of
from headrace.contracts.schedules import Due, Firing, ScheduleRow
from headrace.contracts.store import Flush, InboxRow, RunFilter, RunRow, RunUpdate, Store
from headrace.core.codec import SEALED_TAG
from headrace.core.errors import PayloadSealed
from headrace.core.ids import Epoch, NodeId, RunId

logger = logging.getLogger("headrace.codec")

CLEAR = (
    "at", "run_id", "workflow", "version", "trigger", "parent", "chain", "key", "task", "item", "attempt", "node",
    "external", "queue", "started_at", "retry_at", "timer", "due", "name", "update", "child", "target", "policy",
    "message", "kind", "patch", "state", "failed_task", "next_run",
)  # fmt: skip
"""Fields of events that stay readable: ids, kinds and times. Whatever is not named here is sealed, new fields too."""

_CLEAR = frozenset((*CLEAR, "type"))
_START = b'{"type":"%s"' % SEALED_TAG.encode()
_ROW_KEY = "$sealed"
_SCHEDULE_START = b'{"$sealed":'
_ROW_MARK = "sealed:"


class _SealedEvent(msgspec.Struct):
    sealed: str


_decode_sealed = msgspec.json.Decoder(_SealedEvent).decode


class CodedStore:
    """See :class:`headrace.contracts.store.Store`; methods that see no payloads are the inner store's own."""

    def __init__(self, inner: Store, seal: Seal) -> None:
        self._inner = inner
        self._seal = seal
        self._last: tuple[Flush, Flush] | None = None
        self._told_of = 0
        """The newest message of which the log says that it cannot be read."""

    def __getattr__(self, name: str) -> Any:  # Any: whatever the inner store has
        found = getattr(self._inner, name)
        return self._transact if name == "transact" else found

    # ---- events ------------------------------------------------------------------------------------------------------

    async def commit(self, flush: Flush) -> None:
        """See the contract."""
        await self._inner.commit(self._sealed(flush))

    def commit_now(self, flush: Flush) -> bool:
        """See the contract."""
        return self._inner.commit_now(self._sealed(flush))

    def _sealed(self, flush: Flush) -> Flush:
        """The same bytes for a flush that is tried again, or the store would take them for another writer's: encryption
        gives other ones each time."""
        last = self._last
        if last is not None and last[0] is flush:
            return last[1]
        sealed = self._seal_once(flush)
        self._last = (flush, sealed)
        return sealed

    def _seal_once(self, flush: Flush) -> Flush:
        return msgspec.structs.replace(
            flush,
            events=[(run_id, seq, self._close_event(run_id, seq, data)) for run_id, seq, data in flush.events],
            new_runs=[self._close_row(row) for row in flush.new_runs],
            updates=[self._close_update(update) for update in flush.updates],
        )

    def _close_event(self, run_id: RunId, seq: int, data: bytes) -> bytes:
        fields = msgspec.json.decode(data)
        if type(fields) is not dict or fields.keys() <= _CLEAR:
            return data
        clear = {name: fields[name] for name in CLEAR if name in fields}
        stored = {"type": SEALED_TAG, "event": fields.get("type"), **clear}
        stored["sealed"] = self._seal.close(data, f"{run_id}/{seq}")
        return msgspec.json.encode(stored)

    async def history(self, run_id: RunId, after: int = 0, limit: int | None = None) -> list[tuple[int, bytes]]:
        """See the contract. Raises :class:`PayloadSealed` without the right codec or key."""
        stored = await self._inner.history(run_id, after, limit)
        return [(seq, self._open_event(run_id, seq, data)) for seq, data in stored]

    def _open_event(self, run_id: RunId, seq: int, data: bytes) -> bytes:
        if not data.startswith(_START):
            return data
        return self._seal.open(_decode_sealed(data).sealed, f"{run_id}/{seq}")

    async def _transact(
        self, node: NodeId, epoch: Epoch, run_id: RunId, task: str, work: Callable[[Any], Any]
    ) -> bytes:
        """See :class:`headrace.contracts.store.TaskTransactions`; only there if the inner store has it."""
        place = f"{run_id}/outcome/{task}"
        inner: Any = self._inner

        def sealed(connection: Any) -> bytes:
            return self._seal.close(work(connection), place).encode()

        async def sealed_later(connection: Any) -> bytes:
            return self._seal.close(await work(connection), place).encode()

        how = sealed_later if inner.waits_in_transactions else sealed
        kept: bytes = await inner.transact(node, epoch, run_id, task, how)
        return self._seal.open(kept.decode(), place)

    # ---- rows --------------------------------------------------------------------------------------------------------

    def _close_row(self, row: RunRow) -> RunRow:
        if row.params:
            data = msgspec.json.encode(row.params)
            row = msgspec.structs.replace(row, params={_ROW_KEY: self._seal.close(data, f"{row.run_id}/params")})
        return msgspec.structs.replace(row, error=self._close_error(row.run_id, row.error))

    def _close_update(self, update: RunUpdate) -> RunUpdate:
        if update.error is None:
            return update
        return msgspec.structs.replace(update, error=self._close_error(update.run_id, update.error))

    def _close_error(self, run_id: RunId, error: str | None) -> str | None:
        return None if error is None else _ROW_MARK + self._seal.close(error.encode(), f"{run_id}/error")

    def _open_row(self, row: RunRow) -> RunRow:
        """Without the key a row stays as it is stored: a list is not to fail for one run."""
        sealed = row.params.get(_ROW_KEY)
        with contextlib.suppress(PayloadSealed):
            if isinstance(sealed, str):
                row.params = msgspec.json.decode(self._seal.open(sealed, f"{row.run_id}/params"))
            if row.error is not None and row.error.startswith(_ROW_MARK):
                row.error = self._seal.open(row.error.removeprefix(_ROW_MARK), f"{row.run_id}/error").decode()
        return row

    async def run(self, run_id: RunId) -> RunRow | None:
        """See the contract."""
        row = await self._inner.run(run_id)
        return None if row is None else self._open_row(row)

    async def runs(self, where: RunFilter) -> list[RunRow]:
        """See the contract."""
        return [self._open_row(row) for row in await self._inner.runs(where)]

    # ---- messages ----------------------------------------------------------------------------------------------------

    async def post(self, run_id: RunId, kind: str, payload: dict[str, Any]) -> tuple[int, str]:
        """See the contract."""
        data = msgspec.json.encode(payload)
        return await self._inner.post(run_id, kind, {_ROW_KEY: self._seal.close(data, f"{run_id}/inbox")})

    async def inbox(self, run_ids: Any, node: NodeId, limit: int = 1000) -> list[InboxRow]:
        """See the contract. A message that is sealed with a key which is not here waits for it, and all later ones of its
        run with it; those of other runs do not."""
        found: list[InboxRow] = []
        closed: set[RunId] = set()
        for row in await self._inner.inbox(run_ids, node, limit):
            if row.run_id in closed:
                continue
            try:
                found.append(self._open_message(row))
            except PayloadSealed as error:
                closed.add(row.run_id)
                if row.id > self._told_of:
                    self._told_of = row.id
                    logger.error("a message waits for its key", extra={"run_id": row.run_id, "error": str(error)})
        return found

    def _open_message(self, row: InboxRow) -> InboxRow:
        sealed = row.payload.get(_ROW_KEY)
        if not isinstance(sealed, str):
            return row
        payload = msgspec.json.decode(self._seal.open(sealed, f"{row.run_id}/inbox"))
        return msgspec.structs.replace(row, payload=payload)

    # ---- attempts on offer -------------------------------------------------------------------------------------------

    async def offer(self, node: NodeId, epoch: Epoch, offers: Sequence[Offer]) -> None:
        """See the contract."""
        sealed = [
            msgspec.structs.replace(one, call=self._seal.close(one.call, f"{one.key}/call").encode()) for one in offers
        ]
        await self._inner.offer(node, epoch, sealed)

    async def claim_attempts(
        self, node: NodeId, epoch: Epoch, queues: Sequence[str], labels: Mapping[str, str], room: Mapping[str, int]
    ) -> list[Claim]:
        """See the contract."""
        return self._open_claims(await self._inner.claim_attempts(node, epoch, queues, labels, room))

    async def held(self, node: NodeId, epoch: Epoch) -> list[Claim]:
        """See the contract."""
        return self._open_claims(await self._inner.held(node, epoch))

    def _open_claims(self, claims: list[Claim]) -> list[Claim]:
        return [
            msgspec.structs.replace(
                one,
                call=self._seal.open(one.call.decode(), f"{one.key}/call"),
                details=self._open_details(one.key, one.details),
            )
            for one in claims
        ]

    async def report(self, node: NodeId, epoch: Epoch, beats: Sequence[Beat]) -> Any:
        """See the contract."""
        sealed = [
            beat
            if beat.details is None
            else msgspec.structs.replace(
                beat, details=msgspec.json.encode(self._seal.close(beat.details, f"{beat.key}/details"))
            )
            for beat in beats
        ]
        return await self._inner.report(node, epoch, sealed)

    async def complete(self, node: NodeId, epoch: Epoch, results: Sequence[Result]) -> list[str | None]:
        """See the contract."""
        sealed: list[Result] = []
        for one in results:
            data = msgspec.json.encode(one.outcome)
            outcome = {_ROW_KEY: self._seal.close(data, f"{run_of(one.key)}/inbox")}
            sealed.append(Result(one.key, one.delivery, outcome))
        return await self._inner.complete(node, epoch, sealed)

    async def offered(self, node: NodeId, limit: int = 100_000) -> list[Standing]:
        """See the contract."""
        rows = await self._inner.offered(node, limit)
        return [msgspec.structs.replace(row, details=self._open_details(row.key, row.details)) for row in rows]

    def _open_details(self, key: str, details: bytes | None) -> bytes | None:
        return None if details is None else self._seal.open(msgspec.json.decode(details), f"{key}/details")

    # ---- schedules ---------------------------------------------------------------------------------------------------

    def _close_schedule(self, row: ScheduleRow) -> ScheduleRow:
        sealed = {_ROW_KEY: self._seal.close(row.data, f"schedule/{row.name}")}
        return msgspec.structs.replace(row, data=msgspec.json.encode(sealed))

    def _open_schedule(self, row: ScheduleRow) -> ScheduleRow:
        if not row.data.startswith(_SCHEDULE_START):
            return row  # from before there was a codec
        sealed = msgspec.json.decode(row.data)[_ROW_KEY]
        with contextlib.suppress(PayloadSealed):  # one that cannot be read is not to stop the others
            row = msgspec.structs.replace(row, data=self._seal.open(sealed, f"schedule/{row.name}"))
        return row

    async def schedules(self, after: str = "", limit: int = 1000) -> list[ScheduleRow]:
        """See the contract."""
        return [self._open_schedule(row) for row in await self._inner.schedules(after, limit)]

    async def schedule(self, name: str) -> ScheduleRow | None:
        """See the contract."""
        row = await self._inner.schedule(name)
        return None if row is None else self._open_schedule(row)

    async def due_schedules(self, limit: int = 100) -> Due:
        """See the contract."""
        due = await self._inner.due_schedules(limit)
        return msgspec.structs.replace(due, rows=[self._open_schedule(row) for row in due.rows])

    async def put_schedule(self, row: ScheduleRow) -> bool:
        """See the contract."""
        return await self._inner.put_schedule(self._close_schedule(row))

    async def fire(self, firing: Firing) -> bool:
        """See the contract."""
        row, flush = (
            self._close_schedule(firing.row),
            self._seal_once(firing.flush),
        )  # the journal's may be repeated yet
        return await self._inner.fire(msgspec.structs.replace(firing, row=row, flush=flush))
