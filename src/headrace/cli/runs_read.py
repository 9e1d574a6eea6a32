"""``headrace runs list | show | logs``: only reading; no engine is started."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli import options
from headrace.cli.exits import ExitCode
from headrace.cli.options import Session, pairs, session_of
from headrace.cli.output import Format, reader_left, write, write_document

if TYPE_CHECKING:
    from headrace.assembly import Headrace
    from headrace.contracts.store import RunRow
    from headrace.core.view import RunView

FOLLOW_SECONDS = 0.3
"""How often ``logs --follow`` looks; less often when looking takes long."""

LIMIT_MAX = 100_000
ITEMS_SHOWN_MAX = 1_000


def list_runs(
    workflow: Annotated[
        str | None, typer.Option("--workflow", metavar="NAME", help="Only runs of this workflow.")
    ] = None,
    state: Annotated[
        list[str] | None, typer.Option("--state", metavar="STATE", help="Only this state; again for more.")
    ] = None,
    tag: options.Tags = None,
    where: Annotated[
        str | None,
        typer.Option("--where", metavar="FILTER", help="For example: \"status = 'waiting' and amount > 100\"."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=LIMIT_MAX, help="At most so many.")] = 50,
    before: Annotated[
        str | None, typer.Option("--before", metavar="RUN", help="Only runs older than this one.")
    ] = None,
    output: options.Output = Format.TEXT,
    store: options.Store = None,
    server: options.Server = None,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
) -> int:
    """List runs, newest first."""
    session = session_of(
        store, server=server, token_file=token_file, ca=ca, asks_servers=True, verbose=verbose, no_color=no_color
    )
    tags = pairs(tag, "--tag", bare="")
    _check_states(state or [])
    from headrace.cli.engine import full_id, reader
    from headrace.cli.runs_names import unknown_names
    from headrace.cli.runtime import run
    from headrace.client.documents import row_document

    async def read() -> tuple[list[RunRow], list[str]]:
        async with reader(session) as headrace:
            border = None if before is None else await full_id(headrace, before)
            found = await headrace.runs(
                workflow=workflow, states=tuple(state or ()), tags=tags, before=border, limit=limit, where=where
            )
            return found, [] if found or where is None else await unknown_names(headrace, where)

    rows, notes = run(read())
    if output is Format.TEXT:
        _write_rows(session, rows)
    else:
        write_document([row_document(row) for row in rows], output)
    for note in notes:
        sys.stderr.write(f"note: {note}\n")
    return ExitCode.SUCCEEDED


def _check_states(states: list[str]) -> None:
    from headrace.core.errors import HeadraceError
    from headrace.core.suggest import did_you_mean
    from headrace.core.where import STATUSES

    known = list(STATUSES)
    for state in states:
        if state not in known:
            raise HeadraceError(
                f"--state {state}: there is no such state", hint=did_you_mean(state, known, what="states")
            )


def _write_rows(session: Session, rows: list[RunRow]) -> None:
    from headrace.cli.colors import state_painter
    from headrace.cli.table import aligned
    from headrace.cli.times import local, span
    from headrace.client.documents import shown_state

    lines = [
        [
            row.run_id,
            row.workflow,
            shown_state(row),
            f"{row.tasks_done:,}/{row.tasks_total:,}",
            local(row.created_at),
            span((row.ended_at or time.time()) - row.created_at),
            " ".join(f"{key}={value}" if value else key for key, value in row.tags.items()),
        ]
        for row in rows
    ]
    paint = state_painter(2) if session.colors(sys.stdout) else None
    write(aligned(["RUN", "WORKFLOW", "STATE", "TASKS", "CREATED", "TOOK", "TAGS"], lines, paint=paint))


def show(
    run_id: options.RunId,
    items: Annotated[bool, typer.Option("--items", help="Also every item of mapped tasks.")] = False,
    output: options.Output = Format.TEXT,
    store: options.Store = None,
    server: options.Server = None,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
) -> int:
    """Show a run with its tasks."""
    session = session_of(
        store, server=server, token_file=token_file, ca=ca, asks_servers=True, verbose=verbose, no_color=no_color
    )
    from headrace.cli.engine import full_id, reader
    from headrace.cli.progress import branches_of
    from headrace.cli.runtime import run
    from headrace.cli.summary import loaded
    from headrace.client.documents import is_interrupted, run_document

    async def read() -> tuple[RunRow, RunView, dict[str, str], list[str]]:
        async with reader(session) as headrace:
            full = await full_id(headrace, run_id)
            row = await headrace.row(full)
            view = await headrace.show(full, items=items)
            refused = await headrace.refused_by(full)
            if output is not Format.TEXT:
                return row, await loaded(headrace, view), refused, []
            # A stored definition has lost the order it was written in; the tree tells more than the alphabet.
            return row, view, refused, [task_id for _, task_id in branches_of(await headrace.definition_of(full))]

    row, view, refused, order = run(read())
    if output is Format.TEXT:
        from headrace.cli.details import details

        items_max = ITEMS_SHOWN_MAX if items else 0
        write("\n".join(details(view, row, session, order=order, items_max=items_max, refused_by=refused)))
    else:
        write_document(run_document(view, interrupted=is_interrupted(row), refused_by=refused), output)
    return ExitCode.SUCCEEDED


def logs(
    run_id: options.RunId,
    task: Annotated[str | None, typer.Argument(metavar="[TASK]", help="Only this task's.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    output: options.Output = Format.TEXT,
    store: options.Store = None,
    server: options.Server = None,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    verbose: options.Verbose = False,
) -> int:
    """Print what a run's attempts wrote."""
    session = session_of(store, server=server, token_file=token_file, ca=ca, asks_servers=True, verbose=verbose)
    if follow and output is not Format.TEXT:
        raise typer.BadParameter("--follow prints text only")
    from headrace.cli.engine import full_id, reader
    from headrace.cli.runtime import run
    from headrace.core.errors import NotFound
    from headrace.core.suggest import did_you_mean

    async def read() -> None:
        async with reader(session) as headrace:
            full = await full_id(headrace, run_id)
            tasks = (await headrace.show(full)).tasks
            if task is not None and task not in tasks:
                hint = did_you_mean(task, tasks, what="tasks")
                raise NotFound(f"run {full} has no task {task!r}", hint=hint)
            if follow:
                await _follow(headrace, full, task)
                return
            entries = await headrace.logs(full, task)
            if output is not Format.TEXT:
                document = [
                    {"task": entry.task, "item": entry.item, "attempt": entry.attempt, "text": entry.text}
                    for entry in entries
                ]
                write_document(document, output)
                return
            printer = _Printer()
            for entry in entries:
                printer.print(entry.task, entry.item, entry.attempt, entry.text)
            if not entries:
                sys.stderr.write("nothing was written\n")

    run(read())
    return ExitCode.SUCCEEDED


async def _follow(headrace: Headrace, run_id: str, task: str | None) -> None:
    import asyncio

    from headrace.core.states import FINAL_RUN_STATES

    printer = _Printer()
    while True:
        begun = time.monotonic()
        ended = (await headrace.row(run_id)).state in FINAL_RUN_STATES  # asked first: what was written by then is read
        for entry in await headrace.logs(run_id, task):
            printer.print(entry.task, entry.item, entry.attempt, entry.text)
        if ended or reader_left():
            return
        await asyncio.sleep(max(FOLLOW_SECONDS, 9 * (time.monotonic() - begun)))


class _Printer:
    """Prints logs as they grow, under a head line that names the attempt whenever it changes."""

    def __init__(self) -> None:
        self._shown: dict[tuple[str, int | None, int], str] = {}
        self._current: tuple[str, int | None, int] | None = None

    def print(self, task: str, item: int | None, attempt: int, text: str) -> None:
        """What is new of an attempt's log. A log over its bound loses its middle: then its new end is printed."""
        key = (task, item, attempt)
        before = self._shown.get(key, "")
        if text == before:
            return
        self._shown[key] = text
        if text.startswith(before):
            new = text[len(before) :]
        else:
            tail = before[-1_000:]
            new = text[text.rindex(tail) + len(tail) :] if tail and tail in text else text
        if self._current != key:
            self._current = key
            name = task if item is None else f"{task}[{item}]"
            write(f"==> {name}, attempt {attempt} <==")
        write(new)
