"""What users rightly write: a strict type checker accepts all of it, and knows every type.

Read by pyright (`test_typing.py`), never run.
"""

import sqlite3
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, assert_type

from headrace import (
    Headrace,
    Interceptor,
    Saga,
    TaskFunction,
    WorkflowFunction,
    add_task,
    continue_as_new,
    current_attempt,
    dag,
    database_task,
    each,
    ledger,
    observe,
    query,
    run_task,
    saga,
    signal,
    signal_run,
    start_child,
    task,
    update,
    wait_for_signal,
    wait_until,
    workflow,
)
from headrace.client.handle import RunHandle
from headrace.contracts.interceptor import TaskCall
from headrace.durable.context import ChildHandle
from headrace.sync import Headrace as SyncHeadrace
from headrace.testing import Environment, EnvironmentRun


@dataclass
class Order:
    item: str
    amount: int = 1


@dataclass
class Receipt:
    number: str


@task
async def charge(order: Order, *, card: str = "visa") -> Receipt:
    current_attempt().log(card)
    return Receipt(order.item)


@task(retries=5, timeout="10m", executor="process", on_cancel="wait")
def pack(order: Order) -> list[str]:
    return [order.item] * order.amount


@task
def void(receipt: Receipt, reason: str = "") -> None: ...


@task
def sweep() -> None: ...


@task(timeout=timedelta(minutes=5), retries={"attempts": 3}, tags=["slow"])
async def refund(receipt: Receipt) -> None: ...


@database_task
def book(db: sqlite3.Connection, account: str, amount: int = 0) -> int:
    return db.execute("SELECT 1", (account, amount)).fetchone()[0]


@database_task(retries=3)
def unbook(db: sqlite3.Connection, account: str) -> None: ...


@database_task
async def book_elsewhere(db: Any, account: str) -> int:
    return await db.fetchval("SELECT 1", account)


@workflow
async def ship(order: Order, express: bool = False) -> Receipt:
    assert_type(await charge(order), Receipt)
    assert_type(await charge(order, card="amex"), Receipt)
    assert_type(await charge.options(id="again", retries=2, timeout=5.0)(order), Receipt)
    assert_type(await run_task(pack, order), list[str])
    assert_type(await run_task(charge, order, card="amex"), Receipt)
    assert_type(await run_task(book, "alice", 5), int)
    assert_type(await run_task(unbook, account="alice"), None)
    assert_type(await book_elsewhere("alice"), int)
    assert_type(await run_task(book_elsewhere, account="alice"), int)
    return Receipt("1")


@workflow(name="order", timeout="7d", retries=2, tags=("shop",))
async def process(order: Order) -> Receipt:
    status = "new"

    @query
    def how_is_it(details: bool = False) -> str:
        return status if details else ""

    @signal
    def shipped(parcel: str) -> None: ...

    @signal
    async def cancelled() -> None: ...

    @update
    async def add(item: str, count: int = 1) -> int:
        return count

    @add.validator
    def _(item: str, count: int = 1) -> None:
        if not item:
            raise ValueError("what?")

    assert_type(how_is_it(True), str)
    assert_type(await add("kettle", count=2), int)

    assert_type(await ship(order), Receipt)
    child = start_child(ship, {"order": order}, parent_close="abandon", key="k")
    assert_type(child, ChildHandle[Receipt])
    assert_type(await child, Receipt)
    await child.signal("shipped", "p")
    with dag("small") as graph:
        pack(order)
    assert_type(start_child(graph), ChildHandle[Any])

    async with saga("order", undo_retries=3, on_undo_failure="wait") as steps:
        assert_type(steps, Saga)
        receipt = await steps.step(charge(order), undo=lambda receipt: refund(Receipt(receipt.number)), name="charge")
        assert_type(receipt, Receipt)
        assert_type(await steps.step(run_task(pack, order), undo=refund(receipt)), list[str])
        assert_type(await steps.step(ship(order)), Receipt)
        assert_type(await steps.step(charge(order), undo=void), Receipt)
        assert_type(await steps.step(charge(order), undo=sweep), Receipt)
    assert_type(ledger("order"), dict[str, Any])
    await wait_until(lambda: status == "new")
    await signal_run("run", "name", {"any": "thing"})
    observe(print, "done", sep="")
    if await wait_for_signal("again"):
        continue_as_new(order=order)
    return receipt


assert_type(charge.name, str)
charge_type: TaskFunction[..., Any] = charge
process_type: WorkflowFunction[[Order], Receipt] = process


def extract(year: int) -> list[int]:
    return [year]


extract_task = task(extract)


@task
def load(rows: list[int], table: str) -> int:
    return len(rows)


@task
def square(n: int, power: int = 2) -> int:
    return n**power


with dag("etl", params={"year": int}, defaults={"retries": 3}) as etl:
    rows = extract_task(2013)
    load.options(id="load_eu", needs=["extract"], when=True)(rows, "eu")
    squares = square.map(rows)
    square.map(each(rows), power=3)
    load(squares, "squares")


@workflow
async def approval(rows: list[int], patience: float = 1.0) -> list[int]:
    return rows


@task
async def publish(rows: list[int], name: str = "") -> str:
    return name


with dag("approved", params={"year": int}) as approved:
    rows = add_task(approval, extract_task(2013), patience=60.0)
    assert_type(rows, list[int])
    assert_type(load(rows, "approved"), int)
    name = add_task(publish, rows, name="approved")
    assert_type(name, str)
    assert_type(add_task(load, rows, name), int)
    add_task(approval, rows)
    approved.output = name

assert_type(load([1], "outside of a graph it is the function"), int)


async def program(headrace: Headrace) -> None:
    run = await headrace.start(process, Order("kettle"))
    assert_type(run, RunHandle[Receipt])
    assert_type(await run.result(timeout=5), Receipt)
    assert_type(await (await headrace.start(ship, Order("pot"), express=True)).result(), Receipt)
    keyed = await headrace.start(process.options(key="k", on_conflict="use_existing", tags={"a": "b"}), Order("kettle"))
    assert_type(keyed, RunHandle[Receipt])
    assert_type(await headrace.run(process, {"order": {"item": "kettle"}}), RunHandle[Receipt])
    assert_type(await headrace.run(etl, {"year": 2013}), RunHandle[Any])
    assert_type(await headrace.run("flights.yaml"), RunHandle[Any])
    await headrace.signal(run.id, "shipped", "parcel", key="1")
    handle: RunHandle = await headrace.get(run.id)
    handles: list[RunHandle] = [run, handle]
    print(handles, await headrace.update(run.id, "add", "kettle", count=2))


def synchronous() -> None:
    with SyncHeadrace("memory://") as headrace:
        assert_type(headrace.start(process, Order("kettle")).result(), Receipt)
        print(headrace.run(etl).result())


def stub_charge(given: Order) -> Receipt:  # names need not be the same
    return Receipt(given.item)


async def tested() -> None:
    async with Environment(now="2030-01-01", always_replay=True) as env:
        run = await env.start(process, Order("kettle"))
        assert_type(run, EnvironmentRun[Receipt])
        assert_type(await run.result(), Receipt)
        assert_type(await env.run(ship, Order("kettle")), Receipt)
        env.stub(charge, stub_charge)
        env.stub(charge, lambda order: Receipt(order.item))
        env.stub(pack, lambda order: [order.item])  # a plain function's task
        env.stub("shop:charge", print)
        env.fail(pack, times=2, error=ConnectionError)
        other: EnvironmentRun = await env.get(run.id)
        print(other)


class Own(Interceptor):
    async def call_task(self, call: TaskCall, next_: Any, /) -> Any:
        call.task = call.task.options(retries=1)
        return await next_(call)


Headrace(interceptors=[Own()], threads=2)
