"""Trace an order from the program that places it through its run, its tasks and a child, with one interceptor.

python examples/durable/tracing.py [STORE]

A trace is a tree of spans, each with the id of the one it is part of. The id travels in a header. To send the spans to
OpenTelemetry or another collector, do it in ``export``.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from headrace import Headrace, Interceptor, current_attempt, observe, run_task, task, workflow
from headrace.contracts.execution import Attempt
from headrace.contracts.interceptor import StartCall, TaskCall, WorkflowCall

HEADER = "trace"
current_span: contextvars.ContextVar[str] = contextvars.ContextVar("current_span", default="-")
"""What a task's own code finds: to log it, or to pass it on to other services."""


@dataclass
class Span:
    """Something that was done. ``began`` and ``ended`` in seconds since the epoch."""

    name: str
    id: str
    parent: str
    began: float
    ended: float
    error: str = ""


SPANS: list[Span] = []


def export(span: Span) -> None:
    """Give a span that has ended to whoever collects them."""
    SPANS.append(span)


class Tracing(Interceptor):
    """A span for each start, run, call and attempt."""

    async def start_run(self, call: StartCall, proceed: Callable[[StartCall], Awaitable[Any]]) -> Any:
        span = Span(f"start {call.workflow}", uuid.uuid4().hex[:8], "-", time.time(), 0.0)
        call.headers[HEADER] = span.id
        try:
            return await proceed(call)
        finally:
            span.ended = time.time()
            export(span)

    async def run_workflow(self, call: WorkflowCall, proceed: Callable[[WorkflowCall], Awaitable[Any]]) -> Any:
        return await self._inside(f"run {call.workflow}", call, proceed)

    async def call_task(self, call: TaskCall, proceed: Callable[[TaskCall], Awaitable[Any]]) -> Any:
        return await self._inside(f"call {call.task.name}", call, proceed)

    async def _inside(self, name: str, call: Any, proceed: Callable[[Any], Awaitable[Any]]) -> Any:
        """Workflow code: the clock and the id are the workflow's, the same in every replay. The span is exported by
        ``observe``, which says nothing in a replay."""
        span = Span(name, uuid.uuid4().hex[:8], call.headers.get(HEADER, "-"), time.time(), 0.0)
        call.headers[HEADER] = span.id
        try:
            return await proceed(call)
        except Exception as error:
            span.error = str(error)
            raise
        finally:
            span.ended = time.time()
            observe(export, span)

    async def run_attempt(self, call: Attempt, proceed: Callable[[Attempt], Awaitable[Any]]) -> Any:
        span = Span(f"attempt {call.attempt} of {call.task}", uuid.uuid4().hex[:8], "-", time.time(), 0.0)
        span.parent = call.headers.get(HEADER, "-")
        current_span.set(span.id)
        try:
            return await proceed(call)
        except Exception as error:
            span.error = str(error)
            raise
        finally:
            span.ended = time.time()
            export(span)


@task(retries={"attempts": 3, "initial": 0.01})
async def charge(amount: int) -> str:
    """Fails once."""
    if current_attempt().attempt == 1:
        raise ConnectionError("no route to the bank")
    return f"charged {amount}"


@task
def pack(item: str) -> str:
    """In a thread, which knows its span as well."""
    current_attempt().log(f"packing {item} in span {current_span.get()}")
    return f"{item}, packed"


@workflow
async def ship(item: str) -> str:
    """A child."""
    return await run_task(pack, item)


@workflow
async def order(item: str, amount: int) -> str:
    """Charge, then ship."""
    await charge(amount)
    return await ship(item)


def tree(spans: list[Span], parent: str = "-", depth: int = 0) -> list[str]:
    """The spans as an indented list, oldest first."""
    lines: list[str] = []
    for span in sorted((span for span in spans if span.parent == parent), key=lambda span: span.began):
        lines.append("  " * depth + span.name + (f"  [{span.error}]" if span.error else ""))
        lines += tree(spans, span.id, depth + 1)
    return lines


async def main(store: str) -> None:
    """One order."""
    async with Headrace(store, interceptors=[Tracing()]) as headrace:
        run = await headrace.start(order, "a kettle", 35)
        print(await run.result())
    print("\n".join(tree(SPANS)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "sqlite:///.headrace/headrace.db"))
