"""A process dies at every call it makes to its store; another goes on. For workflows of code: the result is the same,
nothing is recorded twice, no call runs whose outcome is known, the code replays its whole history, and clients were
told the truth."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from headrace import (
    InvalidCommand,
    TaskFailed,
    continue_as_new,
    dag,
    signal_run,
    start_child,
    task,
    update,
    wait_for_signal,
    wait_until,
    workflow,
)
from headrace.backends.stores.sqlite import SqliteStore
from headrace.contracts.store import RunFilter
from headrace.core import inputs as inp
from headrace.core.errors import PermanentError
from headrace.core.ids import RunId
from headrace.durable.workflow import WorkflowFunction
from headrace.engine import parker
from headrace.engine.node import Node

from code_world import CodeWorld, check_history, histories, start_code  # isort: skip
from rig import final, until  # isort: skip

Client = Callable[[CodeWorld, Node], Awaitable[None]]
EVERYTHING = RunFilter(limit=100)


@task
async def reserve(n: int) -> str:
    return f"reserved {n}"


@task(retries={"attempts": 2, "initial": 0, "jitter": "none"})
async def charge(n: int) -> str:
    raise PermanentError("no money")


@task
async def release(what: str) -> str:
    return f"released {what}"


@workflow
async def saga_like(n: int) -> list[str]:
    done: list[str] = []
    try:
        done.append(await reserve(n))
        done += await asyncio.gather(reserve(n + 1), reserve(n + 2))
        await charge(n)
    except TaskFailed as failed:
        for what in list(reversed(done)):
            done.append(await release(what))
        done.append(failed.task)
    return done


@workflow
async def packing(n: int) -> str:
    await asyncio.sleep(0.01)
    return await reserve(n)


with dag("labels") as labels:
    reserve.options(id="label")(7)


@workflow
async def family(n: int) -> Any:
    one, two, graph = start_child(packing, {"n": n}), start_child(packing, {"n": n + 1}), start_child(labels)
    abandoned = start_child(packing, {"n": 9}, parent_close="abandon")
    return [await one, await two, sorted(await graph), abandoned.run_id != one.run_id]


@workflow
async def rounds(left: int, seen: list[Any]) -> list[Any]:
    seen = [*seen, await reserve(left), await wait_for_signal("item")]
    if left > 1:
        continue_as_new(left=left - 1, seen=seen)
    return seen


@workflow
async def collects() -> list[Any]:
    return [await wait_for_signal("item") for _ in range(3)]


@workflow
async def tells(target: str) -> str:
    for n in range(3):
        await signal_run(target, "item", n)
    return "told"


@workflow
async def sleeper() -> list[Any]:
    found: list[Any] = [await reserve(1)]
    await asyncio.sleep(15)
    found.append(await reserve(2))
    found.append(await wait_for_signal("item"))
    return found


@workflow
async def counter() -> int:
    total = 0

    @update
    async def add(n: int) -> int:
        nonlocal total
        await reserve(n)
        total += n
        return total

    await wait_until(lambda: total >= 3)
    return total


class Scenario:
    """Workflows, a client that starts the first of them and stays to its end, and what must come out."""

    def __init__(
        self,
        workflow: WorkflowFunction[..., Any],
        args: tuple[Any, ...],
        output: Any,
        *,
        others: tuple[WorkflowFunction[..., Any], ...] = (),
        client: Client | None = None,
        told: list[Any] | None = None,
    ) -> None:
        self.workflows = (workflow, *others)
        self.args = args
        self.output = output
        self.client = client
        self.told = told

    async def live(self, world: CodeWorld, node: Node) -> None:
        """The client: it starts what has not been acknowledged, talks to it, and waits for the end of everything."""
        await started(world, node, 0, self.workflows[0], *self.args)
        if self.client is not None:
            with contextlib.suppress(InvalidCommand):  # it ended before an earlier process could hear of it
                await self.client(world, node)
        await all_ended(node)


async def started(world: CodeWorld, node: Node, number: int, workflow: WorkflowFunction[..., Any], *args: Any) -> None:
    """Start a run under an id that the client keeps: a run whose start was not acknowledged may exist all the same."""
    run_id = RunId(f"0000000000000000000000000{number}")
    if await node.store.run(run_id) is None:
        await start_code(node, workflow, *args, run_id=run_id)
    if len(world.acknowledged) == number:
        world.acknowledged.append(run_id)


async def all_ended(node: Node) -> None:
    for _ in range(20):
        rows = await node.store.runs(EVERYTHING)
        if all(row.ended_at is not None for row in rows):
            return
        for row in rows:
            await final(node, row.run_id)
    raise AssertionError("runs go on starting runs")


async def send_items(world: CodeWorld, node: Node) -> None:
    """Three signals; one whose sending was not acknowledged is sent again under the same key."""
    for n in range(len(world.answers), 3):
        payload = {"name": "item", "payload": n, "key": f"client/{n}"}
        await node.command(world.acknowledged[0], "signal", payload)
        world.answers.append(n)


async def send_updates(world: CodeWorld, node: Node) -> None:
    for n in range(len(world.answers) + 1, 3):
        answer = await node.updater.update(world.acknowledged[0], inp.Update(f"u{n}", "add", {"args": [n]}))
        world.answers.append(answer)


async def park_and_wake(world: CodeWorld, node: Node) -> None:
    run_id = world.acknowledged[0]

    async def parked_or_over() -> None:
        await until(lambda: run_id not in node.live or world.process.dead)

    await parked_or_over()
    world.clock.offset += 20.0  # less than a lease
    await node.adopter.adopt_waiting()
    await parked_or_over()
    if not world.answers:
        await node.command(run_id, "signal", {"name": "item", "payload": "go", "key": "client/go"})
        world.answers.append("go")


async def start_teller(world: CodeWorld, node: Node) -> None:
    await started(world, node, 1, tells, world.acknowledged[0])


SCENARIOS = {
    "saga": Scenario(
        saga_like,
        (5,),
        [
            *("reserved 5", "reserved 6", "reserved 7"),
            *("released reserved 7", "released reserved 6", "released reserved 5", "charge"),
        ],
    ),
    "children": Scenario(family, (5,), ["reserved 5", "reserved 6", ["label"], True], others=(packing,)),
    "signals": Scenario(collects, (), [0, 1, 2], client=send_items, told=[0, 1, 2]),
    "continue": Scenario(
        rounds, (3, []), ["reserved 3", 0, "reserved 2", 1, "reserved 1", 2], client=send_items, told=[0, 1, 2]
    ),
    "messages": Scenario(collects, (), [0, 1, 2], others=(tells,), client=start_teller),
    "updates": Scenario(counter, (), 3, client=send_updates, told=[1, 3]),
    "parking": Scenario(sleeper, (), ["reserved 1", "reserved 2", "go"], client=park_and_wake),
}


@pytest.fixture(autouse=True)
def _park_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parker, "PARK_AFTER_SECONDS", 0.02)


async def look(world: CodeWorld, scenario: Scenario, where: str) -> None:
    """Everything that must hold once all is over."""
    assert not world.defects, f"{where}: {world.defects}"
    store = world.open_handle()
    await store.open()
    try:
        rows = await store.runs(EVERYTHING)
        found = await histories(store, [row.run_id for row in rows])
    finally:
        await store.close()
    ended = {run_id: check_history(world, run_id, events) for run_id, events in found.items()}
    for run_id in world.acknowledged[:1]:
        run = ended[run_id]
        for _ in range(10):
            if run is None or run.next_run is None:
                break
            run = ended[RunId(run.next_run)]
        assert run is not None
        assert (str(run.state), run.output) == ("succeeded", scenario.output), where
    if scenario.told is not None:
        assert world.answers == scenario.told, where


def world_of(scenario: Scenario, folder: Path) -> CodeWorld:
    return CodeWorld(folder, *scenario.workflows)


def disturbed(scenario: Scenario, world: CodeWorld, where: str, at: int, after: bool, again: int | None) -> None:
    try:
        world.live(scenario.live, at, after=after)  # type: ignore[arg-type]
        if again is not None:
            world.live(scenario.live, again, after=not after)  # type: ignore[arg-type]
        world.live(scenario.live)  # type: ignore[arg-type]
        asyncio.run(look(world, scenario, where))
    except BaseException as error:
        error.add_note(where)
        raise


@pytest.mark.parametrize("name", SCENARIOS)
def test_death_at_every_store_call(name: str, tmp_path: Path) -> None:
    scenario = SCENARIOS[name]
    undisturbed = world_of(scenario, tmp_path)
    calls = undisturbed.live(scenario.live).names  # type: ignore[arg-type]
    asyncio.run(look(undisturbed, scenario, "undisturbed"))
    assert all(count == 1 for count in undisturbed.work.done.values()), undisturbed.work.done
    for at in range(1, len(calls) + 1):
        for after in (False, True):
            where = f"{name}, died {'after' if after else 'before'} call {at} ({calls[at - 1]})"
            disturbed(scenario, world_of(scenario, tmp_path), where, at, after, 3 + at * 5 % 11)


@pytest.mark.parametrize("name", ["saga", "continue", "parking"])
def test_death_at_some_store_calls_on_sqlite(name: str, tmp_path: Path) -> None:
    scenario = SCENARIOS[name]

    def fresh(number: int) -> CodeWorld:
        folder = tmp_path / str(number)
        world = world_of(scenario, folder)
        world.open_handle = lambda: SqliteStore(f"sqlite:///{folder}/headrace.db", clock=world.clock)
        world.peeks = False
        return world

    calls = fresh(0).live(scenario.live).names  # type: ignore[arg-type]
    for at in range(1, len(calls) + 1, 4):
        for after in (False, True):
            where = f"{name}, died {'after' if after else 'before'} call {at} ({calls[at - 1]})"
            disturbed(scenario, fresh(2 * at + after), where, at, after, None)
