"""``headrace replay``: does the code of today still do what stored histories say?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli import options
from headrace.cli.exits import ExitCode
from headrace.cli.options import Session, session_of
from headrace.cli.output import Format, stdout_kept_for_data, write, write_document

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headrace.core.events import Event
    from headrace.engine.replayer import Replayed

PAGE_RUNS = 500


def replay(
    files: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE...]", help="Histories from `runs history RUN -o jsonl`.")
    ] = None,
    workflow: Annotated[
        str | None,
        typer.Option("--workflow", "-w", metavar="FILE|NAME", help="The code: file.py:workflow; or a stored name."),
    ] = None,
    run_id: Annotated[str | None, typer.Option("--run", metavar="RUN", help="Only this run of the store.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Also runs that have ended.")] = False,
    output: options.Output = Format.TEXT,
    store: options.Store = None,
    verbose: options.Verbose = False,
) -> int:
    """Run the code of today against stored histories and show the first difference of each. Changes nothing.

    Without a file or --run: every unfinished run of the store, of one workflow with --workflow. Exit code 1 if one
    differs: fit for CI, with exported histories beside the code.
    """
    session = session_of(store, verbose=verbose)
    if files and (run_id is not None or every):
        raise typer.BadParameter("give files, or --run, or --all")
    from headrace.cli.runtime import run

    with stdout_kept_for_data():  # the workflows' code runs, and may print
        source = _of_files(files, workflow, session) if files else _of_store(session, workflow, run_id, every=every)
        results = run(_collect(source, output))
    differing = [result for _, result in results if result.difference is not None]
    if output is not Format.TEXT:
        write_document([_document(where, result) for where, result in results], output)
    else:
        count = len(results)
        runs = f"{count:,} histor{'y' if count == 1 else 'ies'}"
        write(
            f"{len(differing):,} of {runs} differ{'s' if len(differing) == 1 else ''} from the code"
            if differing
            else f"ok: {runs} replayed"
        )
    return ExitCode.FAILED if differing else ExitCode.SUCCEEDED


async def _collect(source: AsyncIterator[tuple[str, Replayed]], output: Format) -> list[tuple[str, Replayed]]:
    results: list[tuple[str, Replayed]] = []
    async for where, result in source:
        results.append((where, result))
        if output is Format.TEXT and result.difference is not None:
            write(f"{where} ({result.workflow}) differs:")
            write("\n".join(f"    {line}" for line in result.difference.splitlines()))
            if result.source:
                write(f"        {result.place}: {result.source}")
    return results


def _document(where: str, result: Replayed) -> dict[str, Any]:
    return {
        "source": where,
        "run": result.run_id,
        "workflow": result.workflow,
        "events": result.events,
        "ok": result.difference is None,
        "difference": result.difference,
        "place": result.place,
        "source_line": result.source,
    }


async def _of_files(files: list[str], workflow: str | None, session: Session) -> AsyncIterator[tuple[str, Replayed]]:
    """Histories in files, against the given code; against the store's versions if none is given."""
    from headrace.assembly import Headrace
    from headrace.cli.engine import reader
    from headrace.cli.interceptors import interceptors_from_environment

    if workflow is not None and ".py" in workflow:
        headrace = Headrace("memory://", adopt=False, interceptors=interceptors_from_environment())
        for file in files:
            yield file, await headrace.replay(_read(file), workflow)
        return
    async with reader(session) as headrace:
        for file in files:
            yield file, await headrace.replay(_read(file), workflow)


def _read(file: str) -> list[Event]:
    """The events of an exported history. Raises :class:`HeadraceError` with file and line."""
    from pathlib import Path

    from headrace.core.codec import decode_event
    from headrace.core.errors import HeadraceError, NotFound

    events: list[Event] = []
    try:
        with Path(file).open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    events.append(decode_event(line))
                except HeadraceError as error:
                    raise HeadraceError(
                        f"{file}:{number}: {error.message}", hint="headrace runs history RUN -o jsonl > FILE"
                    ) from None
    except OSError as error:
        raise NotFound(f"the history {file!r} cannot be read: {error.strerror}") from None
    return events


async def _of_store(
    session: Session, workflow: str | None, run_id: str | None, *, every: bool
) -> AsyncIterator[tuple[str, Replayed]]:
    """Runs of the store."""
    from headrace.cli.engine import full_id, reader
    from headrace.core.spec import CodeSpec
    from headrace.core.states import FINAL_RUN_STATES, RunState

    code = workflow if workflow is not None and ".py" in workflow else None
    async with reader(session) as headrace:
        if run_id is not None:
            full = await full_id(headrace, run_id)
            yield full, await headrace.replay(full, code)
            return
        name = workflow if code is None else (await headrace.read(code or "")).name
        states = () if every else tuple(str(state) for state in RunState if state not in FINAL_RUN_STATES)
        before: str | None = None
        while True:
            page = await headrace.runs(workflow=name, states=states, before=before, limit=PAGE_RUNS)
            for row in page:
                if code is not None:
                    yield row.run_id, await headrace.replay(row.run_id, code)
                elif isinstance(await headrace.definition_of(row.run_id), CodeSpec):
                    yield row.run_id, await headrace.replay(row.run_id)
            if len(page) < PAGE_RUNS:
                return
            before = page[-1].run_id
