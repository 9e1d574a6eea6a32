"""What a request may name: workflows and runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from headrace.client.definitions import StoredName, WorkflowText
from headrace.core.errors import InvalidCommand, NotFound
from headrace.durable.workflow import WorkflowFunction

RUN_ID_LENGTH = 26

RemoteWorkflow = WorkflowFunction[..., Any] | StoredName | WorkflowText | Path | str
"""What a server can be asked to run: a stored workflow by its name or its function, a YAML or JSON file or text."""


def named(workflow: RemoteWorkflow) -> dict[str, Any]:
    """The workflow as a request names it. Raises :class:`InvalidCommand`, :class:`NotFound`."""
    if isinstance(workflow, WorkflowFunction):
        return {"workflow": workflow.spec.name}
    if isinstance(workflow, StoredName):
        return {"workflow": workflow.name}
    if isinstance(workflow, WorkflowText):
        return {"definition": workflow.text}
    given: Any = workflow  # callers without a type checker may give anything
    if not isinstance(given, str | Path):
        raise InvalidCommand(
            f"a {type(given).__name__} cannot be sent to a server",
            hint="give the name of a stored workflow, a YAML file, or WorkflowText(...)",
        )
    path = Path(given)
    if path.suffix.lower() not in (".yaml", ".yml", ".json"):
        if isinstance(given, Path) or ".py" in path.suffix:
            raise InvalidCommand(
                f"{str(path)!r} cannot be sent to a server", hint="Python files are named in its configuration"
            )
        return {"workflow": given}
    try:
        return {"definition": path.read_text(encoding="utf-8")}
    except OSError as error:
        raise NotFound(f"{str(path)!r} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidCommand(f"{str(path)!r} is not UTF-8") from None


def checked(run_id: str) -> str:
    """A run's id that can be part of a path."""
    if not run_id.isalnum() or not run_id.isascii():
        raise NotFound(f"there is no run {run_id!r}", hint="headrace runs list")
    return run_id


def quoted(name: str) -> str:
    """Any name as part of a path."""
    return quote(name, safe="")
