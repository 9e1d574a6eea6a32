"""A run is in one memory only: rounds of adoption that meet, a node that is fenced while it loads a run, a run that is
taken over while the commit that parked it is in doubt, a child that is asked for twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from headrace import continue_as_new, signal_run, start_child, task, wait_for_signal, workflow
from headrace.contracts.store import Flush
from headrace.core.codec import encode_event
from headrace.core.errors import Fenced, HistoryConflict, StoreUnavailable
from headrace.core.events import SignalReceived
from headrace.core.ids import RunId
from headrace.engine import adopter, ownership, parker
from headrace.engine.node import Node

from code_world import CodeWorld, check_history, histories, start_code  # isort: skip
from mortal import LEASE_SECONDS, MortalStore  # isort: skip
from rig import final, turns, until, within  # isort: skip

RUN = RunId("00000000000000000000000001")
CHILD_SECONDS_MAX = 60.0


class HeldStore(MortalStore):
    """A store of which one call can be held: it says that it was ``reached`` and goes on when told ``go``."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.hold: Callable[[str, tuple[Any, ...]], bool] = lambda name, args: False
        self.reached = asyncio.Event()
        self.go = asyncio.Event()
        self.then: Callable[[], None] = lambda: None
        self.late = False
        """Held after the call took effect, and not before."""
        self.failing: dict[str, int] = {}
        """How many of the next calls find the store out of reach, by name."""
        self.unheard: set[str] = set()
        """Calls that take effect, and whose answer gets lost, once, by name."""

    def __getattr__(self, name: str) -> Any:
        member = super().__getattr__(name)
        if name == "commit_now":
            return lambda flush: False  # every commit can be held
        if name not in ("history", "commit", "run", "put_workflow", "claim", "release"):
            return member

        async def call(*args: Any, **options: Any) -> Any:
            if name in self.unheard:
                self.unheard.discard(name)
                await member(*args, **options)
                raise StoreUnavailable("the connection was lost before the answer came")
            if self.failing.get(name, 0):
                self.failing[name] -= 1
                raise StoreUnavailable("the connection was lost")
            held = self.hold(name, args)
            if held:
                self.hold = lambda name, args: False
                if self.late:
                    await member(*args, **options)
                self.reached.set()
                await self.go.wait()
                self.then()
            return await member(*args, **options)

        return call


@task
async def double(n: int) -> int:
    return 2 * n


@workflow
async def waits() -> list[Any]:
    found: list[Any] = [await double(1), await wait_for_signal("item")]
    found.append(await double(2))
    return found


@workflow
async def child() -> int:
    return await double(4)


@workflow
async def sleeps() -> None:
    await asyncio.sleep(600)


@workflow
async def waiting_child() -> int:
    return 1 + await wait_for_signal("item")


@workflow
async def patient() -> int:
    return await start_child(waiting_child)


@workflow
async def mother() -> int:
    return await start_child(child)


@workflow
async def tells(target: str) -> str:
    await signal_run(target, "item", "told")
    return "told"


@workflow
async def leaves(target: str) -> str:
    start_child(child, parent_close="abandon")
    telling = asyncio.create_task(signal_run(target, "item", "told"))
    await asyncio.sleep(0)
    telling.done()
    return "gone"


@workflow
async def gathers(count: int) -> list[Any]:
    return [await wait_for_signal("item") for _ in range(count)]


@workflow
async def goes_on(turn: int = 1) -> Any:
    news = await wait_for_signal("item")
    if turn == 1:
        continue_as_new(turn=2)
    return news


WORKFLOWS = (goes_on, gathers, waits, child, mother, tells, leaves, waiting_child, patient, sleeps)


@pytest.fixture(autouse=True)
def _park_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parker, "PARK_AFTER_SECONDS", 0.01)


def play(folder: Path, test: Callable[[CodeWorld, HeldStore, Node], Awaitable[None]]) -> None:
    """Run a test with a node of its own; afterwards every history must be whole and every run ended."""

    async def main() -> None:
        world = CodeWorld(folder, *WORKFLOWS)
        store = world.process = HeldStore(world.open_handle())
        node = world.node_on(store)
        await node.start()
        try:
            await test(world, store, node)
            assert node.broken is None
            found = await histories(world.open_handle(), list(world.database.events))
        finally:
            await node.stop()
        for run_id, events in found.items():
            check_history(world, run_id, events)

    asyncio.run(within(main(), CHILD_SECONDS_MAX))


async def parked(node: Node, run_id: RunId) -> None:
    await until(lambda: run_id not in node.live and not node.parker.parking)


def woken(world: CodeWorld, run_id: RunId) -> None:
    """Somebody may take the run over now."""
    world.database.runs[run_id].wake_at = None


async def item(node: Node) -> None:
    await node.command(RUN, "signal", {"name": "item", "payload": "go"})


async def say(node: Node, payload: Any) -> None:
    await node.command(RUN, "signal", {"name": "item", "payload": payload})


def test_two_rounds_of_adoption_do_not_take_runs_from_each_other(tmp_path: Path) -> None:
    async def test(world: CodeWorld, store: HeldStore, node: Node) -> None:
        epoch = node.epoch
        await start_code(node, waits, run_id=RUN)
        await parked(node, RUN)
        woken(world, RUN)
        store.hold = lambda name, args: name == "history"
        first = asyncio.ensure_future(node.adopter.adopt_waiting())
        await store.reached.wait()
        second = asyncio.ensure_future(node.adopter.adopt_waiting())
        await turns()
        store.go.set()
        assert await first + await second == 1
        await item(node)
        assert (await final(node, RUN)).output == [2, "go", 4]
        assert node.epoch == epoch, "it fenced itself"

    play(tmp_path, test)


def test_a_node_fenced_while_it_loads_a_run_takes_it_over_once(tmp_path: Path) -> None:
    async def test(world: CodeWorld, store: HeldStore, node: Node) -> None:
        epoch = node.epoch
        await start_code(node, waits, run_id=RUN)
        await parked(node, RUN)
        woken(world, RUN)
        store.hold = lambda name, args: name == "history"
        first = asyncio.ensure_future(node.adopter.adopt_waiting())
        await store.reached.wait()
        node.membership.fence(Fenced("for the test"))
        await until(lambda: node.epoch > epoch)
        rejoined = node.epoch
        store.go.set()
        with pytest.raises(Fenced):
            await first
        await item(node)
        assert (await final(node, RUN)).output == [2, "go", 4]
        assert node.epoch == rejoined, "it fenced itself again"

    play(tmp_path, test)


def test_a_run_is_not_taken_over_while_the_commit_that_parked_it_is_in_doubt(tmp_path: Path) -> None:
    """The commit took effect, its answer was lost: it is repeated, and must not give the run up a second time."""

    async def test(world: CodeWorld, store: HeldStore, node: Node) -> None:
        epoch = node.epoch

        def fail() -> None:
            raise StoreUnavailable("the connection was lost")

        def parks(name: str, args: tuple[Any, ...]) -> bool:
            flush = args[0] if args else None
            return name == "commit" and isinstance(flush, Flush) and any(u.release for u in flush.updates)

        store.hold, store.late, store.then = parks, True, fail
        await start_code(node, waits, run_id=RUN)
        await store.reached.wait()
        sent = asyncio.ensure_future(item(node))
        await turns()
        store.go.set()
        await sent
        assert (await final(node, RUN)).output == [2, "go", 4]
        assert node.epoch == epoch, "it fenced itself"

    play(tmp_path, test)


def test_a_child_that_is_asked_for_twice_is_started_once(tmp_path: Path) -> None:
    async def test(world: CodeWorld, store: HeldStore, node: Node) -> None:
        epoch = node.epoch
        store.hold = lambda name, args: name == "put_workflow" and args[0].name == child.spec.name
        live = await start_code(node, mother, run_id=RUN)
        await store.reached.wait()
        node.performer.perform(live, live.run.plan.brain.pending(live.run))
        await turns(500)
        store.go.set()
        await turns(500)
        assert (await final(node, RUN)).output == 8
        assert len(world.database.runs) == 2
        assert node.epoch == epoch, "it fenced itself"

    play(tmp_path, test)


@pytest.mark.parametrize("rings", ["before the commit", "after it"])
def test_a_message_to_a_run_that_is_just_being_parked_wakes_it(
    rings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sender saw a live owner and rang; the run is no longer in that owner's memory."""
    monkeypatch.setattr(adopter, "WATCH_SECONDS_MAX", 3600.0)
    monkeypatch.setattr(adopter, "WATCHES_PER_LEASE", 0.001)

    async def test(world: CodeWorld, store: HeldStore, node: Node) -> None:
        def parks(name: str, args: tuple[Any, ...]) -> bool:
            flush = args[0] if args else None
            return name == "commit" and isinstance(flush, Flush) and any(u.release for u in flush.updates)

        store.hold = parks
        await start_code(node, waits, run_id=RUN)
        await store.reached.wait()
        sender = world.open_handle()
        await sender.post(RUN, "signal", {"name": "item", "payload": "go"})
        if rings == "before the commit":
            node.commander.wake()
            await turns()
        store.go.set()
        if rings == "after it":
            await parked(node, RUN)
            node.commander.wake()
        await until(lambda: world.database.runs[RUN].state == "succeeded")

    play(tmp_path, test)


def test_a_run_whose_message_is_on_its_way_is_not_parked(tmp_path: Path) -> None:
    """Word of its delivery is told to the run in this memory, and to nobody else."""

    async def test(world: CodeWorld, store: HeldStore, node: Node) -> None:
        await start_code(node, waits, run_id=RUN)
        await parked(node, RUN)
        store.hold = lambda name, args: name == "run" and args[0] == RUN
        live = await start_code(node, tells, RUN)
        await store.reached.wait()
        for _ in range(5):
            node.parker._park_idle()
        assert not live.parked
        store.go.set()
        assert (await final(node, live.run_id)).output == "told"
        assert (await final(node, RUN)).output == [2, "told", 4]

    play(tmp_path, test)


def test_an_effect_is_tried_again_while_the_store_is_out_of_reach(tmp_path: Path) -> None:
    async def test(world: CodeWorld, store: HeldStore, node: Node) -> None:
        def fail() -> None:
            raise StoreUnavailable("the connection was lost")

        store.then = fail
        store.go.set()
        store.hold = lambda name, args: name == "put_workflow" and args[0].name == child.spec.name
        live = await start_code(node, mother, run_id=RUN)
        assert (await final(node, live.run_id)).output == 8

    play(tmp_path, test)


def test_a_node_that_finds_foreign_events_reads_its_runs_again(tmp_path: Path) -> None:
    """What it decided on was not what is stored. It does not write on, and the run goes on from what is stored."""

    async def test(world: CodeWorld, store: HeldStore, node: Node) -> None:
        await start_code(node, waits, run_id=RUN)
        await parked(node, RUN)
        woken(world, RUN)
        await node.adopter.adopt_waiting()
        live, epoch = node.live[RUN], node.epoch
        foreign = SignalReceived(world.clock(), "item", "foreign")
        world.database.events[RUN][live.run.seq + 1] = encode_event(foreign)
        with pytest.raises(HistoryConflict):
            await item(node)
        await until(lambda: node.epoch > epoch)
        assert (await final(node, RUN)).output == [2, "foreign", 4]

    play(tmp_path, test)


def test_a_run_that_ends_at_once_has_its_effects_done(tmp_path: Path) -> None:
    """The run has left the memory when they are carried out."""

    async def test(world: CodeWorld, store: HeldStore, node: Node) -> None:
        await start_code(node, waits, run_id=RUN)
        live = await start_code(node, leaves, RUN)
        assert (await final(node, live.run_id)).output == "gone"
        assert (await final(node, RUN)).output == [2, "told", 4]
        await until(lambda: len(world.database.runs) == 3)
        for run_id in list(world.database.runs):
            await final(node, run_id)

    play(tmp_path, test)


def test_a_parent_hears_of_a_child_that_ended_just_before_its_process(tmp_path: Path) -> None:
    """The child's end is durable, its parent is parked and has not been told when the process dies: nobody waits for the
    parent to look after its children."""

    async def test(world: CodeWorld, store: HeldStore, node: Node) -> None:
        await start_code(node, patient, run_id=RUN)
        await until(lambda: len(world.database.runs) == 2 and not node.live and not node.parker.parking)
        [child_id] = set(world.database.runs) - {RUN}
        due = world.database.runs[RUN].wake_at
        store.hold = lambda name, args: name == "run" and args[0] == RUN
        await node.command(child_id, "signal", {"name": "item", "payload": 1})
        await store.reached.wait()
        assert world.database.runs[child_id].ended_at is not None
        store.dead = True
        node.abandon()
        world.clock.offset += LEASE_SECONDS + 1
        assert due is not None
        assert world.clock() < due, "it would look after its children by itself"
        other = world.process = MortalStore(world.open_handle())
        heir = world.node_on(other)
        await heir.start()
        try:
            assert (await final(heir, RUN)).output == 2
        finally:
            await heir.stop()

    play(tmp_path, test)


@pytest.mark.parametrize(("events_per_second", "stays"), [(0.001, True), (1_000, False)])
def test_a_long_history_is_not_given_up_for_a_short_wait(
    events_per_second: float, stays: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two tries of a call a run would be replayed each time."""

    async def test(world: CodeWorld, store: HeldStore, node: Node) -> None:
        live = await start_code(node, sleeps, run_id=RUN)
        if stays:
            await until(lambda: live.run.timers and not live.unsettled)
            for _ in range(5):
                node.parker._park_idle()
            assert not live.parked
        else:
            await until(lambda: live.parked)
        await node.command(RUN, "terminate", {})
        await final(node, RUN)

    monkeypatch.setattr(parker, "PARK_EVENTS_PER_SECOND", events_per_second)
    play(tmp_path, test)


def test_a_burst_of_messages_takes_a_run_up_once_and_tells_it_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that lose the race for the claim find the run in memory."""

    async def test(world: CodeWorld, store: HeldStore, node: Node) -> None:
        await start_code(node, gathers, 12, run_id=RUN)
        await parked(node, RUN)
        monkeypatch.setattr(parker, "PARK_AFTER_SECONDS", CHILD_SECONDS_MAX)  # it stays once it is there
        store.hold = lambda name, args: name == "history"
        burst = [asyncio.ensure_future(say(node, number)) for number in range(12)]
        await store.reached.wait()
        await turns()
        store.go.set()
        await asyncio.gather(*burst)
        assert (await final(node, RUN)).output == list(range(12))

    play(tmp_path, test)


def test_a_message_waits_for_the_adopter_that_is_loading_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(world: CodeWorld, store: HeldStore, node: Node) -> None:
        await start_code(node, gathers, 1, run_id=RUN)
        await parked(node, RUN)
        monkeypatch.setattr(parker, "PARK_AFTER_SECONDS", CHILD_SECONDS_MAX)  # it stays once it is there
        woken(world, RUN)
        store.hold = lambda name, args: name == "history"
        round_of_adoption = asyncio.ensure_future(node.adopter.adopt_waiting())
        await store.reached.wait()
        told = asyncio.ensure_future(say(node, 7))
        await turns()
        store.go.set()
        await asyncio.gather(round_of_adoption, told)
        assert (await final(node, RUN)).output == [7]

    play(tmp_path, test)


@pytest.mark.parametrize("kind", ["signal", "pause"])
def test_a_run_claimed_for_a_command_goes_on_though_the_store_was_out_of_reach(tmp_path: Path, kind: str) -> None:
    """Neither loaded nor given up, it would stay with an owner that lives and does not have it."""

    async def test(world: CodeWorld, store: HeldStore, node: Node) -> None:
        await start_code(node, waits, run_id=RUN)
        await parked(node, RUN)
        store.failing = {"history": 1, "release": 2}
        with pytest.raises(StoreUnavailable):
            await node.command(RUN, kind, {"name": "item", "payload": 1, "key": "first"} if kind == "signal" else {})
        await until(lambda: RUN in node.live or world.database.runs[RUN].owner is None)
        await node.command(RUN, "signal", {"name": "item", "payload": 2, "key": "second"})
        assert (await final(node, RUN)).state == "succeeded"

    play(tmp_path, test)


def test_a_run_that_was_given_up_unheard_and_claimed_again_is_not_given_up_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "BACK_SECONDS", 0.02)

    async def test(world: CodeWorld, store: HeldStore, node: Node) -> None:
        await start_code(node, gathers, 2, run_id=RUN)
        await parked(node, RUN)
        monkeypatch.setattr(parker, "PARK_AFTER_SECONDS", CHILD_SECONDS_MAX)  # it stays once it is there
        # Given up unheard, and then out of reach for as long as it takes to claim it again.
        store.failing, store.unheard = {"history": 1, "release": 1_000}, {"release"}
        with pytest.raises(StoreUnavailable):
            await node.command(RUN, "signal", {"name": "item", "payload": 1, "key": "first"})
        await node.command(RUN, "signal", {"name": "item", "payload": 2, "key": "second"})
        store.failing = {}
        live = node.live[RUN]
        await asyncio.sleep(0.2)  # several times as long as it waits before it tries again
        assert node.live.get(RUN) is live, "given up, it was taken up a second time"
        await node.command(RUN, "signal", {"name": "item", "payload": 3, "key": "third"})
        assert (await final(node, RUN)).state == "succeeded"

    play(tmp_path, test)


def test_a_run_that_is_claimed_while_it_is_being_given_up_is_claimed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release that is repeated on its way (as after a cut connection) may come after the claim."""

    async def test(world: CodeWorld, store: HeldStore, node: Node) -> None:
        epoch = node.epoch
        await start_code(node, gathers, 2, run_id=RUN)
        await parked(node, RUN)
        monkeypatch.setattr(parker, "PARK_AFTER_SECONDS", CHILD_SECONDS_MAX)  # it stays once it is there
        store.failing = {"history": 1}
        store.hold, store.late = lambda name, args: name == "release", True
        failing = asyncio.ensure_future(say(node, 1))
        await store.reached.wait()  # given up once, and about to be given up once more
        woken(world, RUN)
        taking_over = asyncio.ensure_future(node.adopter.adopt_waiting())
        await turns(500)
        store.go.set()
        with pytest.raises(StoreUnavailable):
            await failing
        assert await taking_over == 1
        assert RUN in node.live
        assert world.database.runs[RUN].owner == node.id
        await say(node, 2)
        await say(node, 3)
        assert (await final(node, RUN)).state == "succeeded"
        assert node.epoch == epoch, "it fenced itself"

    play(tmp_path, test)


def test_a_run_whose_claim_nobody_waits_for_any_more_is_given_back(tmp_path: Path) -> None:
    async def test(world: CodeWorld, store: HeldStore, node: Node) -> None:
        await start_code(node, waits, run_id=RUN)
        await parked(node, RUN)
        store.hold = lambda name, args: name == "claim"
        given_up = asyncio.ensure_future(item(node))
        await store.reached.wait()
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        store.go.set()
        await node.command(RUN, "signal", {"name": "item", "payload": "told"})
        assert (await final(node, RUN)).output == [2, "told", 4]

    play(tmp_path, test)


def test_a_message_whose_run_has_gone_on_before_its_turn_came_follows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was found waiting, and has ended by the time it is claimed."""

    async def test(world: CodeWorld, store: HeldStore, node: Node) -> None:
        await start_code(node, goes_on, run_id=RUN)
        await parked(node, RUN)
        store.hold = lambda name, args: name == "history"
        first = asyncio.ensure_future(say(node, 1))
        await store.reached.wait()
        second = asyncio.ensure_future(say(node, 2))
        await turns()
        store.go.set()
        await asyncio.gather(first, second)
        assert str(world.database.runs[RUN].state) == "continued"
        (following,) = set(world.database.runs) - {RUN}
        assert (await final(node, following)).output == 2
        assert RUN not in node.live

    play(tmp_path, test)
