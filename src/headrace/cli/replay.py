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

    from headrace.assembly import Headrace
    from headrace.core.errors import HeadraceError
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
        raise typer.BadParameter("give files, or runs of the store with --run or --all, and not both")
    if run_id is not None and every:
        raise typer.BadParameter("give --run or --all, and not both")
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
    from headrace.cli.engine import guest, reader

    if workflow is not None and ".py" in workflow:
        # Never opened: it says which tasks can run, and where large values are.
        headrace = guest(session)
        for file in files:
            yield file, await _of_file(headrace, file, workflow)
        return
    async with reader(session) as headrace:
        for file in files:
            yield file, await _of_file(headrace, file, workflow)


async def _of_file(headrace: Headrace, file: str, workflow: str | None) -> Replayed:
    from headrace.core.errors import HeadraceError

    events = _read(file)
    try:
        return await headrace.replay(events, workflow)
    except HeadraceError as error:
        error.message = f"{file}: {error.message}"
        raise


def _read(file: str) -> list[Event]:
    """The events of an exported history: JSON lines, or one JSON list. Raises :class:`HeadraceError` with file and
    line."""
    from pathlib import Path

    import msgspec

    from headrace.core.codec import decode_event
    from headrace.core.errors import HeadraceError, NotFound

    path, _, name = file.rpartition(":")
    if name and path.endswith(".py") and not Path(file).exists():
        raise _no_history(path, name)
    try:
        data = Path(file).read_bytes()
    except OSError as error:
        raise NotFound(f"the history {file!r} cannot be read: {error.strerror}") from None
    if data.strip() and (file.endswith(".py") or not data.lstrip().startswith((b"{", b"["))):
        raise _no_history(file)
    parts = [(f"{file}:{number}", line) for number, line in enumerate(data.splitlines(), 1) if line.strip()]
    if parts and parts[0][1].lstrip().startswith(b"["):
        try:
            listed = msgspec.json.decode(data, type=list[msgspec.Raw])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise HeadraceError(f"{file} is no list of events: {error}", hint=_EXPORT) from None
        parts = [(f"{file}: event {number}", bytes(event)) for number, event in enumerate(listed, 1)]
    if not parts:
        raise HeadraceError(f"{file} is empty: a history begins with the event run.created", hint=_EXPORT)
    events: list[Event] = []
    for where, line in parts:
        try:
            events.append(decode_event(line))
        except HeadraceError as error:
            raise HeadraceError(f"{where}: {error.message}", hint=_EXPORT) from None
    return events


def _no_history(file: str, name: str = "NAME") -> HeadraceError:
    """The refusal of a file that is something else: code above all, which is given with --workflow."""
    from headrace.core.errors import HeadraceError

    what = "no history but Python code" if file.endswith(".py") else "no history"
    remedy = f"write one with: {_EXPORT}"
    if file.endswith(".py"):
        code = f"--workflow {file}:{name}"
        remedy += f"\n  then: headrace replay FILE {code}"
        remedy += f"\n  or, against the runs of the store, without a file: headrace replay {code} [--all]"
    return HeadraceError(
        f"{file} is {what}: a history holds the events of one run, a JSON object on each line", hint=remedy
    )


_GONE = "its code cannot be loaded: "
_EXPORT = "headrace runs history RUN -o jsonl > FILE"


async def _name_of(headrace: Headrace, workflow: str) -> str:
    """The name of the code workflow that is meant: a misspelt one must not pass as having no runs."""
    from headrace.core.errors import InvalidCommand
    from headrace.core.spec import CodeSpec

    spec = await headrace.read(workflow)
    if not isinstance(spec, CodeSpec):
        raise InvalidCommand(f"workflow {spec.name!r} is a graph: it has no code to replay")
    return spec.name


async def _of_store(
    session: Session, workflow: str | None, run_id: str | None, *, every: bool
) -> AsyncIterator[tuple[str, Replayed]]:
    """Runs of the store."""
    from headrace.cli.engine import full_id, reader
    from headrace.core.errors import UserCodeError
    from headrace.core.spec import CodeSpec
    from headrace.core.states import FINAL_RUN_STATES, RunState
    from headrace.engine.replayer import Replayed

    code = workflow if workflow is not None and ".py" in workflow else None
    async with reader(session) as headrace:
        if run_id is not None:
            full = await full_id(headrace, run_id)
            yield full, await headrace.replay(full, code)
            return
        name = None if workflow is None else await _name_of(headrace, workflow)
        states = () if every else tuple(str(state) for state in RunState if state not in FINAL_RUN_STATES)
        before: str | None = None
        while True:
            page = await headrace.runs(workflow=name, states=states, before=before, limit=PAGE_RUNS)
            for row in page:
                if code is not None:
                    yield row.run_id, await headrace.replay(row.run_id, code)
                elif isinstance(await headrace.definition_of(row.run_id), CodeSpec):
                    try:
                        yield row.run_id, await headrace.replay(row.run_id)
                    except UserCodeError as error:  # its code is gone; the others are to be judged all the same
                        yield row.run_id, Replayed(row.run_id, row.workflow, row.last_seq, _GONE + error.message)
            if len(page) < PAGE_RUNS:
                return
            before = page[-1].run_id
