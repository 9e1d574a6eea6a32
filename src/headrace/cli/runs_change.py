"""``headrace runs cancel | pause | resume | retry | delete``."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli import options
from headrace.cli.exits import ExitCode
from headrace.cli.options import Session, session_of
from headrace.cli.output import Format, stdout_kept_for_data, write, write_document
from headrace.cli.run import carry_out
from headrace.core.errors import HeadraceError
from headrace.core.states import FINAL_RUN_STATES

if TYPE_CHECKING:
    from headrace.assembly import Headrace
    from headrace.client.handle import RunHandle
    from headrace.contracts.store import RunRow
    from headrace.core.ids import RunId

    Command = Callable[[Headrace, RunId], Awaitable[RunHandle]]

Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Kept in the run's history.")]


def cancel(
    run_id: options.RunId,
    reason: Reason = "",
    output: options.Output = Format.TEXT,
    store: options.Store = None,
    server: options.Server = None,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    verbose: options.Verbose = False,
) -> int:
    """Cancel a run: nothing new starts, attempts under way are stopped."""
    session = session_of(store, server=server, token_file=token_file, ca=ca, asks_servers=True, verbose=verbose)
    return command(session, run_id, lambda headrace, full: headrace.cancel(full, reason), output)


def pause(
    run_id: options.RunId,
    reason: Reason = "",
    output: options.Output = Format.TEXT,
    store: options.Store = None,
    server: options.Server = None,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    verbose: options.Verbose = False,
) -> int:
    """Start nothing new in a run until it is resumed; attempts under way go on."""
    session = session_of(store, server=server, token_file=token_file, ca=ca, asks_servers=True, verbose=verbose)
    return command(session, run_id, lambda headrace, full: headrace.pause(full, reason), output)


def command(session: Session, given: str, command: Command, form: Format) -> int:
    """Give a command, through an engine that starts no tasks, and print the run's row as it is left."""
    from headrace.cli.engine import engine, full_id, reader
    from headrace.cli.runtime import run
    from headrace.client.documents import WAITING, is_interrupted, row_document, shown_state

    async def send() -> tuple[RunRow, bool]:
        async with engine(session, execute=False, must_exist=True) as headrace:
            full = await full_id(headrace, given)
            await command(headrace, full)
            await headrace.settled(full)
            heard = await headrace.heard(full)
            if not headrace.live(full):
                return await headrace.row(full), heard
        async with reader(session) as headrace:  # this engine held the run, and has given it up
            return await headrace.row(full), heard

    with stdout_kept_for_data():  # the workflow's code may run on, and print
        row, heard = run(send())
        if form is not Format.TEXT:
            write_document(row_document(row), form)
            return ExitCode.SUCCEEDED
        write(f"run {row.run_id} ({row.workflow}): {shown_state(row)}")
        if not heard and row.state not in FINAL_RUN_STATES:
            write("  the command is stored; the process that carries the run out has not taken it up yet")
        elif is_interrupted(row) or row.state in WAITING:
            write(f"  to go on: headrace runs resume {row.run_id}{session.store_option}")
    return ExitCode.SUCCEEDED


def carry_on(session: Session, given: str, command: Command, form: Format, *, no_wait: bool) -> int:
    """Give a command after which a run goes on, or another one in its place, and carry that out."""
    from headrace.cli.engine import full_id

    async def start(headrace: Headrace) -> RunHandle:
        return await command(headrace, await full_id(headrace, given))

    return carry_out(session, start, form, no_wait=no_wait, must_exist=True)


def resume(
    run_id: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="The run's id, its first characters, or -.")
    ] = None,
    all_runs: Annotated[bool, typer.Option("--all", help="Every interrupted run.")] = False,
    no_wait: options.NoWait = False,
    output: options.Output = Format.TEXT,
    store: options.Store = None,
    server: options.Server = None,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
) -> int:
    """Go on with a run that was paused or whose process ended before it did, and wait for its end."""
    session = session_of(
        store,
        server=server,
        token_file=token_file,
        ca=ca,
        asks_servers=True,
        quiet=quiet,
        verbose=verbose,
        no_color=no_color,
    )
    if (run_id is None) != all_runs or (all_runs and no_wait):
        raise typer.BadParameter("give a run, or --all without --no-wait")
    if all_runs and session.server is not None:
        raise HeadraceError("--all is for a store", hint="the nodes of a server take interrupted runs up by themselves")
    if all_runs:
        from headrace.cli.runtime import run
        from headrace.cli.waiting import resume_all

        with stdout_kept_for_data():
            return run(resume_all(session, output))
    return carry_on(session, run_id or "", lambda headrace, full: headrace.resume(full), output, no_wait=no_wait)


def retry(
    run_id: options.RunId,
    task: Annotated[
        list[str] | None,
        typer.Option("--task", metavar="TASK", help="This task and what follows from it; again for more."),
    ] = None,
    reason: Reason = "",
    no_wait: options.NoWait = False,
    output: options.Output = Format.TEXT,
    store: options.Store = None,
    server: options.Server = None,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
) -> int:
    """Run again what failed or was cancelled, and wait for the run's end. What succeeded is kept."""
    session = session_of(
        store,
        server=server,
        token_file=token_file,
        ca=ca,
        asks_servers=True,
        quiet=quiet,
        verbose=verbose,
        no_color=no_color,
    )
    tasks = tuple(task or ())
    return carry_on(
        session, run_id, lambda headrace, full: headrace.retry(full, tasks, reason), output, no_wait=no_wait
    )


def delete(
    older_than: Annotated[str, typer.Option("--older-than", metavar="DURATION", help="For example 30d or 12h.")],
    output: options.Output = Format.TEXT,
    store: options.Store = None,
    verbose: options.Verbose = False,
) -> int:
    """Delete runs that ended longer ago than that, with their histories and logs."""
    session = session_of(store, verbose=verbose)
    if store is None and os.environ.get(options.SERVER_VARIABLE):
        raise HeadraceError(
            f"{options.SERVER_VARIABLE} is set, and runs cannot be deleted through a server",
            hint="say which store is meant: --store URL; or set retention in the server's configuration",
        )
    from headrace.cli.engine import reader
    from headrace.cli.runtime import run
    from headrace.core.durations import parse_duration

    try:
        seconds = parse_duration(older_than)
    except ValueError as error:
        raise HeadraceError(f"--older-than: {error}") from None

    async def remove() -> int:
        async with reader(session) as headrace:
            return await headrace.delete_runs(seconds)

    count = run(remove())
    if output is Format.TEXT:
        write(f"{count:,} run{'' if count == 1 else 's'} deleted")
    else:
        write_document({"deleted": count}, output)
    return ExitCode.SUCCEEDED
