"""``headrace schedules``: the commands about schedules; here those that only look."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli import options
from headrace.cli.options import session_of
from headrace.cli.output import Format, write, write_document

if TYPE_CHECKING:
    from headrace.client.schedules import ScheduleView
    from headrace.core.schedules import Outcome

Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]

TIMES_MAX = 10_000
OUTCOMES_SHOWN = 10


def build_app() -> typer.Typer:
    """The group of commands."""
    from headrace.cli import schedules_change

    app = typer.Typer(help="Run workflows when their time has come.", no_args_is_help=True, rich_markup_mode=None)
    app.command("list")(list_schedules)
    app.command("show")(show)
    app.command("next")(next_times)
    for name in ("add", "remove", "pause", "resume", "trigger", "backfill"):
        app.command(name)(getattr(schedules_change, name))
    return app


def list_schedules(
    output: options.Output = Format.TEXT,
    store: options.Store = None,
    verbose: options.Verbose = False,
) -> int:
    """The schedules, when each fires next, and what became of its last fire time."""
    session = session_of(store, verbose=verbose)
    from headrace.cli.engine import reader
    from headrace.cli.runtime import run

    async def read() -> list[ScheduleView]:
        async with reader(session) as headrace:
            return await headrace.schedules.list()

    views = run(read())
    if output is not Format.TEXT:
        write_document([schedule_document(view) for view in views], output)
    elif not views:
        write("no schedules; to add one: headrace schedules add NAME WORKFLOW --cron '0 3 * * *'")
    else:
        from headrace.cli.table import aligned

        write(aligned(["SCHEDULE", "WORKFLOW", "WHEN", "NEXT", "LAST"], [_cells(view) for view in views]))
    return 0


def show(
    name: Name,
    output: options.Output = Format.TEXT,
    store: options.Store = None,
    verbose: options.Verbose = False,
) -> int:
    """One schedule: its times, its runs, and what became of its last fire times."""
    session = session_of(store, verbose=verbose)
    from headrace.cli.engine import reader
    from headrace.cli.runtime import run

    async def read() -> ScheduleView:
        async with reader(session) as headrace:
            return await headrace.schedules.get(name)

    print_schedule(run(read()), output)
    return 0


def print_schedule(view: ScheduleView, form: Format) -> None:
    """All that is known of a schedule."""
    if form is Format.TEXT:
        write("\n".join(_lines(view)))
    else:
        write_document(schedule_document(view), form)


def next_times(
    timing: Annotated[
        list[str],
        typer.Argument(
            metavar="TIMING...", help="'0 3 * * *', '@daily', '@every 90m', '@at 2026-12-01T08:00'; or several."
        ),
    ],
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=TIMES_MAX, help="How many times.")] = 5,
    zone: Annotated[str, typer.Option("--zone", metavar="ZONE", help="An IANA time zone.")] = "UTC",
    after: Annotated[
        str | None, typer.Option("--after", metavar="TIME", help="Times after this one; default: now.")
    ] = None,
    output: options.Output = Format.TEXT,
) -> int:
    """The coming times of a cron expression or another timing. Needs no store."""
    from headrace.core.errors import InvalidSchedule, Problem
    from headrace.core.timing import make_next, parse_instant

    try:
        times = make_next(timing, zone)
        cursor = time.time() if after is None else parse_instant(after, zone)
    except ValueError as error:
        raise InvalidSchedule([Problem(str(error))]) from None
    found: list[float] = []
    while len(found) < count and (due := times(cursor)) is not None:
        found.append(due)
        cursor = due
    if output is not Format.TEXT:
        from headrace.core.times import iso

        write_document([{"time": iso(due), "local_time": _local(due, zone)} for due in found], output)
    elif not found:
        write("never again")
    else:
        write("\n".join(_shown(due, zone) for due in found))
    return 0


def schedule_document(view: ScheduleView) -> dict[str, Any]:
    """What ``headrace schedules show -o json`` prints."""
    from headrace.core.durations import format_duration
    from headrace.core.times import iso

    definition = view.definition
    return {
        "name": view.name,
        "workflow": definition.workflow,
        "timing": list(definition.timing),
        "zone": definition.zone,
        "params": definition.params,
        "tags": definition.tags,
        "start": iso(definition.start),
        "end": iso(definition.end),
        "jitter": format_duration(definition.jitter),
        "overlap": definition.overlap,
        "catch_up": format_duration(definition.catch_up),
        "limit": definition.limit,
        "note": definition.note,
        "source": definition.source,
        "created_at": iso(view.created_at),
        "paused": view.paused is not None,
        "pause_reason": view.paused,
        "remaining": view.remaining,
        "next": [iso(due) for due in view.next],
        "running": [{"run": run.run_id, "time": iso(run.time), "kind": run.kind} for run in view.running],
        "waiting": [iso(due) for due in view.waiting],
        "backfills": view.backfills,
        "counts": {
            name: getattr(view.counts, name)
            for name in ("started", "skipped", "missed", "failed", "triggered", "backfilled")
        },
        "outcomes": [_outcome_document(outcome) for outcome in reversed(view.outcomes)],
        "error": view.error,
    }


def _outcome_document(outcome: Outcome) -> dict[str, Any]:
    from headrace.core.times import iso

    return {
        "time": iso(outcome.time),
        "outcome": outcome.what,
        "kind": outcome.kind,
        "run": outcome.run_id or None,
        "reason": outcome.reason or None,
        "count": outcome.count,
        "decided_at": iso(outcome.at),
    }


def _local(due: float, zone: str) -> str:
    from datetime import UTC, datetime

    from headrace.core.zones import zone_of

    return datetime.fromtimestamp(due, UTC).astimezone(zone_of(zone)).isoformat(timespec="seconds")


def _shown(due: float, zone: str) -> str:
    from datetime import datetime

    from headrace.core.times import iso

    local = _local(due, zone)
    text = f"{local}  {datetime.fromisoformat(local):%a}"
    return text if zone == "UTC" else f"{text}  ({iso(due)})"


def _when(view: ScheduleView) -> str:
    zone = view.definition.zone
    return ", ".join(view.definition.timing) + ("" if zone == "UTC" else f" ({zone})")


def _next(view: ScheduleView) -> str:
    if view.paused is not None:
        return f"paused: {view.paused}" if view.paused else "paused"
    return _local(view.next[0], view.definition.zone) if view.next else "never again"


def _cells(view: ScheduleView) -> list[str]:
    last = view.outcomes[-1].what if view.outcomes else ""
    return [view.name, view.definition.workflow, _when(view), _next(view), last]


def _lines(view: ScheduleView) -> list[str]:
    from headrace.core.durations import format_duration

    definition, counts = view.definition, view.counts
    lines = [
        f"schedule {view.name}: workflow {definition.workflow}, {_when(view)}",
        f"  overlap {definition.overlap}, catch-up {format_duration(definition.catch_up)}"
        + (f", jitter {format_duration(definition.jitter)}" if definition.jitter else "")
        + (f", {view.remaining} fire times remain" if view.remaining is not None else ""),
        f"  next: {_next(view)}",
        f"  {counts.started} started, {counts.skipped} skipped, {counts.missed} missed, {counts.failed} failed, "
        f"{counts.triggered} triggered, {counts.backfilled} backfilled",
    ]
    if definition.note:
        lines.insert(1, f"  {definition.note}")
    if view.error:
        lines.append(f"  the last run could not be started: {view.error}")
    lines += [f"  running: {run.run_id} (for {_local(run.time, definition.zone)}, {run.kind})" for run in view.running]
    if view.waiting:
        lines.append(f"  waiting for its end: {len(view.waiting)} fire times")
    if view.backfills:
        lines.append(f"  backfills under way: {view.backfills}")
    for outcome in reversed(view.outcomes[-OUTCOMES_SHOWN:]):
        more = f" (and {outcome.count - 1} before it)" if outcome.count > 1 else ""
        what = outcome.run_id or outcome.reason.splitlines()[0] if outcome.run_id or outcome.reason else ""
        lines.append(f"  {_local(outcome.time, definition.zone)}  {outcome.what}{more}  {what}".rstrip())
    return lines
