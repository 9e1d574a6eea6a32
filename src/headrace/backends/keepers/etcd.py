"""Locks in etcd; see :mod:`headrace.contracts.locks`.

A lock is a key, a place in its line is another, and both live as long as an etcd lease does:

    PREFIX/keeper                     when this keeper was born, in microseconds since the epoch
    PREFIX/locks/NAME/held            who has it; under a lease of the lock's time
    PREFIX/locks/NAME/line/HOLDER     who waits, in the order of their creation; under a lease of PLACE_SECONDS

**Tokens.** What creates a key in etcd raises the revision of the whole cluster, so the revision at which ``held`` was
created rises with every holder. An etcd that has lost its data begins at 1 again; therefore a token is the sum of the
revision and of the keeper's birth, which is checked in the transaction that takes a lock: less than one revision in a
microsecond keeps the sum rising through the loss, as long as the clock at the second birth is not behind the first.

**Leases.** The id of a lease derives from the lock and its holder. So release is revocation, needs to know nothing, and
also defeats a claim that was cancelled and is still on its way: etcd refuses to put a key under a lease that is gone.

**A renewal counts only if a read came before it at the same member.** Renewals do not pass through etcd's consensus: a
leader that was cut off and does not know yet prolongs leases that its successor lets expire. A read does pass through it.
After one, that member knows a term at least as high as the leader's at that moment, and sends the renewal to no earlier
leader; a later one gives every lease its whole time again when it begins, which is after the read. So the lease lasts
the lock's time from the beginning of the call at least, which is what its holder goes by.

**Unlike a store, etcd does not know the nodes' own leases.** A lock of a node that is lost falls free when the lock's
time is over, not earlier, and nobody is fenced: :class:`~headrace.core.errors.Fenced` is never raised here. etcd counts
whole seconds, rounds up, and grants no less than about 1.5 times its election timeout (2 s by default).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from headrace.backends.keepers.etcd_gateway import (
    EXISTS,
    NOT_FOUND,
    REQUEST_SECONDS,
    Gateway,
    Refused,
    Reply,
    after,
    packed,
    unpacked,
)
from headrace.backends.keepers.etcd_url import EtcdAddress
from headrace.contracts.locks import PLACE_SECONDS, LockClaim, LockRenewal, LockRow, LockTurn
from headrace.core.errors import LockMisused, StoreUnavailable
from headrace.core.ids import Epoch, NodeId

TRIES_MAX = 16
"""How often a claim is decided anew because somebody was faster, before it is told that it is somebody else's turn."""

RENEWALS_MAX = 100
"""Renewals in one transaction; etcd takes 128 operations."""


RENEWAL_SECONDS_MIN = 0.5
"""A member that is only busy gets that long at least."""


class _Held(msgspec.Struct, frozen=True):
    holder: str
    node: str
    taken_at: float


class _View(msgspec.Struct, frozen=True):
    """A lock at one revision. ``born``: the revision of the keeper's birth; ``base``: what tokens begin after; ``line``:
    holder, node and revision of those who wait, the first one first; ``member`` and ``member_id``: who told."""

    born: str
    base: int
    held: _Held | None
    token: int
    line: list[tuple[str, str, str]]
    member: str
    member_id: str

    def place(self, holder: str) -> int | None:
        return next((place for place, one in enumerate(self.line) if one[0] == holder), None)


class EtcdLocks:
    """See the module. ``authority`` is that of the terms it gives. ``bell_of``: what wakes a node, or ''."""

    def __init__(
        self,
        address: EtcdAddress,
        *,
        bell_of: Callable[[NodeId], Awaitable[str]] | None = None,
        place_seconds: float = PLACE_SECONDS,
    ) -> None:
        self.url = address.shown
        self.authority = f"etcd/{address.prefix}"
        self._prefix = address.prefix
        self._bell_of = bell_of
        self._place_seconds = place_seconds
        self._etcd = Gateway(address)

    async def take_lock(self, claim: LockClaim) -> LockTurn:
        """See the contract. Raises :class:`StoreUnavailable`; :class:`LockMisused` if the same holder asks for a longer
        time than before."""
        for _ in range(TRIES_MAX):
            if (turn := await self._decide(claim)) is not None:
                return turn
        return LockTurn(0)

    def renew_locks(self, node: NodeId, epoch: Epoch, renewals: Sequence[LockRenewal]) -> list[bool]:
        """See the contract. A lock's time is what it was taken for: a renewal for longer is refused."""
        done: list[bool] = []
        for start in range(0, len(renewals), RENEWALS_MAX):
            done += self._renew_anywhere(node, renewals[start : start + RENEWALS_MAX])
        return done

    async def release_lock(self, name: str, holder: str) -> str:
        """See the contract."""
        await self._revoke(self._lease_of("held", name, holder))
        await self._revoke(self._lease_of("line", name, holder))
        if self._bell_of is None:
            return ""
        view = await self._look(name)
        return "" if view.held is not None or not view.line else await self._bell_of(NodeId(view.line[0][1]))

    async def locks(self) -> list[LockRow]:
        """See the contract. etcd tells how long a lease lasts, not what time it is: the times are by the clocks of who
        took the lock and of who asks."""
        root = f"{self._prefix}/locks/"
        reply = await self._etcd.post("kv/txn", {"success": [_range(f"{self._prefix}/keeper"), _range_under(root)]})
        born, found = _ranges(reply)
        base = int(unpacked(born[0]["value"])) if born else 0
        waiting: dict[str, int] = {}
        held: list[tuple[str, dict[str, Any]]] = []
        for entry in found:
            quoted, _, rest = unpacked(entry["key"]).removeprefix(root).partition("/")
            if rest == "held":
                held.append((unquote(quoted), entry))
            else:
                waiting[unquote(quoted)] = waiting.get(unquote(quoted), 0) + 1
        times = await asyncio.gather(*(self._time_left(entry["lease"]) for _, entry in held))
        rows = [
            LockRow(
                name,
                base + int(entry["create_revision"]),
                (who := _who(entry)).holder,
                NodeId(who.node),
                who.taken_at,
                time.time() + left,
                waiting.get(name, 0),
            )
            for (name, entry), left in zip(held, times, strict=True)
            if left > 0
        ]
        return sorted(rows, key=lambda row: row.name)

    async def close(self) -> None:
        """Close the connections; what is held stays held for its time. Idempotent."""
        await self._etcd.close()

    # ---- a claim -------------------------------------------------------------------------------------------------

    async def _decide(self, claim: LockClaim) -> LockTurn | None:
        """One look and what follows from it; None if that was overtaken."""
        view = await self._look(claim.name)
        if not view.born:
            await self._give_birth()
            return None
        if view.held is not None and view.held.holder == claim.holder:
            return await self._hold_on(claim, view)
        place = view.place(claim.holder)
        if view.held is None and (place == 0 or not view.line):
            return await self._claim(claim, view, place)
        if place is not None:
            await self._etcd.post("lease/keepalive", {"ID": self._lease_of("line", claim.name, claim.holder)})
        else:
            place = len(view.line)
            if claim.queue and not await self._stand_in_line(claim):
                return None
        if view.held is None:
            return LockTurn(0, "", place)
        lease = self._lease_of("held", claim.name, view.held.holder)
        left = await self._time_left(lease)
        return LockTurn(0, view.held.node, place, left) if left > 0 else None

    async def _hold_on(self, claim: LockClaim, view: _View) -> LockTurn | None:
        return LockTurn(view.token) if await self._prolong(claim, view) else None

    async def _claim(self, claim: LockClaim, view: _View, place: int | None) -> LockTurn | None:
        """Take a lock that is free, if it still is and nobody is before us."""
        lease = self._lease_of("held", claim.name, claim.holder)
        mine, line = self._place_key(claim.name, claim.holder), self._line(claim.name)
        first = (
            _created(line, "0", to=after(line)) if place is None else _created(mine, view.line[place][2])
        )  # a range in which nothing has been created is empty
        me = _Held(claim.holder, claim.node, time.time())
        if not await self._grant(lease, claim.ttl_seconds) and not await self._prolong(claim, view):
            return None
        done = await self._unless_gone(
            {
                "compare": [self._same_birth(view), _created(self._held_key(claim.name), "0"), first],
                "success": [
                    _put(self._held_key(claim.name), me, lease),
                    {"request_delete_range": {"key": packed(mine)}},
                ],
            }
        )
        if done is None:  # the lease stays, for the next try or until it ends: nothing stands under it
            return None
        return LockTurn(view.base + int(done.body["header"]["revision"]))

    async def _stand_in_line(self, claim: LockClaim) -> bool:
        lease = self._lease_of("line", claim.name, claim.holder)
        mine = self._place_key(claim.name, claim.holder)
        await self._grant(lease, self._place_seconds)
        me = _Held(claim.holder, claim.node, time.time())
        return (
            await self._unless_gone({"compare": [_created(mine, "0")], "success": [_put(mine, me, lease)]}) is not None
        )

    async def _look(self, name: str) -> _View:
        reply = await self._etcd.post(
            "kv/txn",
            {
                "success": [
                    _range(f"{self._prefix}/keeper"),
                    _range(self._held_key(name)),
                    _range_under(self._line(name)),
                ]
            },
        )
        born, held, line = _ranges(reply)
        base = int(unpacked(born[0]["value"])) if born else 0
        waiting = [(who.holder, who.node, entry["create_revision"]) for entry in line for who in (_who(entry),)]
        return _View(
            born[0]["mod_revision"] if born else "",
            base,
            _who(held[0]) if held else None,
            base + int(held[0]["create_revision"]) if held else 0,
            waiting,
            reply.member,
            _member_of(reply),
        )

    async def _give_birth(self) -> None:
        key = f"{self._prefix}/keeper"
        put = {"request_put": {"key": packed(key), "value": packed(str(time.time_ns() // 1000))}}
        await self._etcd.post("kv/txn", {"compare": [_created(key, "0")], "success": [put]})

    # ---- renewals --------------------------------------------------------------------------------------------------

    def _renew_anywhere(self, node: NodeId, renewals: Sequence[LockRenewal]) -> list[bool]:
        members = self._etcd.members()
        seconds = patience(renewals, len(members))
        last = StoreUnavailable("etcd has no members")
        for member in members:
            try:
                return self._renew(member, node, renewals, seconds)
            except StoreUnavailable as error:
                last = error
        raise last

    def _renew(self, member: str, node: NodeId, renewals: Sequence[LockRenewal], seconds: float) -> list[bool]:
        keys = [_range(self._held_key(renewal.name)) for renewal in renewals]
        look = {"success": [_range(f"{self._prefix}/keeper"), *keys]}
        reply = self._etcd.post_now("kv/txn", look, member=member, seconds=seconds)
        born, *found = _ranges(reply)
        base = int(unpacked(born[0]["value"])) if born else 0
        done = [
            bool(entries)
            and base + int(entries[0]["create_revision"]) == renewal.token
            and (who := _who(entries[0])).holder == renewal.holder
            and who.node == node
            for renewal, entries in zip(renewals, found, strict=True)
        ]
        for index, renewal in enumerate(renewals):
            if not done[index]:
                continue
            # One by one: of several in one stream, the gateway loses some now and then.
            lease = self._lease_of("held", renewal.name, renewal.holder)
            kept = self._etcd.post_now("lease/keepalive", {"ID": lease}, member=member, seconds=seconds)
            if _member_of(kept) != _member_of(reply):
                raise StoreUnavailable(
                    f"{member} is not one member of etcd: two requests were answered by two",
                    hint="name the members themselves in the URL, not a load balancer before them",
                )
            done[index] = int(kept.body.get("TTL", 0)) >= renewal.ttl_seconds
        return done

    # ---- leases ----------------------------------------------------------------------------------------------------

    def _lease_of(self, sort: str, name: str, holder: str) -> str:
        """A positive number of 63 bits."""
        text = "\0".join((self._prefix, sort, name, holder))
        return str(int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> 1 | 1)

    async def _grant(self, lease: str, seconds: float) -> bool:
        """A lease whose time begins now; False if there is one left, from a claim that was overtaken or cancelled."""
        try:
            await self._etcd.post("lease/grant", {"ID": lease, "TTL": str(math.ceil(seconds))})
        except Refused as refusal:
            if refusal.code != EXISTS:
                raise
            return False
        return True

    async def _prolong(self, claim: LockClaim, view: _View) -> bool:
        """Begin the time of a holder's lease anew, at the member that was just read from; False if it has ended.

        A claim never revokes its own lease to have another: a revocation that was sent twice, because its first answer
        did not come, could arrive late and end the new one."""
        lease = self._lease_of("held", claim.name, claim.holder)
        reply = await self._etcd.post("lease/keepalive", {"ID": lease}, member=view.member)
        seconds = int(reply.body.get("TTL", 0))
        if 0 < seconds < claim.ttl_seconds:
            raise LockMisused(
                f"lock {claim.name!r} was asked for {seconds} s by {claim.holder!r}, and now for {claim.ttl_seconds:g} s",
                hint="release it first, or ask as another holder",
            )
        return seconds > 0 and _member_of(reply) == view.member_id

    async def _revoke(self, lease: str) -> None:
        try:
            await self._etcd.post("lease/revoke", {"ID": lease})
        except Refused as refusal:
            if refusal.code != NOT_FOUND:
                raise

    async def _time_left(self, lease: str) -> float:
        """Seconds until a lease ends at the latest; 0 if it has."""
        told = (await self._etcd.post("lease/timetolive", {"ID": lease})).body
        left = int(told.get("TTL", 0))
        return 0.0 if left < 0 else float(min(left + 1, int(told.get("grantedTTL", left + 1))))

    async def _unless_gone(self, transaction: dict[str, Any]) -> Reply | None:
        """The reply to a transaction that was done; None if a comparison failed or the lease has ended meanwhile."""
        try:
            reply = await self._etcd.post("kv/txn", transaction)
        except Refused as refusal:
            if refusal.code != NOT_FOUND:
                raise
            return None
        return reply if reply.body.get("succeeded") else None

    # ---- keys --------------------------------------------------------------------------------------------------------

    def _held_key(self, name: str) -> str:
        return f"{self._prefix}/locks/{quote(name, safe='')}/held"

    def _line(self, name: str) -> str:
        return f"{self._prefix}/locks/{quote(name, safe='')}/line/"

    def _place_key(self, name: str, holder: str) -> str:
        return self._line(name) + quote(holder, safe="")

    def _same_birth(self, view: _View) -> dict[str, Any]:
        key = packed(f"{self._prefix}/keeper")
        return {"key": key, "target": "MOD", "result": "EQUAL", "mod_revision": view.born}


def patience(renewals: Sequence[LockRenewal], members: int) -> float:
    """How long a renewal waits for one member: all of them may be asked in half of the shortest time that is to be
    renewed, for the first may hang."""
    shortest = min(renewal.ttl_seconds for renewal in renewals)
    return min(REQUEST_SECONDS, max(RENEWAL_SECONDS_MIN, shortest / 2 / members))


def _range(key: str) -> dict[str, Any]:
    return {"request_range": {"key": packed(key)}}


def _range_under(prefix: str) -> dict[str, Any]:
    """All keys that begin so, in the order of their creation."""
    ends = {"key": packed(prefix), "range_end": packed(after(prefix))}
    return {"request_range": {**ends, "sort_target": "CREATE", "sort_order": "ASCEND"}}


def _created(key: str, revision: str, *, to: str | None = None) -> dict[str, Any]:
    """The key (or all up to ``to``) was created at that revision; at 0: does not exist."""
    compare = {"key": packed(key), "target": "CREATE", "result": "EQUAL", "create_revision": revision}
    return compare if to is None else {**compare, "range_end": packed(to)}


def _put(key: str, who: _Held, lease: str) -> dict[str, Any]:
    value = msgspec.json.encode(who).decode()
    return {"request_put": {"key": packed(key), "value": packed(value), "lease": lease}}


def _ranges(reply: Reply) -> list[list[dict[str, Any]]]:
    """The keys that each range of a transaction found."""
    return [part.get("response_range", {}).get("kvs", []) for part in reply.body.get("responses", [])]


def _member_of(reply: Reply) -> str:
    return str(reply.body.get("header", {}).get("member_id", ""))


def _who(entry: dict[str, Any]) -> _Held:
    return msgspec.json.decode(unpacked(entry["value"]), type=_Held)


__all__ = ["EtcdLocks", "patience"]
