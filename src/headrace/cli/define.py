"""``headrace validate | graph | workflows | schema | bench | version``: everything that concerns no single run."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli import options
from headrace.cli.exits import ExitCode, say_error
from headrace.cli.options import Session, session_of
from headrace.cli.output import Format, stdout_kept_for_data, write, write_document

if TYPE_CHECKING:
    from headrace.assembly import Headrace
    from headrace.core.errors import HeadraceError
    from headrace.core.spec import AnySpec, WorkflowSpec


class Drawing(enum.StrEnum):
    """How a graph is drawn."""

    TEXT = "text"
    MERMAID = "mermaid"


def _only_reading() -> Headrace:
    """Reads definitions; has no store and touches no folder."""
    from headrace.assembly import Headrace

    return Headrace("memory://", adopt=False)


def validate(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Workflow files.")],
    output: options.Output = Format.TEXT,
    verbose: options.Verbose = False,
) -> int:
    """Say everything that `run` would refuse in a definition: graph, templates, settings, functions. Runs nothing."""
    session_of(None, verbose=verbose)
    from headrace.cli.runtime import run
    from headrace.core.errors import HeadraceError

    async def check_all() -> list[tuple[str, AnySpec | HeadraceError]]:
        headrace = _only_reading()
        found: list[tuple[str, AnySpec | HeadraceError]] = []
        for file in files:
            try:
                found.append((file, await headrace.check(file)))
            except HeadraceError as error:
                found.append((file, error))
        return found

    with stdout_kept_for_data():  # importing user code may print
        results = run(check_all())
        if output is not Format.TEXT:
            documents = [_validation(file, result) for file, result in results]
            write_document(documents[0] if len(documents) == 1 else documents, output)
        for file, result in results:
            if isinstance(result, HeadraceError):
                if output is Format.TEXT:
                    say_error(result)
            elif output is Format.TEXT:
                name = f"{file}: " if len(results) > 1 else ""
                write(f"{name}ok: {result.name}, {_size(result)}")
    bad = any(isinstance(result, HeadraceError) for _, result in results)
    return ExitCode.BAD_INPUT if bad else ExitCode.SUCCEEDED


def _task_count(spec: AnySpec) -> int | None:
    """Tasks of a graph; None for code, whose tasks are known only when it runs."""
    from headrace.core.spec import WorkflowSpec

    return len(spec.tasks) if isinstance(spec, WorkflowSpec) else None


def _size(spec: AnySpec) -> str:
    count = _task_count(spec)
    return "code" if count is None else f"{count:,} task{'' if count == 1 else 's'}"


def _validation(file: str, result: AnySpec | HeadraceError) -> dict[str, Any]:
    from headrace.core.errors import HeadraceError, InvalidDefinition, UserCodeError

    if not isinstance(result, HeadraceError):
        tasks = _task_count(result)
        return {"file": file, "ok": True, "workflow": result.name, "tasks": tasks, "problems": []}
    if isinstance(result, InvalidDefinition):
        problems = [
            {
                "where": problem.where or ".".join(map(str, problem.path)),
                "message": problem.message,
                "hint": problem.hint or None,
            }
            for problem in result.problems
        ]
    else:
        problems = [{"where": file, "message": result.message, "hint": result.hint}]
        if isinstance(result, UserCodeError) and result.traceback:
            problems[0]["traceback"] = result.traceback
    return {"file": file, "ok": False, "workflow": None, "tasks": None, "problems": problems}


def graph(
    workflow: Annotated[str | None, typer.Argument(metavar="[FILE|NAME]", help="A file or a stored workflow.")] = None,
    run_id: Annotated[str | None, typer.Option("--run", metavar="RUN", help="Draw a run, with its states.")] = None,
    form: Annotated[Drawing, typer.Option("--format", "-f", help="What to draw.")] = Drawing.TEXT,
    output: options.Output = Format.TEXT,
    store: options.Store = None,
    verbose: options.Verbose = False,
) -> int:
    """Draw a workflow's graph as text or Mermaid, or print its tasks and what they need as data."""
    session = session_of(store, verbose=verbose)
    if (workflow is None) == (run_id is None):
        raise typer.BadParameter("give a workflow, or a run with --run RUN, and not both")
    from headrace.authoring.drawing import draw_mermaid, draw_text
    from headrace.cli.runtime import run
    from headrace.client.documents import graph_document

    with stdout_kept_for_data():
        spec, states = run(_of_run(session, run_id) if run_id is not None else _of_workflow(session, workflow or ""))
        if output is not Format.TEXT:
            write_document(graph_document(spec, states), output)
            return ExitCode.SUCCEEDED
        draw = draw_mermaid if form is Drawing.MERMAID else draw_text
        write(draw(spec, states))
    return ExitCode.SUCCEEDED


async def _of_run(session: Session, given: str) -> tuple[WorkflowSpec, dict[str, str] | None]:
    from headrace.cli.engine import full_id, reader

    async with reader(session) as headrace:
        run_id = await full_id(headrace, given)
        view = await headrace.show(run_id)
        spec = _graph_of(await headrace.definition_of(run_id))
    return spec, {task_id: task.state for task_id, task in view.tasks.items()}


async def _of_workflow(session: Session, workflow: str) -> tuple[WorkflowSpec, dict[str, str] | None]:
    from headrace.cli.engine import reader
    from headrace.client.definitions import looks_like_file

    if looks_like_file(workflow):
        return _graph_of(await _only_reading().read(workflow)), None
    async with reader(session) as headrace:
        return _graph_of(await headrace.read(workflow)), None


def _graph_of(spec: AnySpec) -> WorkflowSpec:
    from headrace.core.errors import InvalidCommand
    from headrace.core.spec import WorkflowSpec

    if isinstance(spec, WorkflowSpec):
        return spec
    raise InvalidCommand(f"workflow {spec.name!r} is code: it has no graph to draw", hint="headrace runs show RUN")


def workflows(
    output: options.Output = Format.TEXT,
    store: options.Store = None,
    server: options.Server = None,
    token_file: options.TokenFile = None,
    ca: options.Ca = None,
    verbose: options.Verbose = False,
) -> int:
    """List the workflows that were run from this store: each can be run again by its name."""
    session = session_of(store, server=server, token_file=token_file, ca=ca, asks_servers=True, verbose=verbose)
    from headrace.cli.engine import client_of, reader
    from headrace.cli.runtime import run
    from headrace.cli.table import aligned
    from headrace.cli.times import local
    from headrace.client.documents import workflow_document
    from headrace.core.times import seconds_of

    async def read() -> list[dict[str, Any]]:
        if session.server is not None:
            import msgspec

            async with client_of(session.server) as client:
                return msgspec.to_builtins(await client.workflows())
        async with reader(session) as headrace:
            return [workflow_document(row) for row in await headrace.workflows()]

    documents = run(read())
    if output is not Format.TEXT:
        write_document(documents, output)
        return ExitCode.SUCCEEDED
    lines = [
        [
            one["name"],
            one["version"],
            "code" if one["tasks"] is None else f"{one['tasks']:,}",
            local(seconds_of(one["created_at"])),
            one["source"],
        ]
        for one in documents
    ]
    write(aligned(["NAME", "VERSION", "TASKS", "STORED", "SOURCE"], lines))
    return ExitCode.SUCCEEDED


def schema() -> int:
    """Print the JSON Schema of workflow files, for editors."""
    import json

    from headrace.authoring.schema import workflow_schema
    from headrace.backends.executors.kinds import load_task_kinds

    write(json.dumps(workflow_schema(load_task_kinds()), indent=2))
    return ExitCode.SUCCEEDED


def bench(
    workload: Annotated[
        list[str] | None, typer.Option("--workload", metavar="NAME", help="Only this; again for more.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    store: options.Store = None,
) -> int:
    """Measure the engine on a store, next to the raw limits of that store."""
    from headrace.bench.main import run_bench

    return run_bench(store, workload or [], as_json)


def version() -> int:
    """Print the version."""
    import headrace

    write(f"headrace {headrace.__version__}")
    return ExitCode.SUCCEEDED
