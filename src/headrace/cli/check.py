"""``headrace check``: what in workflow code a replay could not repeat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli import options
from headrace.cli.exits import ExitCode
from headrace.cli.output import Format, write, write_document

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.durable.check import Report

FILES_MAX = 10_000
_SKIPPED = frozenset({".git", ".venv", "venv", "node_modules", "__pycache__", ".tox", ".headrace"})


def check(
    sources: Annotated[list[str], typer.Argument(metavar="FILE|FOLDER|MODULE...", help="Where the workflows are.")],
    output: options.Output = Format.TEXT,
) -> int:
    """Find what a replay could not repeat in the code of @workflow functions: blocking calls, forgotten awaits, sets in
    loops, swallowed cancellation and the like. Runs nothing. Exit code 2 if there is anything.

    `# headrace: allow` at the end of a line leaves that line alone."""
    reports = [_look(path) for source in sources for path in _files(source)]
    findings = [finding for report in reports for finding in report.findings]
    if output is not Format.TEXT:
        write_document([_document(report) for report in reports], output)
    else:
        for finding in findings:
            write(
                f"{finding.file}:{finding.line}:{finding.column}: {finding.rule}: {finding.message}\n"
                f"    in workflow {finding.workflow}; {finding.remedy}"
            )
        _write_summary(reports, len(findings))
    return ExitCode.BAD_INPUT if findings else ExitCode.SUCCEEDED


def _write_summary(reports: list[Report], count: int) -> None:
    workflows = sum(len(report.workflows) for report in reports)
    what = f"{workflows:,} workflow{'' if workflows == 1 else 's'}"
    where = reports[0].file if len(reports) == 1 else f"{len(reports):,} files"
    write(f"{where}: {count:,} problem{'' if count == 1 else 's'}, {what}" if count else f"{where}: ok, {what}")


def _document(report: Report) -> dict[str, Any]:
    import msgspec

    return {
        "file": report.file,
        "workflows": report.workflows,
        "problems": [
            {key: value for key, value in msgspec.structs.asdict(finding).items() if key != "file"}
            for finding in report.findings
        ],
    }


def _files(source: str) -> Iterator[Path]:
    """The Python files of a file, a folder or a module."""
    import itertools
    from pathlib import Path

    from headrace.core.errors import NotFound

    path = Path(source)
    if path.is_file():
        yield path
    elif path.is_dir():
        found = (file for file in path.rglob("*.py") if not _SKIPPED & set(file.relative_to(path).parts))
        yield from sorted(itertools.islice(found, FILES_MAX))
    else:
        origin = _origin(source)
        if origin is None:
            raise NotFound(f"there is no file, folder or module {source!r}")
        yield Path(origin)


def _origin(module: str) -> str | None:
    """The file of a module. Packages above it are imported, it is not."""
    import importlib.util
    import sys

    if not all(part.isidentifier() for part in module.split(".")):
        return None
    sys.path.insert(0, "")
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    finally:
        sys.path.remove("")
    return found.origin if found is not None and (found.origin or "").endswith(".py") else None


def _look(path: Path) -> Report:
    import tokenize

    from headrace.core.errors import UserCodeError
    from headrace.durable.check import check_source

    try:
        with tokenize.open(path) as file:
            text = file.read()
        return check_source(text, str(path))
    except SyntaxError as error:
        raise UserCodeError(f"{path}:{error.lineno or 1}:{error.offset or 1}: {error.msg}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserCodeError(f"{path} cannot be read: {error}") from None
