"""The functions that the workloads run: ordinary tasks, as a user would write them."""

from __future__ import annotations

from typing import Any

from headrace.authoring import Dag, TaskFunction, dag, task


@task
async def nothing() -> None:
    """On the event loop."""


@task
def nothing_in_a_thread() -> None:
    """In a thread, where plain functions run by default."""


@task(executor="process")
def nothing_in_a_process() -> None:
    """In a child process."""


def plain_fib(n: int) -> int:
    """Fibonacci numbers in the slowest way: a known amount of work for the interpreter."""
    return n if n < 2 else plain_fib(n - 1) + plain_fib(n - 2)


@task
def fib(n: int) -> int:
    """Short work, in a thread."""
    return plain_fib(n)


@task(executor="process")
def fib_in_a_process(n: int) -> int:
    """Long work, in a process of its own so that the event loop stays free."""
    return plain_fib(n)


def fan_out(name: str, count: int, function: TaskFunction[..., Any]) -> Dag:
    """``count`` tasks that need nothing, and one that needs them all."""
    with dag(name) as graph:
        wide: list[Any] = [function.options(id=f"t{number}")() for number in range(count)]
        _ = nothing.options(id="join", needs=wide)()
    return graph


def chain(name: str, count: int, function: TaskFunction[..., Any] = nothing, **arguments: int) -> Dag:
    """``count`` tasks one after another."""
    with dag(name) as graph:
        last: list[Any] = []
        for number in range(count):
            last = [function.options(id=f"t{number}", needs=last)(**arguments)]
    return graph


def shells(name: str, count: int) -> Dag:
    """``count`` shell commands side by side."""
    with dag(name) as graph:
        for number in range(count):
            graph.run(f"t{number}", "true")
    return graph
