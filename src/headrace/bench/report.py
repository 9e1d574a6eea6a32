"""How the figures of a bench are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headrace.bench.workloads import Workload

_UNITS = {
    "tasks_per_second": "tasks/s",
    "runs_per_second": "runs/s",
    "events_per_second": "events/s",
    "hop_ms": "ms",
    "p50_ms": "ms",
    "task_ms": "ms",
}

_EXTRA_TARGETS: dict[tuple[str, str], float] = {
    ("W4", "p95_ms"): 5.0,
    ("W6", "validate_seconds"): 2.0,
    ("W6", "bytes_per_task"): 2048.0,
    ("D4", "database_bytes_per_run"): 300 * 1024 * 1024 / 100_000,
    ("D4", "blocks_kept_per_run"): 0.1,
}
"""Upper bounds of figures beside the main one."""


def as_json(found: dict[str, Any]) -> str:
    """One object, readable and easy to compare."""
    return msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n"


def print_table(found: dict[str, Any], chosen: Mapping[str, Workload]) -> None:
    """The table for people: figure, spread, limit, ratio, target, whether it was reached."""
    from rich.console import Console  # noqa: PLC0415 - only this output needs it
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=f"headrace {found['versions']['headrace']} on {found['store']}", title_justify="left")
    table.add_column("workload", no_wrap=True)
    table.add_column("what")
    for heading in ("figure", "min to max", "raw limit", "ratio", "target", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, workload in chosen.items():
        table.add_row(*row(name, workload, found["workloads"][name]))
        for line in extra_rows(name, found["workloads"][name]):
            table.add_row("", *line)
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 140)  # a file can be as wide as the table
    console.print(table)
    raw = found["raw"]
    shown = ", ".join(f"{key} {number(value)}" for key, value in raw.items() if isinstance(value, float))
    console.print(f"raw limits (medians): {shown}", highlight=False, soft_wrap=True)


def row(name: str, workload: Workload, result: dict[str, Any]) -> list[str]:
    """The cells of one workload."""
    unit = _UNITS[workload.figure]
    value, ratio = result[workload.figure], result["ratio"]
    target, reached = "", None
    if workload.target is not None:
        target = f"{'at least' if workload.rising else 'at most'} {number(workload.target)}"
        reached = value >= workload.target if workload.rising else value <= workload.target
    elif workload.ratio_target is not None:
        judged = result.get("plain_ratio", ratio)
        which = f"{judged:.2f} plain commits, " if "plain_ratio" in result else "ratio "
        target = f"{which}at most {workload.ratio_target:g}"
        reached = None if judged is None else judged <= workload.ratio_target
    return [
        name,
        workload.title,
        f"{number(value)} {unit}",
        f"{number(result['min'])} to {number(result['max'])}",
        "" if result["raw_limit"] is None else number(result["raw_limit"]),
        "" if ratio is None else f"{ratio:.2f}",
        target,
        _mark(reached),
    ]


def extra_rows(name: str, result: dict[str, Any]) -> list[list[str]]:
    """The cells of further figures that have a target, without the name."""
    rows: list[list[str]] = []
    for (workload, figure), target in _EXTRA_TARGETS.items():
        if workload == name:
            value = result.get(figure)
            if value is None:  # of a database that is elsewhere
                continue
            words = figure.replace("_", " ")
            rows.append([words, number(value), "", "", "", f"at most {number(target)}", _mark(value <= target)])
    return rows


def number(value: float) -> str:
    """Three or more significant digits, thousands separated."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _mark(reached: bool | None) -> str:
    return "" if reached is None else "reached" if reached else "missed"
