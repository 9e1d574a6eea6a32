"""The conformance suite of :mod:`headrace.contracts.locks`: locks with tokens, and the election of a leader with terms.

Whoever keeps locks inherits it and gives the pytest fixture ``cluster``, see :class:`LockHarness`. Time is moved by the
harness; nothing here sleeps unless the harness does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import msgspec
import pytest

from headrace.contracts.locks import LEADER, LockClaim, LockRenewal, Locks, LockTurn
from headrace.core.errors import Fenced
from headrace.core.ids import Epoch, NodeId

SCENARIO_SECONDS_MAX = 90.0
CONTENDERS = 12
ROUNDS = 6

S = TypeVar("S")


class Member(msgspec.Struct, frozen=True):
    """A node that may take locks, with a handle of its own."""

    locks: Locks
    node: NodeId
    epoch: Epoch


class LockHarness(Protocol):
    """One cluster, fresh for every test. ``ttl_seconds`` is a time that locks are given here, ``place_seconds`` how long
    a place in the line is kept for somebody who has fallen silent."""

    ttl_seconds: float
    place_seconds: float

    async def member(self, name: str) -> Member:
        """A node that has joined; its own lease outlives every test unless it is lost."""
        ...

    async def lose(self, member: Member) -> None:
        """The node dies without a word and its lease is taken; returns when others may have its locks."""
        ...

    async def advance(self, seconds: float) -> None:
        """Let time pass on the clock that judges."""
        ...

    async def close(self) -> None:
        """Release everything."""
        ...


def lock_scenario(
    test: Callable[[S, LockHarness], Awaitable[None]],
) -> Callable[[S, Callable[[], LockHarness]], None]:
    """Make a coroutine test an ordinary pytest method that takes the ``cluster`` fixture, which makes a harness."""

    async def bounded(self: S, make: Callable[[], LockHarness]) -> None:
        harness = make()
        try:
            async with asyncio.timeout(SCENARIO_SECONDS_MAX):
                await test(self, harness)
        finally:
            await harness.close()

    def run(self: S, cluster: Callable[[], LockHarness]) -> None:
        asyncio.run(bounded(self, cluster))

    run.__name__, run.__qualname__, run.__doc__ = test.__name__, test.__qualname__, test.__doc__
    return run


async def ask(member: Member, harness: LockHarness, name: str, holder: str, *, queue: bool = True) -> LockTurn:
    """One claim."""
    return await member.locks.take_lock(
        LockClaim(
            name=name,
            holder=holder,
            node=member.node,
            epoch=member.epoch,
            ttl_seconds=harness.ttl_seconds,
            queue=queue,
        )
    )


async def until_held(member: Member, harness: LockHarness, name: str, holder: str) -> int:
    """Ask until the lock is ours; its token."""
    while not (turn := await ask(member, harness, name, holder)).token:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.005)  # it may be anybody's turn: there is nothing to await
    return turn.token


def renew(member: Member, harness: LockHarness, name: str, holder: str, token: int) -> bool:
    """One renewal."""
    renewal = LockRenewal(name, holder, token, harness.ttl_seconds)
    return member.locks.renew_locks(member.node, member.epoch, [renewal])[0]


class LockConformance:
    """What is promised of locks."""

    @lock_scenario
    async def test_one_holder_at_a_time(self, harness: LockHarness) -> None:
        """The second waits, hears who has it, and gets it after the release, with a higher token."""
        a, b = await harness.member("a"), await harness.member("b")
        first = await ask(a, harness, "door", "a1")
        assert first.token > 0
        waiting = await ask(b, harness, "door", "b1")
        assert (waiting.token, waiting.ahead) == (0, 0)
        assert 0 < waiting.frees_in_seconds <= harness.ttl_seconds
        assert waiting.node == "a"
        await a.locks.release_lock("door", "a1")
        second = await ask(b, harness, "door", "b1")
        assert second.token > first.token

    @lock_scenario
    async def test_locks_of_different_names_are_strangers(self, harness: LockHarness) -> None:
        """Nobody waits for another's lock; odd names are names."""
        a, b = await harness.member("a"), await harness.member("b")
        names = ["door", "door/2", "Door", "dö or %'\"\\"]
        assert all([(await ask(a, harness, name, f"a-{name}")).token for name in names])
        assert not any([(await ask(b, harness, name, f"b-{name}")).token for name in names])
        assert [row.name for row in await b.locks.locks()] == sorted(names)

    @lock_scenario
    async def test_asking_again_gives_the_same_token(self, harness: LockHarness) -> None:
        """A claim whose answer was lost is repeated without harm."""
        a = await harness.member("a")
        tokens = {(await ask(a, harness, "door", "a1")).token for _ in range(3)}
        assert len(tokens) == 1

    @lock_scenario
    async def test_two_tasks_of_one_node_are_two_holders(self, harness: LockHarness) -> None:
        """The node is whose lease counts, not who holds."""
        a = await harness.member("a")
        assert (await ask(a, harness, "door", "a1")).token
        assert not (await ask(a, harness, "door", "a2")).token

    @lock_scenario
    async def test_first_come_first_served(self, harness: LockHarness) -> None:
        """Whoever asks most often gets no advantage."""
        members = [await harness.member(f"n{number}") for number in range(4)]
        await ask(members[0], harness, "door", "h0")
        for number in (1, 2, 3):
            turn = await ask(members[number], harness, "door", f"h{number}")
            assert turn.ahead == number - 1
        await members[0].locks.release_lock("door", "h0")
        for number in (1, 2, 3):
            for late in range(number + 1, 4):
                assert not (await ask(members[late], harness, "door", f"h{late}")).token
            assert (await ask(members[number], harness, "door", f"h{number}")).token
            await members[number].locks.release_lock("door", f"h{number}")

    @lock_scenario
    async def test_who_only_asks_gets_no_place(self, harness: LockHarness) -> None:
        """And does not get past those who wait."""
        a, b, c = [await harness.member(name) for name in "abc"]
        await ask(a, harness, "door", "a1")
        await ask(b, harness, "door", "b1")
        assert not (await ask(c, harness, "door", "c1", queue=False)).token
        assert [row.waiting for row in await a.locks.locks()] == [1]
        await a.locks.release_lock("door", "a1")
        assert not (await ask(c, harness, "door", "c1", queue=False)).token
        assert (await ask(b, harness, "door", "b1")).token

    @lock_scenario
    async def test_leaving_the_line(self, harness: LockHarness) -> None:
        """The next one is first then; releasing twice or for somebody else changes nothing."""
        a, b, c = [await harness.member(name) for name in "abc"]
        await ask(a, harness, "door", "a1")
        await ask(b, harness, "door", "b1")
        await ask(c, harness, "door", "c1")
        await b.locks.release_lock("door", "b1")
        await b.locks.release_lock("door", "b1")
        assert not (await ask(c, harness, "door", "c1")).token
        await a.locks.release_lock("door", "a1")
        assert (await ask(c, harness, "door", "c1")).token
        await a.locks.release_lock("door", "a1")
        assert [row.holder for row in await a.locks.locks()] == ["c1"]

    @lock_scenario
    async def test_a_lock_is_kept_by_renewing_it(self, harness: LockHarness) -> None:
        """As long as it goes on."""
        a, b = await harness.member("a"), await harness.member("b")
        token = (await ask(a, harness, "door", "a1")).token
        for _ in range(4):
            await harness.advance(harness.ttl_seconds * 0.5)
            assert await asyncio.to_thread(renew, a, harness, "door", "a1", token)
            assert not (await ask(b, harness, "door", "b1")).token

    @lock_scenario
    async def test_a_lock_that_is_not_renewed_falls_free(self, harness: LockHarness) -> None:
        """Its former holder hears of it when it renews; a higher token tells everybody else."""
        a, b = await harness.member("a"), await harness.member("b")
        old = (await ask(a, harness, "door", "a1")).token
        await harness.advance(harness.ttl_seconds * 1.5)
        new = await until_held(b, harness, "door", "b1")
        assert new > old
        assert not await asyncio.to_thread(renew, a, harness, "door", "a1", old)
        await a.locks.release_lock("door", "a1")
        assert [(row.holder, row.token) for row in await b.locks.locks()] == [("b1", new)]

    @lock_scenario
    async def test_renewing_what_is_not_ours(self, harness: LockHarness) -> None:
        """A wrong token, holder or name is not renewed; several are answered one by one."""
        a = await harness.member("a")
        token = (await ask(a, harness, "door", "a1")).token
        asked = [
            LockRenewal("door", "a1", token, harness.ttl_seconds),
            LockRenewal("door", "a2", token, harness.ttl_seconds),
            LockRenewal("gate", "a1", token, harness.ttl_seconds),
        ]
        assert await asyncio.to_thread(a.locks.renew_locks, a.node, a.epoch, asked) == [True, False, False]
        assert await asyncio.to_thread(a.locks.renew_locks, a.node, a.epoch, []) == []

    @lock_scenario
    async def test_the_locks_of_a_lost_node_fall_free(self, harness: LockHarness) -> None:
        """Its places in lines too."""
        a, b, c = [await harness.member(name) for name in "abc"]
        old = (await ask(a, harness, "door", "a1")).token
        await ask(b, harness, "gate", "b1")
        await ask(a, harness, "gate", "a2")
        await ask(c, harness, "gate", "c1")
        await harness.lose(a)
        assert await until_held(c, harness, "door", "c2") > old
        await b.locks.release_lock("gate", "b1")
        assert await until_held(c, harness, "gate", "c1")

    @lock_scenario
    async def test_who_waits_and_falls_silent_loses_its_place(self, harness: LockHarness) -> None:
        """One that hangs does not hold up the others."""
        a, b, c = [await harness.member(name) for name in "abc"]
        token = (await ask(a, harness, "door", "a1")).token
        await ask(b, harness, "door", "b1")
        step = harness.ttl_seconds * 0.5
        for _ in range(int(harness.place_seconds / step) + 2):
            await ask(c, harness, "door", "c1")
            await harness.advance(step)
            assert await asyncio.to_thread(renew, a, harness, "door", "a1", token)
        await a.locks.release_lock("door", "a1")
        assert (await ask(c, harness, "door", "c1")).token

    @lock_scenario
    async def test_many_contenders_never_overlap(self, harness: LockHarness) -> None:
        """Everybody gets it in the end, one at a time, under rising tokens."""
        members = [await harness.member(f"n{number}") for number in range(4)]
        inside = 0
        tokens: list[int] = []

        async def contend(number: int) -> None:
            nonlocal inside
            member = members[number % len(members)]
            for round_number in range(ROUNDS):
                holder = f"h{number}-{round_number}"
                token = await until_held(member, harness, "door", holder)
                inside += 1
                assert inside == 1
                tokens.append(token)
                await asyncio.sleep(0)
                assert inside == 1
                inside -= 1
                await member.locks.release_lock("door", holder)

        async with asyncio.TaskGroup() as group:
            for number in range(CONTENDERS):
                group.create_task(contend(number))
        assert len(tokens) == CONTENDERS * ROUNDS
        assert tokens == sorted(set(tokens))
        assert await members[0].locks.locks() == []


class ElectionConformance:
    """What is promised of the leader: who holds :data:`LEADER`, under its token as the term."""

    @lock_scenario
    async def test_one_leader_and_rising_terms(self, harness: LockHarness) -> None:
        """Candidates ask without standing in line; the leader that resigns or falls silent is followed by another."""
        a, b = await harness.member("a"), await harness.member("b")
        first = await ask(a, harness, LEADER, "a", queue=False)
        other = await ask(b, harness, LEADER, "b", queue=False)
        assert first.token > 0
        assert (other.token, other.node) == (0, "a")
        assert 0 < other.frees_in_seconds <= harness.ttl_seconds
        await a.locks.release_lock(LEADER, "a")
        second = await ask(b, harness, LEADER, "b", queue=False)
        assert second.token > first.token
        await harness.advance(harness.ttl_seconds * 1.5)
        third = await ask(a, harness, LEADER, "a-again", queue=False)
        assert third.token > second.token
        assert not await asyncio.to_thread(renew, b, harness, LEADER, "b", second.token)

    @lock_scenario
    async def test_all_candidates_at_once_give_one_leader(self, harness: LockHarness) -> None:
        """However often."""
        members = [await harness.member(f"n{number}") for number in range(5)]
        last = 0
        for term in range(6):
            turns = await asyncio.gather(
                *(ask(member, harness, LEADER, f"{member.node}-{term}", queue=False) for member in members)
            )
            leaders = [(member, turn) for member, turn in zip(members, turns, strict=True) if turn.token]
            assert len(leaders) == 1
            leader, turn = leaders[0]
            assert turn.token > last
            last = turn.token
            await leader.locks.release_lock(LEADER, f"{leader.node}-{term}")

    @lock_scenario
    async def test_a_lost_leader_is_followed(self, harness: LockHarness) -> None:
        """At once, not when its own time as leader is over."""
        a, b = await harness.member("a"), await harness.member("b")
        old = (await ask(a, harness, LEADER, "a", queue=False)).token
        await harness.lose(a)
        async with asyncio.timeout(30):
            while not (turn := await ask(b, harness, LEADER, "b", queue=False)).token:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.005)
        assert turn.token > old


class FencedLockConformance:
    """For locks that are kept in the store: they know the epochs."""

    @lock_scenario
    async def test_a_fenced_node_gets_nothing(self, harness: LockHarness) -> None:
        """And keeps nothing."""
        a, b = await harness.member("a"), await harness.member("b")
        token = (await ask(a, harness, "door", "a1")).token
        await harness.lose(a)
        with pytest.raises(Fenced):
            await ask(a, harness, "gate", "a2")
        with pytest.raises(Fenced):
            await ask(a, harness, "door", "a1")
        assert not await asyncio.to_thread(renew, a, harness, "door", "a1", token)
        assert await until_held(b, harness, "door", "b1")
        assert [row.node for row in await b.locks.locks()] == ["b"]


__all__ = [
    "ElectionConformance",
    "FencedLockConformance",
    "LockConformance",
    "LockHarness",
    "Member",
    "lock_scenario",
]
