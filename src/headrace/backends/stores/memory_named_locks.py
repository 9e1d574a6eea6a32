"""Locks and terms in memory: short enough to be read as the meaning of :mod:`headrace.contracts.locks`.

Called under the database's lock. ``lease_end`` tells when the lease ends that a node holds under an epoch; 0 if it holds
none.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from headrace.contracts.locks import LEADER, PLACE_SECONDS, STORE, LockClaim, LockRenewal, LockRow, LockTurn, Term
from headrace.core.errors import NotLeader
from headrace.core.ids import Epoch, NodeId

LeaseEnd = Callable[[NodeId, Epoch], float]


class _Entry(msgspec.Struct):
    """A held lock, or a place in the line (``token`` 0)."""

    holder: str
    node: NodeId
    epoch: Epoch
    expires_at: float
    token: int = 0
    taken_at: float = 0.0


class NamedLocks:
    """All locks of one database."""

    def __init__(self) -> None:
        self._held: dict[str, _Entry] = {}
        self._lines: dict[str, list[_Entry]] = {}
        self._terms: dict[str, int] = {}
        """The highest term seen of every authority but the store itself."""

    def take(self, claim: LockClaim, now: float, lease_end: LeaseEnd, next_token: Callable[[], int]) -> LockTurn:
        """See the contract."""
        held = self._held.get(claim.name)
        if held is not None and held.holder == claim.holder:
            held.expires_at = now + claim.ttl_seconds
            return LockTurn(held.token)
        if held is not None and not _lives(held, now, lease_end):
            del self._held[claim.name]
            held = None
        line = self._living(claim.name, now, lease_end)
        place = next((place for place, entry in enumerate(line) if entry.holder == claim.holder), None)
        if held is None and (place == 0 or not line) and lease_end(claim.node, claim.epoch) > now:
            line[:] = [entry for entry in line if entry.holder != claim.holder]
            self._keep_line(claim.name, line)
            token = next_token()
            self._held[claim.name] = _Entry(
                claim.holder, claim.node, claim.epoch, now + claim.ttl_seconds, token, taken_at=now
            )
            return LockTurn(token)
        if place is None:
            place = len(line)
            if claim.queue:
                line.append(_Entry(claim.holder, claim.node, claim.epoch, now + PLACE_SECONDS))
        else:
            line[place].expires_at = now + PLACE_SECONDS
        self._keep_line(claim.name, line)
        if held is None:
            return LockTurn(0, "", place)
        return LockTurn(0, held.node, place, _end(held, lease_end) - now)

    def renew(self, renewal: LockRenewal, now: float) -> bool:
        """See the contract."""
        held = self._held.get(renewal.name)
        if held is None or held.holder != renewal.holder or held.token != renewal.token:
            return False
        held.expires_at = now + renewal.ttl_seconds
        return True

    def release(self, name: str, holder: str, now: float, lease_end: LeaseEnd) -> NodeId | None:
        """See the contract; the node that is next."""
        line = [entry for entry in self._living(name, now, lease_end) if entry.holder != holder]
        self._keep_line(name, line)
        held = self._held.get(name)
        if held is not None and held.holder == holder:
            del self._held[name]
            held = None
        return line[0].node if line and held is None else None

    def rows(self, now: float, lease_end: LeaseEnd) -> list[LockRow]:
        """See the contract."""
        return [
            LockRow(
                name,
                held.token,
                held.holder,
                held.node,
                held.taken_at,
                held.expires_at,
                len(self._living(name, now, lease_end)),
            )
            for name, held in sorted(self._held.items())
            if _lives(held, now, lease_end)
        ]

    def drop_node(self, node: NodeId) -> None:
        """A node is gone: its locks are free, its places in the lines too."""
        for name in [name for name, held in self._held.items() if held.node == node]:
            del self._held[name]
        for name, line in list(self._lines.items()):
            self._keep_line(name, [entry for entry in line if entry.node != node])

    def check_term(self, term: Term | None) -> None:
        """Raise :class:`NotLeader` if a higher term was given."""
        if term is None:
            return
        if term.authority == STORE:
            held = self._held.get(LEADER)
            if held is None or held.token != term.number:
                raise NotLeader(f"term {term.number} is over", hint="stand for election again")
            return
        if term.number < self._terms.get(term.authority, 0):
            raise NotLeader(f"term {term.number} of {term.authority} is over", hint="stand for election again")
        self._terms[term.authority] = term.number

    def _living(self, name: str, now: float, lease_end: LeaseEnd) -> list[_Entry]:
        return [entry for entry in self._lines.get(name, ()) if _lives(entry, now, lease_end)]

    def _keep_line(self, name: str, line: list[_Entry]) -> None:
        if line:
            self._lines[name] = line
        else:
            self._lines.pop(name, None)


def _lives(entry: _Entry, now: float, lease_end: LeaseEnd) -> bool:
    return _end(entry, lease_end) > now


def _end(entry: _Entry, lease_end: LeaseEnd) -> float:
    return min(entry.expires_at, lease_end(entry.node, entry.epoch))
