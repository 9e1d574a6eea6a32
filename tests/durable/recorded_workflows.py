"""Code workflows whose histories are recorded and replayed for ever: every feature of workflow code has one.

A workflow here may only change as users may change theirs: so that runs under way still fit. What a recording was made
with, where that was other code, is in ``AS_RECORDED``.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import random
import sqlite3
import time
import uuid
from collections import deque
from typing import Any

from headrace import (
    ChildFailed,
    Interceptor,
    InvalidCommand,
    RetryableError,
    TaskFailed,
    complete_later,
    continue_as_new,
    current_attempt,
    dag,
    database_task,
    deprecate_patch,
    info,
    ledger,
    patched,
    query,
    run_task,
    saga,
    set_attributes,
    set_details,
    set_memo,
    signal,
    signal_run,
    start_child,
    task,
    update,
    wait_for_signal,
    wait_until,
    workflow,
)

TOKENS: dict[str, str] = {}
"""Of attempts that are completed from outside, by what they ask."""

SWITCH = {"blocks": False, "hangs": False}
"""What the recorder turns on to make something go wrong once."""


@task
async def double(n: int) -> int:
    return 2 * n


@task(retries={"attempts": 3, "initial": 5})
async def second_time(n: int) -> int:
    attempt = current_attempt()
    if attempt.attempt == 1:
        attempt.heartbeat({"read": n})
        raise RetryableError("not yet", after=7)
    return n + attempt.heartbeat_details["read"]


@task
async def fails(n: int) -> None:
    raise ValueError(f"{n} is no good")


@task(at_most_once=True)
async def once_only(n: int) -> int:
    return n


@task
async def hangs(n: int) -> int:
    if SWITCH["hangs"]:
        await asyncio.sleep(1e9)
    return n


@task(on_cancel="wait")
async def hangs_politely() -> None:
    await asyncio.sleep(1e9)


@task(timeout={"attempt": "1h", "heartbeat": "10m"})
def ask_somebody(what: str) -> str:
    TOKENS[what] = current_attempt().token
    complete_later()


@task
async def long_text(size: int) -> str:
    return "long " * size


@database_task
def book(db: sqlite3.Connection, account: str, amount: int) -> int:
    db.execute("CREATE TABLE IF NOT EXISTS booked (account TEXT, amount INTEGER)")
    db.execute("INSERT INTO booked VALUES (?, ?)", (account, amount))
    return int(db.execute("SELECT sum(amount) FROM booked WHERE account = ?", (account,)).fetchone()[0])


# ---- tasks and time --------------------------------------------------------------------------------------------------------


@workflow
async def tasks_and_retries(n: int = 3) -> dict[str, Any]:
    found: dict[str, Any] = {"first": await double(n), "second": await double(n + 1)}
    found["retried"] = await second_time(5)
    found["once"] = await once_only(1)
    try:
        await fails(n)
    except TaskFailed as error:
        found["failed"] = error.failure.type if error.failure else ""
    return found


@workflow
async def timers() -> list[float]:
    begun = time.time()
    await asyncio.sleep(86_400)
    loop = asyncio.get_running_loop()
    unwanted = loop.call_later(30, print)
    done = loop.create_future()
    loop.call_later(20, done.set_result, None)
    await done
    unwanted.cancel()
    return [time.time() - begun, time.monotonic() - begun]


@workflow
async def clocks_and_chance() -> dict[str, Any]:
    return {
        "now": [time.time(), str(datetime.datetime.now(datetime.UTC))],
        "uuid": str(uuid.uuid4()),
        "random": [random.random(), random.randint(1, 1000), random.sample(range(99), 3), os.urandom(4).hex()],
        "task": await double(random.randrange(1_000)),
        "again": uuid.uuid4().hex,
    }


@workflow
async def asyncio_constructs() -> dict[str, Any]:
    found: dict[str, Any] = {"gather": await asyncio.gather(double(1), double(2), asyncio.sleep(5, "slept"))}
    done, waiting = await asyncio.wait(
        [asyncio.ensure_future(double(n)) for n in (3, 4)], return_when=asyncio.FIRST_COMPLETED
    )
    found["wait"] = [len(done) + len(waiting), sorted([await one for one in [*done, *waiting]])]
    async with asyncio.TaskGroup() as group:
        members = [group.create_task(double(n)) for n in (5, 6)]
    found["group"] = [member.result() for member in members]
    try:
        async with asyncio.timeout(30):
            await asyncio.Event().wait()
    except TimeoutError:
        found["timeout"] = True
    found["as_completed"] = [await one for one in asyncio.as_completed([double(7), double(8)])]
    queue: asyncio.Queue[int] = asyncio.Queue(1)
    lock, results = asyncio.Lock(), deque[int]()

    async def produce() -> None:
        for n in (9, 10):
            await queue.put(await double(n))

    async def consume() -> None:
        for _ in range(2):
            n = await queue.get()
            async with lock:
                await asyncio.sleep(1)
                results.append(n)

    await asyncio.gather(produce(), consume())
    found["queue"] = list(results)
    found["wait_for"] = await asyncio.wait_for(double(11), 60)
    return found


@workflow
async def large_value(size: int) -> list[int]:
    text = await long_text(size)
    payload = await wait_for_signal("large")
    return [len(text), len(payload)]


@workflow
async def database() -> list[int]:
    return [await run_task(book, "alice", 5), await run_task(book, "alice", 6)]


@workflow
async def completed_from_outside() -> list[Any]:
    answers: list[Any] = [await run_task(ask_somebody, "yes or no")]
    try:
        await run_task(ask_somebody, "why")
    except TaskFailed as error:
        answers.append(str(error.failure.message if error.failure else ""))
    return answers


@workflow
async def interrupted(n: int) -> int:
    return await hangs(n)


@task(queue="far")
async def far_away(n: int) -> int:
    while SWITCH["hangs"]:
        await asyncio.sleep(0.01)
    return 3 * n


@workflow
async def elsewhere(n: int) -> int:
    return await far_away(n)


# ---- messages --------------------------------------------------------------------------------------------------------------


@workflow
async def messages() -> dict[str, Any]:
    heard: list[Any] = []
    early: Any = await wait_for_signal("early")

    @query
    def heard_so_far() -> list[Any]:
        return heard

    @signal
    async def tell(what: str) -> None:
        heard.append(await double(len(what)))

    @signal
    def ring() -> None:
        heard.append("ring")

    @update
    async def add(what: str) -> int:
        await asyncio.sleep(1)
        heard.append(what)
        return len(heard)

    @add.validator
    def _(what: str) -> None:
        if not what:
            raise ValueError("nothing")

    @update
    def refuse() -> None:
        raise ValueError("never")

    await wait_until(lambda: len(heard) >= 4)
    return {"early": early, "heard": heard, "last": await wait_for_signal("last")}


@workflow
async def sends(to: str) -> list[str]:
    await signal_run(to, "early", {"from": info().run_id})
    try:
        await signal_run("0" * 26, "early")
    except InvalidCommand as error:
        return [type(error).__name__]
    return []


@workflow
async def attributes() -> None:
    set_attributes(amount=5, place="here")
    set_memo(note={"deep": [1, 2]})
    set_details("waiting")
    await asyncio.sleep(60)
    set_attributes(place=None, amount=6)


# ---- other runs ------------------------------------------------------------------------------------------------------------


@workflow
async def small(n: int) -> int:
    return await double(n)


@workflow
async def small_failing(n: int) -> None:
    await fails(n)


with dag("small_graph", params={"n": int}) as small_graph:
    double(1)


@workflow
async def children() -> dict[str, Any]:
    found: dict[str, Any] = {"code": await small(3)}
    found["graph"] = await start_child(small_graph, {"n": 1})
    left = start_child(begins_anew, {"rounds": 0}, parent_close="abandon", key="left alone")
    await left.signal("kept", "four")
    try:
        await small_failing(5)
    except ChildFailed as error:
        found["failed"] = error.state
    return found


@workflow
async def cancels_a_child() -> str:
    child = start_child(cleans_up)
    try:
        async with asyncio.timeout(10):
            await child
    except TimeoutError:
        return "cancelled the child"
    return ""


@workflow
async def cleans_up() -> None:
    try:
        await hangs_politely()
    finally:
        await double(1)


@workflow
async def begins_anew(rounds: int = 2) -> int:
    if rounds:
        await double(rounds)
        continue_as_new(rounds=rounds - 1)
    return len(await wait_for_signal("kept"))


@workflow(retries={"attempts": 2, "initial": 60})
async def tried_again() -> int:
    if info().attempt == 1:
        await fails(1)
    return info().attempt


@workflow
async def done_again() -> list[Any]:
    found: list[Any] = [str(uuid.uuid4()), await double(1)]
    found.append(await small(2))
    found.append(await wait_for_signal("note"))
    return [*found, uuid.uuid4().hex]


# ---- ends and ways around them -----------------------------------------------------------------------------------------------


@workflow
async def compensated() -> dict[str, Any]:
    try:
        async with saga("order") as steps:
            await steps.step(double(1), undo=double(-1))
            await steps.step(double(2), undo=lambda result: double(-result))
            await steps.step(fails(3))
    except TaskFailed:
        return ledger("order")
    return {}


@workflow
async def suspended() -> int:
    n = await double(1)
    if SWITCH["blocks"]:
        time.sleep(1)  # the mistake that is recorded
    await asyncio.sleep(60)
    return n


@workflow
async def paused() -> int:
    await asyncio.sleep(60)
    return await double(1)


@workflow
async def patched_later() -> int:
    n = await double(1)
    if patched("twice"):
        n = await double(n)
    await asyncio.sleep(60)
    return n


@workflow(name="patched_later")
async def before_the_patch() -> int:
    n = await double(1)
    await asyncio.sleep(60)
    return n


@workflow
async def no_longer_patched() -> int:
    n = await double(1)
    deprecate_patch("twice")
    n = await double(n)
    await asyncio.sleep(60)
    return n


@workflow(name="no_longer_patched")
async def still_patched() -> int:
    n = await double(1)
    if patched("twice"):
        n = await double(n)
    await asyncio.sleep(60)
    return n


# ---- tasks of graphs ---------------------------------------------------------------------------------------------------------


@workflow
async def task_of_a_graph(x: int) -> list[Any]:
    """A run of its own for each attempt, named by it; the first ends unhappily."""
    about = info()
    assert about.parent is not None
    assert about.key is not None
    attempt = about.key.rpartition("/")[2]
    await asyncio.sleep(3600)
    if await double(x) and attempt == "1":
        raise RetryableError("once more")
    return [about.parent, about.key, about.tags["graph-task"], await wait_for_signal("go")]


with dag("around", params={"x": 4}, defaults={"retries": 2}) as around:
    around.output = task_of_a_graph(around.params.x)


# ---- interceptors ------------------------------------------------------------------------------------------------------------


class Busy(Interceptor):
    """Sets headers everywhere, and asks for something of its own in workflow code."""

    async def start_run(self, call, proceed):
        call.headers["tenant"] = "acme"
        return await proceed(call)

    async def send(self, call, proceed):
        call.headers["sender"] = "Ada"
        return await proceed(call)

    async def run_workflow(self, call, proceed):
        call.headers["id"] = uuid.uuid4().hex
        await double(21)
        return await proceed(call)

    async def call_task(self, call, proceed):
        result = await proceed(call)
        await asyncio.sleep(1)
        return result

    async def handle_signal(self, call, proceed):
        await double(22)
        return await proceed(call)


@workflow
async def intercepted() -> list[Any]:
    @update
    async def add(what: str) -> str:
        return what

    found = [await small(1), await wait_for_signal("go")]
    await signal_run(info().run_id, "self", "x")
    return [*found, await wait_for_signal("self")]


WORKFLOWS = {
    one.spec.name: one
    for one in (
        *(tasks_and_retries, timers, clocks_and_chance, asyncio_constructs, large_value, database),
        *(completed_from_outside, interrupted, elsewhere, messages, sends, attributes, small, small_failing, children),
        *(cancels_a_child, cleans_up, begins_anew, tried_again, done_again, compensated, suspended, paused),
        *(patched_later, no_longer_patched, intercepted, task_of_a_graph),
    )
}
"""The code of today by the name in the history."""

INTERCEPTORS = {"intercepted": [Busy()]}
"""By feature."""
