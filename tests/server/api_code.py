"""Workflow code for the tests of the API."""

from __future__ import annotations

from headrace import complete_later, current_attempt, query, signal, task, update, wait_until, workflow

TOKENS: list[str] = []


@workflow
async def order(name: str = "cup") -> dict[str, object]:
    """An order that grows until it is closed."""
    items = [name]
    closed = False

    @signal
    def close() -> None:
        nonlocal closed
        closed = True

    @query
    def content(first: int = 0) -> list[str]:
        return items[first:]

    @query
    def broken() -> None:
        raise ZeroDivisionError("a defect of the user's")

    @update
    async def add(item: str) -> int:
        items.append(item)
        return len(items)

    @update
    async def slow() -> str:
        await wait_until(lambda: closed)
        return "closed"

    @add.validator
    def check(item: str) -> None:
        if not item:
            raise ValueError("what is to be added?")

    await wait_until(lambda: closed)
    return {"items": items}


@task
async def ask_somebody() -> str:
    TOKENS.append(current_attempt().token)
    complete_later()


@workflow
async def asking() -> str:
    return await ask_somebody()
