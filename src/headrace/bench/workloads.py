"""The workloads: what is run, what is measured, and which limit it is held against.

Everything goes through the public API: ``Headrace``, ``@task`` and ``dag``. Building the graph is not part of a
measurement; the first repetition also binds it to its functions and stores it, the others find that done.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from headrace.assembly import Headrace
from headrace.authoring import Dag, TaskFunction
from headrace.bench import code_workloads, tasks
from headrace.core.errors import HeadraceError

Figures = dict[str, float]
"""Measured values by name; names end in their unit."""


class Stage:
    """What a workload is given: a running engine with a fresh node, the database URL of a workload that runs elsewhere,
    and the scale of sizes (1.0 is full size)."""

    def __init__(self, engine: Headrace, url: str, scale: float) -> None:
        self.engine = engine
        self.url = url
        self.scale = scale
        self._graphs: dict[str, Dag] = {}

    def count(self, full: int) -> int:
        """A size, scaled; at least 2."""
        return max(2, round(full * self.scale))

    def graph(self, name: str, build: Callable[[str], Dag]) -> Dag:
        """A graph, built once: users define a workflow once and run it often."""
        if name not in self._graphs:
            self._graphs[name] = build(f"bench-{name}")
        return self._graphs[name]

    async def complete(self, graph: Dag) -> None:
        """Submit a run and wait for its result."""
        run = await self.engine.run(graph)
        await run.result()


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """One workload.

    ``once`` runs it and returns its figures. ``figure`` names the main one; ``limits`` the raw limits that are measured
    around each repetition; ``bound`` computes from them the best value the main figure could have. ``target`` is the
    value to reach, ``ratio_target`` the ratio; ``rising``: more is better.
    """

    title: str
    figure: str
    limits: tuple[str, ...]
    bound: Callable[[Mapping[str, float]], float | None]
    once: Callable[[Stage], Awaitable[Figures]]
    repetitions: int = 5
    rising: bool = True
    target: float | None = None
    ratio_target: float | None = None


# ---- the workloads ---------------------------------------------------------------------------------------------------


async def _fan_out(stage: Stage, *, count: int, function: TaskFunction[..., Any]) -> Figures:
    count = stage.count(count)
    graph = stage.graph(f"fan-out-{count}-{function.name}", partial(tasks.fan_out, count=count, function=function))
    begun = time.perf_counter()
    await stage.complete(graph)
    seconds = time.perf_counter() - begun
    return {"tasks_per_second": (count + 1) / seconds, "seconds": seconds}


async def _chain(stage: Stage) -> Figures:
    count = stage.count(200)
    graph = stage.graph(f"chain-{count}", partial(tasks.chain, count=count))
    begun = time.perf_counter()
    await stage.complete(graph)
    return {"hop_ms": (time.perf_counter() - begun) / count * 1000}


async def _many_runs(stage: Stage) -> Figures:
    count = stage.count(1000)
    graph = stage.graph("chain-3", partial(tasks.chain, count=3))
    begun = time.perf_counter()
    await asyncio.gather(*(stage.complete(graph) for _ in range(count)))
    return {"runs_per_second": count / (time.perf_counter() - begun)}


async def _latency(stage: Stage) -> Figures:
    graph = stage.graph("single", partial(tasks.chain, count=1))
    milliseconds: list[float] = []
    for _ in range(stage.count(200)):
        begun = time.perf_counter()
        await stage.complete(graph)
        milliseconds.append((time.perf_counter() - begun) * 1000)
    milliseconds.sort()
    return {
        "p50_ms": milliseconds[len(milliseconds) // 2],
        "p95_ms": milliseconds[min(len(milliseconds) - 1, len(milliseconds) * 95 // 100)],
    }


async def _fib(stage: Stage, *, n: int, count: int, function: TaskFunction[..., Any]) -> Figures:
    count = stage.count(count)
    n = n if stage.scale >= 1 else min(n, 15)
    graph = stage.graph(f"fib-{n}-{count}", partial(tasks.chain, count=count, function=function, n=n))
    begun = time.perf_counter()
    await stage.complete(graph)
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "task_ms": seconds / count * 1000}


async def _shells(stage: Stage) -> Figures:
    count = stage.count(200)
    graph = stage.graph(f"shells-{count}", partial(tasks.shells, count=count))
    begun = time.perf_counter()
    await stage.complete(graph)
    return {"tasks_per_second": count / (time.perf_counter() - begun)}


async def _huge(stage: Stage) -> Figures:
    return await _elsewhere("headrace.bench.huge", stage, stage.count(100_000))


async def _parked(stage: Stage) -> Figures:
    return await _elsewhere("headrace.bench.parked", stage, stage.count(100_000))


async def _elsewhere(module: str, stage: Stage, count: int) -> Figures:
    """In a process of its own, so that its memory can be told from the bench's."""
    command = [sys.executable, "-m", module, stage.url, str(count)]
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await child.communicate()
    if child.returncode != 0:
        raise HeadraceError(f"{module} ended with exit code {child.returncode}", hint="its error is shown above")
    return msgspec.json.decode(output, type=Figures)


# ---- limits ----------------------------------------------------------------------------------------------------------


def _hop_and_row(hop: str) -> Callable[[Mapping[str, float]], float | None]:
    """Each task costs one hop of some sort and one row."""

    def bound(raw: Mapping[str, float]) -> float | None:
        rows = raw.get("rows_per_second")
        return raw[hop] if rows is None else 1 / (1 / raw[hop] + 1 / rows)

    return bound


def _commits(number: float) -> Callable[[Mapping[str, float]], float | None]:
    return lambda raw: number * raw["commit_ms"] if "commit_ms" in raw else None


def _rows(number: float) -> Callable[[Mapping[str, float]], float | None]:
    return lambda raw: raw["rows_per_second"] / number if "rows_per_second" in raw else None


def _wide(count: int, function: TaskFunction[..., Any], hop: str, sort: str, **more: Any) -> Workload:
    return Workload(
        title=f"{count:,} tasks {sort}, then a join",
        figure="tasks_per_second",
        limits=(hop, "rows_per_second"),
        bound=_hop_and_row(hop),
        once=partial(_fan_out, count=count, function=function),
        **more,
    )


WORKLOADS: dict[str, Workload] = {
    "W1-1000": _wide(1_000, tasks.nothing, "loop_hops_per_second", "on the event loop", repetitions=9),
    "W1-10000": _wide(10_000, tasks.nothing, "loop_hops_per_second", "on the event loop", target=20_000),
    "W1-1000-threads": _wide(1_000, tasks.nothing_in_a_thread, "thread_hops_per_second", "in threads"),
    "W1-10000-threads": _wide(10_000, tasks.nothing_in_a_thread, "thread_hops_per_second", "in threads", repetitions=3),
    "W1-1000-processes": _wide(1_000, tasks.nothing_in_a_process, "pipe_hops_per_second", "in processes"),
    "W2": Workload(
        title="a chain of 200 tasks",
        figure="hop_ms",
        limits=("commit_ms", "plain_commit_ms", "awaited_commit_ms"),
        bound=_commits(1),
        once=_chain,
        repetitions=9,
        rising=False,
        ratio_target=1.6,
    ),
    "W3": Workload(
        title="1,000 runs of 3 tasks, submitted at once",
        figure="runs_per_second",
        limits=("rows_per_second",),
        bound=_rows(6),  # the run's row, its creation, three outcomes, its end
        once=_many_runs,
        target=5_000,
    ),
    "W4": Workload(
        title="one task, submit to result, idle engine",
        figure="p50_ms",
        limits=("commit_ms", "awaited_commit_ms"),
        bound=_commits(2),  # the run's creation; its outcome with its end
        once=_latency,
        rising=False,
        target=2.0,
    ),
    "W5-fib10": Workload(
        title="40 times fib(10) one after another, in threads",
        figure="task_ms",
        limits=("fib10_seconds",),
        bound=lambda raw: raw["fib10_seconds"] * 1000,
        once=partial(_fib, n=10, count=40, function=tasks.fib),
        rising=False,
    ),
    "W5-fib33": Workload(
        title="10 times fib(33) one after another, in processes",
        figure="task_ms",
        limits=("fib33_seconds",),
        bound=lambda raw: raw["fib33_seconds"] * 1000,
        once=partial(_fib, n=33, count=10, function=tasks.fib_in_a_process),
        repetitions=1,
        rising=False,
    ),
    "W6": Workload(
        title="a graph of 100,000 tasks",
        figure="tasks_per_second",
        limits=("loop_hops_per_second", "rows_per_second"),
        bound=_hop_and_row("loop_hops_per_second"),
        once=_huge,
        repetitions=1,
    ),
    "W7": Workload(
        title="200 shell commands side by side",
        figure="tasks_per_second",
        limits=("spawns_per_second",),
        bound=lambda raw: raw["spawns_per_second"],
        once=_shells,
        repetitions=3,
    ),
    "D1": Workload(
        title="200 calls one after another in a code workflow",
        figure="hop_ms",
        limits=("commit_ms", "plain_commit_ms", "awaited_commit_ms"),
        bound=_commits(1),
        once=code_workloads.hops,
        repetitions=9,
        rising=False,
        ratio_target=1.6,
    ),
    "D2": Workload(
        title="1,000 code workflows of 3 calls, submitted at once",
        figure="runs_per_second",
        limits=("rows_per_second",),
        bound=_rows(6),  # as W3
        once=code_workloads.short_runs,
        target=3_000,
    ),
    "D3": Workload(
        title="replay of a code workflow with 5,000 calls, one after another",
        figure="events_per_second",
        limits=("loop_hops_per_second",),
        bound=lambda raw: raw["loop_hops_per_second"],  # every event wakes the code
        once=code_workloads.replay,
        repetitions=3,
        target=100_000,
    ),
    "D4": Workload(
        title="100,000 code workflows that wait, parked",
        figure="runs_per_second",
        limits=("rows_per_second",),
        bound=_rows(3),  # the run's row, its creation; the row again
        once=_parked,
        repetitions=1,
    ),
}
