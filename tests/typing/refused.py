"""What users write by mistake: a strict type checker refuses every line that is marked, for the reason it is marked with.

Read by pyright (`test_typing.py`), never run. A mark is the rule that finds the mistake; several are separated by commas.
"""

import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

from headrace import (
    Headrace,
    Interceptor,
    add_task,
    continue_as_new,
    dag,
    database_task,
    observe,
    query,
    run_task,
    saga,
    signal_run,
    start_child,
    task,
    tusk,  # error: reportAttributeAccessIssue, reportUnknownVariableType
    update,
    wait_until,
    workflow,
)
from headrace.contracts.interceptor import TaskCall
from headrace.testing import Environment


@task
async def charge(amount: int, *, card: str = "visa") -> str:
    return card * amount


@task
def pack(item: str) -> list[str]:
    return [item]


@task(retry=3)  # error: reportCallIssue, reportUntypedFunctionDecorator
def misspelt() -> None: ...


@task(retries="many")  # error: reportArgumentType
def miscounted() -> None: ...


@task(on_cancel="give_up")  # error: reportArgumentType
def misguided() -> None: ...


@workflow  # error: reportArgumentType
def not_async() -> None: ...


@workflow(timeout=[1])  # error: reportArgumentType
async def mistimed() -> None: ...


@database_task
def book(db: sqlite3.Connection, account: str, amount: int) -> int:
    return amount


@database_task  # error: reportArgumentType
def no_connection() -> int:
    return 1


@workflow
async def child(item: str, count: int = 1) -> int:
    return count


@workflow
async def calls() -> str:
    await charge("five")  # error: reportArgumentType
    await charge()  # error: reportCallIssue
    await charge(5, 6)  # error: reportCallIssue
    await charge(5, card=6)  # error: reportArgumentType
    await charge(5, cart="visa")  # error: reportCallIssue
    charge(5)  # error: reportUnusedCoroutine
    number: int = await charge(5)  # error: reportAssignmentType
    await charge.options(retires=3)(5)  # error: reportCallIssue
    await charge.options(priority="high")(5)  # error: reportArgumentType
    await charge.options(retries=3)("five")  # error: reportArgumentType
    await pack("kettle")  # error: reportGeneralTypeIssues
    await run_task(pack, 5)  # error: reportArgumentType, reportCallIssue
    await run_task(pack)  # error: reportCallIssue
    await run_task(print, "x")  # error: reportCallIssue, reportArgumentType
    packed: str = await run_task(pack, "kettle")  # error: reportAssignmentType
    await run_task(book, "alice")  # error: reportCallIssue
    await run_task(book, sqlite3.connect(""), "alice", 5)  # error: reportCallIssue
    return packed * number


@workflow
async def children() -> None:
    await child(5)  # error: reportArgumentType
    await child("kettle", cuont=2)  # error: reportCallIssue
    text: str = await child("kettle")  # error: reportAssignmentType
    text = await start_child(child, {"item": "kettle"})  # error: reportAssignmentType
    start_child(child, ["kettle"])  # error: reportCallIssue, reportArgumentType
    start_child(child, parent_close="forget")  # error: reportCallIssue, reportArgumentType
    start_child("child")  # error: reportCallIssue, reportArgumentType
    print(text)


@workflow
async def messages() -> None:
    @query
    def status(short: bool) -> str:
        return "x"

    @update
    async def add(item: str, count: int = 1) -> int:
        return count

    @add.validator  # error: reportArgumentType
    def wrong(item: int, count: int = 1) -> None: ...

    @add.validator  # error: reportArgumentType
    async def waits(item: str, count: int = 1) -> None: ...

    status("yes")  # error: reportArgumentType
    await add(5)  # error: reportArgumentType
    answer: str = await add("kettle")  # error: reportAssignmentType
    await signal_run(5, "name")  # error: reportArgumentType
    await wait_until(True)  # error: reportArgumentType
    wait_until(lambda: True)  # error: reportUnusedCoroutine
    observe(print, sep=5)  # error: reportArgumentType
    print(answer, wrong, waits)
    continue_as_new("again")  # error: reportCallIssue


@workflow
async def sagas() -> None:
    async with saga(on_undo_failure="ask") as steps:  # error: reportArgumentType
        await steps.step(pack("kettle"))  # error: reportArgumentType
        number: int = await steps.step(charge(5))  # error: reportAssignmentType
        await steps.step(charge(5), undo=5)  # error: reportArgumentType
        await steps.step(run_task(book, "alice", 5), undo=pack)  # error: reportArgumentType
        await steps.step(charge("five"))  # error: reportArgumentType
        print(number)


with dag("etl") as etl:
    rows = pack(5)  # error: reportArgumentType
    pack.options(need=["x"])("kettle")  # error: reportCallIssue


@workflow
async def approval(rows: list[str], patience: float = 1.0) -> int:
    return len(rows)


with dag("approved") as approved:
    count = add_task(approval, pack("kettle"))
    pack(count)  # error: reportArgumentType
    pack(approval(["kettle"]))  # error: reportArgumentType
    approval(["kettle"])  # error: reportUnusedCoroutine
    words: str = add_task(approval, ["kettle"])  # error: reportAssignmentType
    add_task(approval)  # error: reportCallIssue
    add_task(approval, 5)  # error: reportCallIssue, reportArgumentType
    add_task(approval, ["kettle"], patience="long")  # error: reportCallIssue, reportArgumentType
    add_task(charge, 5, card=6)  # error: reportCallIssue, reportArgumentType
    number: int = add_task(charge, 5)  # error: reportAssignmentType
    add_task(print, "x")  # error: reportCallIssue, reportArgumentType
    print(words, number)


async def program(headrace: Headrace) -> None:
    await headrace.start(child)  # error: reportCallIssue
    await headrace.start(child, 5)  # error: reportArgumentType
    await headrace.start(child, "kettle", cuont=2)  # error: reportCallIssue
    await headrace.start(child.options(keys="k"), "kettle")  # error: reportCallIssue, reportUnknownArgumentType
    await headrace.start(child.options(on_conflict="replace"), "kettle")  # error: reportArgumentType
    await headrace.start(etl)  # error: reportArgumentType, reportCallIssue
    run = await headrace.start(child, "kettle")
    text: str = await run.result()  # error: reportAssignmentType
    await headrace.run(child, ["kettle"])  # error: reportCallIssue, reportArgumentType
    await headrace.run(5)  # error: reportCallIssue, reportArgumentType
    await headrace.signal(run, "name")  # error: reportArgumentType
    headrace.cancel(run.id)  # error: reportUnusedCoroutine
    print(text)


async def tested() -> None:
    async with Environment() as env:
        await env.start(child)  # error: reportCallIssue
        text: str = await env.run(child, "kettle")  # error: reportAssignmentType
        text = await (await env.start(child, "kettle")).result()  # error: reportAssignmentType
        print(text, tusk)  # error: reportUnknownArgumentType


Next = Callable[[TaskCall], Awaitable[Any]]


class Own(Interceptor):
    def call_task(self, call: TaskCall, proceed: Next, /) -> str:  # error: reportIncompatibleMethodOverride
        return ""

    async def set_timer(self, call: Any, proceed: Any, /) -> float:  # error: reportIncompatibleMethodOverride
        return 0.0


Headrace(interceptors=[Own])  # error: reportArgumentType
