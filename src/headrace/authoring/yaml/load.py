"""From a file or text to a validated workflow, with every problem at its line and column."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from headrace.authoring.kinds import Kinds
from headrace.authoring.loaded import Loaded, SourcePath, nowhere
from headrace.authoring.yaml.reader import SOURCE_BYTES_MAX, decode, read_json, read_yaml
from headrace.authoring.yaml.shape import Shaper
from headrace.core.errors import InvalidDefinition, NotFound, Problem
from headrace.core.schedules import Definition
from headrace.core.spec import WorkflowSpec
from headrace.core.validate import bounded_problems, find_problems

_not_in_names = re.compile(r"[^A-Za-z0-9_.-]+")


def load_yaml(source: Path | str | bytes, *, kinds: Kinds, name: str | None = None) -> Loaded:
    """Read a workflow.

    A ``Path`` is a file, YAML or (``.json``) JSON; a ``str`` or ``bytes`` is the text itself, called ``name`` in
    messages. The workflow's name is by default the file's, without folder and ending. ``kinds`` are the task kinds
    there are. Raises :class:`InvalidDefinition` with all problems, at most 50 shown, in the order of the text, and
    :class:`NotFound` if the file cannot be read.
    """
    source_dir: str | None = None
    if isinstance(source, Path):
        data = _file(source)
        name = name or str(source)
        source_dir = str(source.resolve().parent)
        stem = source.stem
    else:
        data = source.encode() if isinstance(source, str) else source
        name = name or "workflow"
        stem = Path(name).stem
    text = decode(data, name)
    # A text without a name may be either; every JSON object is YAML, only slower to read and laxer.
    is_json = Path(name).suffix == ".json" or (not source_dir and text.lstrip()[:1] == "{")
    plain = read_json(text, name) if is_json else read_yaml(text, name)
    spec, schedules = _checked(text, plain, kinds, name, stem)

    def locate(path: SourcePath) -> str:
        from headrace.authoring.yaml.locate import Locator  # noqa: PLC0415

        return Locator(text, plain, name)(path)

    place = locate if len(text) else nowhere
    return Loaded(spec=spec, source=name, source_dir=source_dir, locate=place, schedules=schedules)


def _file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(SOURCE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise NotFound(f"there is no file {str(path)!r}", hint=_nearby(path)) from None
    except OSError as error:
        raise NotFound(f"{str(path)!r} cannot be read: {error.strerror}") from None


def _nearby(path: Path) -> str | None:
    from headrace.core.suggest import did_you_mean  # noqa: PLC0415

    try:
        names = sorted(
            entry.name for entry in path.parent.iterdir() if entry.suffix in (".yaml", ".yml", ".json", ".py")
        )
    except OSError:
        return f"there is no folder {str(path.parent)!r}"
    return did_you_mean(path.name, names, what="in that folder") or None


def _checked(text: str, plain: Any, kinds: Kinds, name: str, stem: str) -> tuple[WorkflowSpec, tuple[Definition, ...]]:
    shaper = Shaper(kinds)
    spec = shaper.workflow(plain, _not_in_names.sub("_", stem) or "workflow")
    problems = shaper.problems
    if spec is not None:
        completed, more = find_problems(spec)
        if not problems and not more:
            return completed, shaper.schedules
        problems = problems + more
    raise InvalidDefinition(bounded_problems(_placed(problems, text, plain, name)), source=name)


def _placed(problems: list[Problem], text: str, plain: Any, name: str) -> list[Problem]:
    """The problems with line and column, in the order of the text."""
    from headrace.authoring.yaml.locate import Locator  # noqa: PLC0415 - only what is wrong needs places

    places = Locator(text, plain, name).many(problem.path for problem in problems)
    order = sorted(range(len(problems)), key=lambda index: places[index][0])
    return [
        Problem(problems[index].message, path=problems[index].path, where=places[index][1], hint=problems[index].hint)
        for index in order
    ]
