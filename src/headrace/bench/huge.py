"""Workload W6, a process of its own: ``python -m headrace.bench.huge URL TASKS`` prints its figures as JSON.

Ten layers; each task needs two tasks of the layer before it. Memory is the growth of the process from before the graph
is built to its peak, per task: definition, plan, run and everything under way.
"""

from __future__ import annotations

import gc
import os
import resource
import sys
import time
from pathlib import Path

import msgspec

from headrace.assembly import Headrace
from headrace.bench.tasks import nothing
from headrace.cli.runtime import run
from headrace.core.spec import TaskSpec, WorkflowSpec
from headrace.core.validate import validate

LAYERS = 10


def layered(count: int, target: str) -> WorkflowSpec:
    """The graph, as the builder or the loader of a file would hand it to validation: a name is one text, wherever it
    stands."""
    width = max(1, count // LAYERS)
    names = [f"t{number}" for number in range(count)]
    found: dict[str, TaskSpec] = {}
    for number in range(count):
        needs: tuple[str, ...] = ()
        if number >= width:
            first = number - width
            second = number - number % width - width + (number + 1) % width
            needs = (names[first],) if first == second else (names[first], names[second])
        name = names[number]
        found[name] = TaskSpec(id=name, kind="python", config={"function": target}, needs=needs)
    return WorkflowSpec(name=f"bench-huge-{count}", tasks=found)


def rss_bytes() -> int:
    """Memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_bytes() -> int:
    """The most memory this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def measure(url: str, count: int) -> dict[str, float]:
    """All figures of one pass."""
    async with Headrace(url) as engine:
        small = validate(layered(max(LAYERS, count // 10), nothing.target))
        begun = time.perf_counter()
        await (await engine.run(small)).result()
        small_seconds = time.perf_counter() - begun
        small_count = len(small.tasks)
        del small
        gc.collect()
        before = rss_bytes()
        graph = layered(count, nothing.target)
        begun = time.perf_counter()
        graph = validate(graph)
        validate_seconds = time.perf_counter() - begun
        defined = rss_bytes()
        begun = time.perf_counter()
        run_of = await engine.run(graph)
        accepted_seconds = time.perf_counter() - begun
        await run_of.result()
        seconds = time.perf_counter() - begun
        peak = peak_bytes()
    return {
        "validate_seconds": validate_seconds,
        "accept_seconds": accepted_seconds,
        "run_seconds": seconds,
        "tasks_per_second": count / seconds,
        "bytes_per_task": (peak - before) / count,
        "definition_bytes_per_task": (defined - before) / count,
        "peak_mib": peak / (1 << 20),
        "cost_ratio_to_a_tenth": (seconds / count) / (small_seconds / small_count),
    }


def main(arguments: list[str]) -> None:
    """Measure and print."""
    figures = run(measure(arguments[0], int(arguments[1])))
    sys.stdout.write(msgspec.json.encode(figures).decode() + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
