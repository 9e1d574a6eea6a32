"""``headrace schedules add | remove | pause | resume | trigger | backfill``."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from headrace.cli import options
from headrace.cli.options import Session, pairs, session_of
from headrace.cli.output import Format, stdout_kept_for_data, write, write_document
from headrace.cli.run import given_params
from headrace.cli.schedules import Name, print_schedule

if TYPE_CHECKING:
    from headrace.assembly import Headrace
    from headrace.client.schedules import ScheduleView

T = TypeVar("T")


class Overlap(enum.StrEnum):
    """What happens at a fire time at which a run of the schedule goes on."""

    SKIP = "skip"
    BUFFER_ONE = "buffer_one"
    BUFFER_ALL = "buffer_all"
    ALLOW = "allow"
    CANCEL_OTHER = "cancel_other"
    TERMINATE_OTHER = "terminate_other"


def _changed(session: Session, change: Callable[[Headrace], Awaitable[T]], *, must_exist: bool = True) -> T:
    """Make a change through an engine that starts no tasks."""
    from headrace.cli.engine import engine
    from headrace.cli.runtime import run

    async def do() -> T:
        async with engine(session, execute=False, must_exist=must_exist) as headrace:
            return await change(headrace)

    with stdout_kept_for_data():  # a workflow file may print
        return run(do())


def add(
    name: Name,
    workflow: Annotated[
        str, typer.Argument(metavar="FILE|NAME", help="A .yaml, .json or .py file, or the name of a stored workflow.")
    ],
    cron: Annotated[
        list[str] | None, typer.Option("--cron", metavar="EXPRESSION", help="'0 3 * * *', '@daily'; again for more.")
    ] = None,
    every: Annotated[str | None, typer.Option("--every", metavar="DURATION", help="For example 90m.")] = None,
    at: Annotated[
        list[str] | None, typer.Option("--at", metavar="TIME", help="Once: 2026-12-01T08:00; again for more.")
    ] = None,
    zone: Annotated[str, typer.Option("--zone", metavar="ZONE", help="An IANA time zone.")] = "UTC",
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param", "-p", metavar="NAME=VALUE", help="A parameter; may hold {{ schedule.time }}; again for more."
        ),
    ] = None,
    params_file: Annotated[
        str | None, typer.Option("--params-file", metavar="FILE", help="Parameters from a YAML or JSON file.")
    ] = None,
    tag: options.Tags = None,
    start: Annotated[str | None, typer.Option("--start", metavar="TIME", help="Not before.")] = None,
    end: Annotated[str | None, typer.Option("--end", metavar="TIME", help="Not after.")] = None,
    jitter: Annotated[
        str, typer.Option("--jitter", metavar="DURATION", help="Put each fire time off by a part of this.")
    ] = "0s",
    overlap: Annotated[
        Overlap, typer.Option("--overlap", help="What to do at a fire time at which a run still goes on.")
    ] = Overlap.SKIP,
    catch_up: Annotated[
        str, typer.Option("--catch-up", metavar="DURATION", help="How late a fire time may still start its run.")
    ] = "1d",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="So many runs, and no more.")] = None,
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="What it is for.")] = "",
    paused: Annotated[bool, typer.Option("--paused", help="Add it paused.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Change the one of that name, if there is one.")] = False,
    output: options.Output = Format.TEXT,
    store: options.Store = None,
    verbose: options.Verbose = False,
) -> int:
    """Run a workflow whenever a time has come. A node has to be running then: headrace up."""
    session = session_of(store, verbose=verbose)
    given, texts = given_params(param, params_file)
    settings: dict[str, Any] = {
        "cron": tuple(cron or ()),
        "every": every,
        "at": tuple(at or ()),
        "zone": zone,
        "params": given,
        "tags": pairs(tag, "--tag", bare=""),
        "start": start,
        "end": end,
        "jitter": jitter,
        "overlap": overlap.value,
        "catch_up": catch_up,
        "limit": limit,
        "note": note,
        "paused": "added paused" if paused else None,
        "replace": replace,
        "from_strings": texts,
    }
    view = _changed(session, lambda headrace: headrace.schedules.add(name, workflow, **settings), must_exist=False)
    print_schedule(view, output)
    return 0


def remove(
    name: Name,
    output: options.Output = Format.TEXT,
    store: options.Store = None,
    verbose: options.Verbose = False,
) -> int:
    """Remove a schedule. Its runs go on."""
    session = session_of(store, verbose=verbose)
    _changed(session, lambda headrace: headrace.schedules.remove(name))
    if output is Format.TEXT:
        write(f"schedule {name} is removed")
    else:
        write_document({"removed": name}, output)
    return 0


def pause(
    name: Name,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Shown with the schedule.")] = "",
    output: options.Output = Format.TEXT,
    store: options.Store = None,
    verbose: options.Verbose = False,
) -> int:
    """Fire no more until it is resumed. Its runs go on; fire times of the pause are skipped, and counted."""
    return _show(store, verbose, output, lambda headrace: headrace.schedules.pause(name, reason))


def resume(
    name: Name,
    output: options.Output = Format.TEXT,
    store: options.Store = None,
    verbose: options.Verbose = False,
) -> int:
    """Fire again, from the next fire time on."""
    return _show(store, verbose, output, lambda headrace: headrace.schedules.resume(name))


def trigger(
    name: Name,
    output: options.Output = Format.TEXT,
    store: options.Store = None,
    verbose: options.Verbose = False,
) -> int:
    """Start a run now, whatever else goes on, paused or not. The node that leads starts it."""
    return _show(store, verbose, output, lambda headrace: headrace.schedules.trigger(name))


def backfill(
    name: Name,
    begin: Annotated[str, typer.Option("--from", metavar="TIME", help="The first fire time, included.")],
    to: Annotated[str, typer.Option("--to", metavar="TIME", help="The last, included.")],
    parallel: Annotated[bool, typer.Option("--parallel", help="All at once, not one after the other.")] = False,
    output: options.Output = Format.TEXT,
    store: options.Store = None,
    verbose: options.Verbose = False,
) -> int:
    """Start a run for every fire time of the past between two times. The node that leads starts them."""
    session = session_of(store, verbose=verbose)
    view, count = _changed(session, lambda headrace: headrace.schedules.backfill(name, begin, to, parallel=parallel))
    if output is Format.TEXT:
        write(f"schedule {view.name}: {count:,} run{'' if count == 1 else 's'} will be started for the times between")
    else:
        write_document({"name": view.name, "fire_times": count}, output)
    return 0


def _show(
    store: str | None,
    verbose: bool,
    output: Format,
    change: Callable[[Headrace], Awaitable[ScheduleView]],
) -> int:
    print_schedule(_changed(session_of(store, verbose=verbose), change), output)
    return 0
