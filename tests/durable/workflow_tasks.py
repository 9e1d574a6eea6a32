"""Code workflows that are tasks of graphs, and a graph of them, for processes that import them by name."""

from __future__ import annotations

import asyncio
from collections import Counter

from headrace import Headrace, continue_as_new, dag, task, wait_for_signal, workflow

DONE: Counter[str] = Counter()


@task
async def plus(x: int) -> int:
    DONE["plus"] += 1
    return x + 1


@workflow
async def doubled(x: int) -> int:
    await asyncio.sleep(3600)
    return 2 * await plus(x - 1)


@workflow
async def approved(x: int) -> int:
    if x < 0:
        raise ValueError("never")
    return x * int(await wait_for_signal("approve"))


@workflow
async def continued(x: int, turn: int = 1) -> int:
    if turn == 1:
        continue_as_new(x=x, turn=2)
    return x * int(await wait_for_signal("approve"))


@dag
def chain(x: int = 4):  # type: ignore[no-untyped-def]
    return plus(doubled(plus(x)))


@dag
def asks(x: int = 4):  # type: ignore[no-untyped-def]
    return plus(approved(plus(x)))


@dag
def asks_again(x: int = 4):  # type: ignore[no-untyped-def]
    return plus(continued(plus(x)))


__all__ = ["DONE", "Headrace", "approved", "asks", "asks_again", "chain", "continued", "doubled", "plus"]
