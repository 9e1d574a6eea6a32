"""Slots that change while attempts are under way: exact in both directions, nothing under way is touched."""

import asyncio

import pytest

from headrace import Headrace, dag, task
from headrace.config.keys import settings_of

BOUND = 60.0
"""Seconds for what must happen; the machine may be busy."""


class Gatehouse:
    """Tasks that wait inside until they are let go, and how many are in there."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.exits = asyncio.Semaphore(0)
        self.changed = asyncio.Condition()

    async def visit(self) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        async with self.changed:
            self.changed.notify_all()
        await self.exits.acquire()
        self.inside -= 1
        async with self.changed:
            self.changed.notify_all()

    async def until(self, number: int) -> None:
        async with asyncio.timeout(BOUND), self.changed:
            await self.changed.wait_for(lambda: self.inside == number)

    def let_go(self, number: int) -> None:
        for _ in range(number):
            self.exits.release()


houses: list[Gatehouse] = []
"""The one that is open now is the last."""


@task(executor="inline")
async def visit(number: int) -> int:
    await houses[-1].visit()
    return number


def slots(**given: int):
    return settings_of({("slots", name): number for name, number in given.items()} | {("store",): "memory://"})


async def settled(headrace: Headrace) -> None:
    """Whatever could start has started: the journal has nothing to tell, and the loop has turned."""
    for _ in range(50):
        await asyncio.sleep(0)


def test_more_slots_start_at_once_and_fewer_let_what_is_under_way_end():
    async def scenario() -> None:
        house = Gatehouse()
        houses.append(house)
        with dag("visitors") as visitors:
            visit.map(number=list(range(20)))
        async with Headrace.configured(slots(inline=2)) as headrace:
            run = await headrace.run(visitors)
            await house.until(2)
            await settled(headrace)
            assert house.inside == 2
            done = await headrace.reload(slots(inline=5))
            assert done.changed == ("slots.inline",)
            await house.until(5)
            await headrace.reload(slots(inline=1))
            await settled(headrace)
            assert house.inside == 5  # nothing under way is touched
            for left in (4, 3, 2, 1):
                house.let_go(1)
                await house.until(left)
                await settled(headrace)
                assert house.inside == left  # nobody else got in
            house.let_go(1)
            await house.until(1)  # one left, one came
            await settled(headrace)
            assert (house.inside, house.most) == (1, 5)
            await headrace.reload(slots(inline=3))
            await house.until(3)
            house.let_go(20)
            view = await run.wait(BOUND)
            assert str(view.state) == "succeeded"
            assert house.most == 5
            assert headrace.slots["inline"] == 3

    asyncio.run(scenario())


MEETING = """
import pathlib, time

def meet(index, number, folder):
    here = pathlib.Path(folder)
    mine = here / f"in-{index}"
    mine.touch()
    (here / f"came-{index}").touch()
    inside = len(list(here.glob("in-*")))
    deadline = time.monotonic() + 60
    while len(list(here.glob("came-*"))) < number:
        assert time.monotonic() < deadline, "the others never came"
        time.sleep(0.005)
    mine.unlink()
    return inside
"""

GRAPH = """
name: meeting
params: {number: {type: int}, folder: {type: str}}
tasks:
  meet:
    map: [0, 1, 2, 3, 4, 5, 6, 7]
    python: "meeting:meet"
    executor: EXECUTOR
    with: {index: "{{ item }}", number: "{{ params.number }}", folder: "{{ params.folder }}"}
output: "{{ tasks.meet.output }}"
"""


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_pools_grow_and_shrink_with_their_slots(executor, tmp_path):
    """Each call waits until as many have come as there are slots, which takes as many at once; and none sees more."""
    (tmp_path / "meeting.py").write_text(MEETING)
    (tmp_path / "meeting.yaml").write_text(GRAPH.replace("EXECUTOR", executor))
    key = {"thread": "threads", "process": "processes"}[executor]

    async def scenario() -> None:
        async with Headrace.configured(slots(**{key: 1}), data_dir=tmp_path / "data") as headrace:
            for turn, number in enumerate((1, 4, 2, 3)):
                await headrace.reload(slots(**{key: number}))
                folder = tmp_path / f"turn-{turn}"
                folder.mkdir()
                run = await headrace.run(tmp_path / "meeting.yaml", {"number": number, "folder": str(folder)})
                seen = await run.result(BOUND)
                assert max(seen) <= number
            if executor == "process":
                assert headrace._processes._serving() <= 3
            else:
                assert headrace._threads._threads <= 3

    asyncio.run(scenario())


def test_what_cannot_change_is_named_and_stays(tmp_path):
    async def scenario() -> None:
        async with Headrace.configured(slots(threads=2)) as headrace:
            new = settings_of({("store",): "sqlite:///other.db", ("slots", "threads"): 3, ("retention",): 60.0})
            done = await headrace.reload(new)
            assert done.needs_restart == ("store",)
            assert done.changed == ("retention", "slots.threads")
            assert headrace.settings.store == "memory://"
            assert headrace.node_options.slots["thread"] == 2  # what it began with
            assert headrace.slots["thread"] == 3
            assert (await headrace.reload(new)).changed == ()

    asyncio.run(scenario())


def test_a_node_that_drains_takes_nothing_over(tmp_path):
    """A run that it took over would wait for its end instead of going on elsewhere."""

    async def scenario() -> None:
        store = f"sqlite:///{tmp_path}/x.db"
        house = Gatehouse()
        houses.append(house)
        with dag("visitors") as visitors:
            visit(number=1)
        async with Headrace(store, drain_seconds=BOUND) as draining:
            await draining.run(visitors)
            await house.until(1)
            closing = asyncio.create_task(draining.close())
            while not draining.stopping:
                await asyncio.sleep(0)
            async with Headrace(store, adopt=False, execute=False) as other:
                left = await other.run(visitors)
            assert await draining._node.adopter.adopt_waiting() == 0
            assert draining.live(left.id) is None
            house.let_go(2)
            await closing

    asyncio.run(scenario())


def test_a_shorter_retention_deletes_at_once(tmp_path):
    """Nothing waits for the janitor's next round."""

    async def scenario() -> None:
        clock = [1000.0]
        async with Headrace.configured(slots(), now=lambda: clock[0]) as headrace:
            with dag("quick") as quick:
                nothing()
            run = await headrace.run(quick)
            await run.wait(BOUND)
            await headrace.reload(settings_of({("store",): "memory://", ("retention",): 0.0}))
            async with asyncio.timeout(BOUND):
                while await headrace.runs():
                    await asyncio.sleep(0.01)

    asyncio.run(scenario())


@task(executor="inline")
async def nothing() -> None:
    pass
