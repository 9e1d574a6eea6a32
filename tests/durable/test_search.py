"""Runs are found by what code says of them: attributes, tags, states and times, on stores that share one language."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from headrace import (
    Headrace,
    HeadraceError,
    InvalidCommand,
    dag,
    set_attributes,
    set_details,
    set_memo,
    start_child,
    task,
    workflow,
)
from headrace import wait_for_signal as heard
from headrace.core.where import InvalidFilter

SECONDS = 60


@task
async def work(n: int) -> int:
    return n


@workflow
async def order(customer: str, amount: float, skus: list[str]) -> str:
    set_attributes(customer=customer, amount=amount, skus=skus, paid=False)
    set_memo(note=f"of {customer}", amount_seen=amount)
    set_details("waits to be paid")
    if await heard("paid"):
        set_attributes(paid=True, amount=None)
        set_details("paid")
    return customer


@pytest.fixture(params=["memory", "sqlite"])
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Callable[[Headrace], Awaitable[None]]], None]:
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/runs.db"

    looks = itertools.count()

    def now() -> float:
        return time.time() + next(looks) / 100  # runs of the same millisecond have no order

    def run(test: Callable[[Headrace], Awaitable[None]]) -> None:
        async def inside() -> None:
            async with asyncio.timeout(SECONDS), Headrace(url, now=now) as hr:
                await test(hr)

        asyncio.run(inside())

    return run


async def found(hr: Headrace, where: str, **more: object) -> list[str]:
    return [str(row.params["customer"]) for row in await hr.runs(where=where, **more)]  # type: ignore[arg-type]


async def three(hr: Headrace) -> list[str]:
    """Ada, Bob and Cyd, in this order."""
    runs = [
        await hr.start(order.options(key="o-1", tags={"team": "north"}), "Ada", 120.0, ["a", "b"]),
        await hr.start(order.options(tags={"team": "south", "vip": ""}), "Bob", 80.0, ["b"]),
        await hr.start(order.options(attributes={"city": "Köln"}), "Cyd", 80.5, []),
    ]
    return [run.id for run in runs]


def test_attributes_are_found_by_kind_and_value(play) -> None:
    async def test(hr: Headrace) -> None:
        await three(hr)
        assert await found(hr, "amount > 100") == ["Ada"]
        assert await found(hr, "amount >= 80 and amount < 100") == ["Cyd", "Bob"]
        assert await found(hr, "amount = '120'") == []  # a text is no number
        assert await found(hr, "skus = 'b'") == ["Bob", "Ada"]
        assert await found(hr, "skus in ('a', 'x')") == ["Ada"]
        assert await found(hr, "skus != 'a'") == ["Bob"]  # Cyd's list is empty: there is nothing to compare
        assert await found(hr, "skus is null") == ["Cyd"]
        assert await found(hr, "city is null") == ["Bob", "Ada"]
        assert await found(hr, "attr.city prefix 'Kö'") == ["Cyd"]
        assert await found(hr, "not amount > 100") == ["Cyd", "Bob"]
        assert await found(hr, "paid = false and customer like 'a%'") == ["Ada"]
        assert await found(hr, "note = 'of Ada'") == []  # a memo is only shown

    play(test)


def test_what_code_changes_is_found_at_once(play) -> None:
    async def test(hr: Headrace) -> None:
        ada, bob, _ = await three(hr)
        await hr.signal(ada, "paid", True)
        assert await (await hr.get(ada)).result() == "Ada"
        assert await found(hr, "paid = true") == ["Ada"]
        assert await found(hr, "amount is null") == ["Ada"]
        assert (await hr.row(ada)).attributes == {"customer": "Ada", "skus": ["a", "b"], "paid": True}
        view = await hr.show(ada)
        assert (view.memo, view.details, view.key) == ({"note": "of Ada", "amount_seen": 120.0}, "paid", "o-1")
        assert (await hr.show(bob)).details == "waits to be paid"
        assert await found(hr, "state = 'succeeded' and ended_at is not null and duration < 10m") == ["Ada"]

    play(test)


def test_tags_keys_states_and_times(play) -> None:
    async def test(hr: Headrace) -> None:
        ada, bob, cyd = await three(hr)
        assert await found(hr, "tag.team = 'north' or tag.vip = ''") == ["Bob", "Ada"]
        assert await found(hr, "tag.team is null") == ["Cyd"]
        assert await found(hr, "key prefix 'o-'") == ["Ada"]
        assert await found(hr, f"id in ('{bob}', '{cyd}')") == ["Cyd", "Bob"]
        assert await found(hr, "created_at > now - 1h and started_at <= now + 1h") == ["Cyd", "Bob", "Ada"]
        assert await found(hr, "created_at < '2013-01-31T06:00:00Z'") == []
        assert await found(hr, "amount > 0", limit=1, before=cyd) == ["Bob"]
        assert await found(hr, "amount > 0", states=("running",), tags={"team": "south"}) == ["Bob"]
        await hr.pause(ada)
        assert await found(hr, "status = 'paused'") == ["Ada"]
        await hr.terminate(bob)
        await (await hr.get(bob)).wait()
        assert await found(hr, "status in ('terminated', 'paused')") == ["Bob", "Ada"]
        assert await found(hr, "workflow = 'order'", states=("waiting", "interrupted", "terminated")) in (
            ["Bob"],  # Cyd is in memory, or has been parked by now
            ["Cyd", "Bob"],
        )

    play(test)


def test_graphs_have_attributes_too(play) -> None:
    async def test(hr: Headrace) -> None:
        with dag("nightly", params={"customer": "x"}) as nightly:
            work(n=1)
        run = await hr.run(nightly, key="k", attributes={"region": "eu"}, memo={"why": "because"})
        assert (await run.wait()).state == "succeeded"
        assert await found(hr, "region = 'eu' and workflow = 'nightly'") == ["x"]
        view = await hr.show(run.id)
        assert (view.key, view.attributes, view.memo, view.kind) == ("k", {"region": "eu"}, {"why": "because"}, "graph")

    play(test)


@pytest.mark.parametrize(
    ("where", "column", "message"),
    [
        ("amount >", 9, "expected a value"),
        ("amount > 'x", 10, "has no end"),
        ("amount > abc", 10, "a text needs quotes: 'abc'"),
        ("city = null", 8, "nothing is equal to null"),
        ("status = 'runing'", 10, "there is no status 'runing'"),
        ("created_at > 5m", 14, "created_at is a point in time"),
        ("created_at > 'soon'", 14, "is not a date or time"),
        ("tasks_done like 'x'", 1, "`like` is for texts"),
        ("tag.team > 5", 12, "team is a text"),
        ("(amount > 5", 12, "expected `)`"),
        ("amount > 5 and", 15, "expected the name"),
        ("State = 'running'", 1, "there is no 'State'"),
        ("amount ~ 5", 8, "'~' means nothing here"),
    ],
)
def test_a_filter_that_cannot_be_read_says_where(where: str, column: int, message: str) -> None:
    async def test() -> None:
        async with Headrace("memory://") as hr:
            with pytest.raises(InvalidFilter) as refused:
                await hr.runs(where=where)
        assert refused.value.column == column
        assert message in refused.value.message
        assert refused.value.message.splitlines()[-1] == " " * (3 + column) + "^"

    asyncio.run(test())


def test_a_filter_without_bounds_is_refused() -> None:
    async def test() -> None:
        async with Headrace("memory://") as hr:
            for where in (" or ".join(["a = 1"] * 300), "(" * 60 + "a = 1" + ")" * 60, "a = 1" + " " * 10_001):
                with pytest.raises(HeadraceError):
                    await hr.runs(where=where)

    asyncio.run(test())


def test_what_cannot_be_searched_is_no_attribute() -> None:
    async def test() -> None:
        async with Headrace("memory://") as hr:
            with pytest.raises(InvalidCommand, match="attribute 'a' is a dict"):
                await hr.run(order, {"customer": "x", "amount": 1, "skus": []}, attributes={"a": {"b": 1}})
            assert await hr.runs() == []

    asyncio.run(test())


@workflow
async def mother(names: list[str]) -> None:
    for name in names:
        start_child(order, {"customer": name, "amount": 1.0, "skus": []})
    await heard("never")


def test_children_are_found_by_the_id_of_their_parent(play) -> None:
    async def test(hr: Headrace) -> None:
        ada, bob = [await hr.start(mother, [name, name]) for name in ("Ada", "Bob")]
        while len(await hr.runs(workflow="order")) < 4:
            await asyncio.sleep(0)
        assert await found(hr, f"parent = '{ada.id}'") == ["Ada", "Ada"]
        assert await found(hr, f"parent in ('{ada.id}', 'nobody')") == ["Ada", "Ada"]
        assert await found(hr, f"parent != '{ada.id}'") == ["Bob", "Bob"], "runs without a parent do not count"
        assert len(await found(hr, f"parent not in ('{ada.id}', '{bob.id}') and workflow = 'order'")) == 0
        one = (await hr.runs(where=f"parent = '{ada.id}'"))[0]
        assert [row.run_id for row in await hr.runs(where=f"parent = '{one.parent}'")] == [one.run_id]

    play(test)
