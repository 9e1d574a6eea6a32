"""Runs workloads and their limits, interleaved, and reports them: :func:`run_bench`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any

import headrace
from headrace.assembly import STORE_DEFAULT, Headrace
from headrace.bench import report
from headrace.bench.places import Place, place_for
from headrace.bench.raw import Limits, rounded
from headrace.bench.workloads import WORKLOADS, Figures, Stage, Workload
from headrace.core.errors import HeadraceError
from headrace.core.suggest import did_you_mean

GENERAL_LIMITS = (
    "commit_ms",
    "plain_commit_ms",
    "awaited_commit_ms",
    "rows_per_second",
    "loop_hops_per_second",
    "thread_hops_per_second",
)
"""Measured in every bench, whatever is chosen."""


def run_bench(store: str | None, workloads: Sequence[str], as_json: bool) -> int:
    """``headrace bench``: measure, print, return the exit code 0.

    ``store``: the URL whose disk or server is measured; the databases are new ones beside it and are removed at the end
    (default: beside the default store). ``workloads``: names, or beginnings of names such as ``W1``;
    none means all. Raises :class:`HeadraceError` for an unknown workload or a store that cannot be used.
    """
    from headrace.cli.runtime import run  # noqa: PLC0415 - the same event loop as every command

    chosen = choose(workloads)
    found, chosen = run(_bench_beside(store or STORE_DEFAULT, chosen))
    if as_json:
        sys.stdout.write(report.as_json(found))
    else:
        report.print_table(found, chosen)
    return 0


async def _bench_beside(store: str, chosen: dict[str, Workload]) -> tuple[dict[str, Any], dict[str, Workload]]:
    """Measure; returns the figures and the workloads as they are judged on that store."""
    async with place_for(store) as place:
        judged = {name: place.judged(workload) for name, workload in chosen.items()}
        return await bench(place, judged, say=_tell), judged


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - talk; data goes to stdout


def choose(names: Sequence[str]) -> dict[str, Workload]:
    """The workloads that names or their beginnings stand for, in the usual order."""
    for name in names:
        if not any(_matches(name, known) for known in WORKLOADS):
            raise HeadraceError(
                f"there is no workload {name!r}", hint=did_you_mean(name, list(WORKLOADS), what="workloads")
            )
    return {
        known: workload
        for known, workload in WORKLOADS.items()
        if not names or any(_matches(name, known) for name in names)
    }


def _matches(name: str, known: str) -> bool:
    exact = {workload.lower() for workload in WORKLOADS}
    name, known = name.lower(), known.lower()
    return known == name or (name not in exact and known.startswith(name + "-"))


async def bench(
    place: Place, chosen: dict[str, Workload], *, scale: float = 1.0, say: Callable[[str], object] = str
) -> dict[str, Any]:
    """Measure; returns what ``--json`` prints. ``scale`` shrinks every size, for tests; ``say`` hears what is under
    way."""
    limits = Limits(place.probes)
    measured: dict[str, Any] = {}
    try:
        await limits.measure(GENERAL_LIMITS)
        for name, workload in chosen.items():
            say(f"{name}: {workload.title}")
            measured[name] = await _measure(name, workload, limits, place, scale)
        await limits.measure(GENERAL_LIMITS)
    finally:
        limits.close()
    return {
        "store": place.kind,
        "versions": _versions(),
        "raw": limits.summary(),
        "workloads": measured,
    }


async def _measure(name: str, workload: Workload, limits: Limits, place: Place, scale: float) -> dict[str, Any]:
    """One workload on an engine of its own: limits, workload, limits, workload, ... limits."""
    files = place.files(name)
    samples: list[Figures] = []
    bounds: list[float | None] = []
    plain: list[float] = []
    with tempfile.TemporaryDirectory() if files is None else contextlib.nullcontext(files) as data_dir:
        async with Headrace(place.url(name), data_dir=data_dir) as engine:
            stage = Stage(engine, place.url(f"{name}-own"), scale)
            before = await limits.measure(workload.limits)
            for _ in range(workload.repetitions):
                samples.append(await workload.once(stage))
                after = await limits.measure(workload.limits)
                around = {key: (before[key] + after[key]) / 2 for key in after}
                bounds.append(workload.bound(around))
                plain += [around["plain_commit_ms"]] if "plain_commit_ms" in around else []
                before = after
    result: dict[str, Any] = {key: rounded(median(sample[key] for sample in samples)) for key in samples[0]}
    figure = workload.figure
    values = [sample[figure] for sample in samples]
    known = [bound for bound in bounds if bound]
    result |= {
        "figure": figure,
        "min": rounded(min(values)),
        "max": rounded(max(values)),
        "repetitions": len(samples),
        "raw_limit": rounded(median(known)) if known else None,
        "ratio": rounded(median(v / b for v, b in zip(values, bounds, strict=True) if b)) if known else None,
    }
    if figure == "hop_ms" and known:
        result["raw_commit_ms"] = result["raw_limit"]
    if figure == "hop_ms" and plain:
        result["plain_commit_ms"] = rounded(median(plain))
        result["plain_ratio"] = rounded(median(v / p for v, p in zip(values, plain, strict=True)))
    return result


def _versions() -> dict[str, str | int | None]:
    def of(distribution: str) -> str | None:
        try:
            return version(distribution)
        except PackageNotFoundError:
            return None

    return {
        "headrace": headrace.__version__,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "sqlite": sqlite3.sqlite_version,
        "uvloop": of("uvloop"),
        "msgspec": of("msgspec"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "event_loop": type(asyncio.get_running_loop()).__module__.partition(".")[0],
    }
