"""What the tests of wishes share: code workflows that wait for signals, nodes on one database whose
polls are an hour away, and conditions to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from headrace import (
    Headrace,
    continue_as_new,
    set_details,
    wait_for_signal,
    workflow,
)
from headrace import update as update_function
from headrace.core.ids import RunId

HOUR = 3600.0
SECONDS = 60


@workflow
async def listener() -> Any:
    return await wait_for_signal("news")


@workflow
async def twice(turn: int = 1) -> Any:
    news = await wait_for_signal("news")
    if turn == 1:
        continue_as_new(turn=2)
    return news


@workflow
async def counting() -> None:
    while (news := await wait_for_signal("news")) != 4:
        set_details(str(news))


@workflow
async def basket() -> list[str]:
    items: list[str] = []
    open_ = asyncio.Event()

    @update_function
    async def add(text: str) -> list[str]:
        items.append(text)
        return items

    @add.validator
    def _(text: str) -> None:
        if text in items:
            raise ValueError("it is there already")

    @update_function
    async def later() -> str:
        await open_.wait()
        return "now"

    await wait_for_signal("open")
    open_.set()
    await wait_for_signal("close")
    return items


def node(folder: Path, name: str, **options: Any) -> Headrace:
    given: dict[str, Any] = {"workflows": [listener, twice, counting, basket], "poll_seconds": HOUR, **options}
    return Headrace(f"sqlite:///{folder}/headrace.db", node=name, **given)


def play(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(SECONDS):
            await test()

    asyncio.run(bounded())


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


async def promised(waiting: Headrace, run_id: str, *, callers: int = 1) -> None:
    """Wait until that node has been promised word of a run, for as many callers (default 1; at least 1). Callers begin to
    wait one after the other, and each who begins makes the node ask the store once more."""

    def heard() -> bool:
        words = waiting._node.wisher._words.get(RunId(run_id), ())
        return len(words) >= callers and all(word.will_come for word in words)

    await until(heard)


async def known(owner: Headrace, run_id: str) -> None:
    """Wait until the owner knows who waits."""
    await until(lambda: run_id in owner._node.teller.known)


async def wishes(hr: Headrace, run_id: str) -> list[Any]:
    return await hr.store.wishes(hr._node.id, [RunId(run_id)])


def calls(hr: Headrace, *names: str) -> list[str]:
    """The calls of the store from now on that are so called."""
    seen: list[str] = []
    for name in names:
        inner = getattr(hr.store, name)

        async def call(*args: Any, _name: str = name, _inner: Any = inner, **more: Any) -> Any:
            seen.append(_name)
            return await _inner(*args, **more)

        setattr(hr.store, name, call)
    return seen
