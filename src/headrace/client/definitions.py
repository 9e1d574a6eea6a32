"""What a program can hand in to be run: definitions, files of them, names of those that are stored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from headrace.core.errors import (
    HeadraceError,
    InvalidDefinition,
    NotFound,
    Problem,
    UserCodeError,
)
from headrace.core.spec import AnySpec, WorkflowSpec, decode_any_spec
from headrace.core.suggest import did_you_mean
from headrace.core.validate import validate
from headrace.durable.expected import expect_workflow
from headrace.engine.node import Node


class Definition(Protocol):
    """A workflow a program can hand in: what ``dag()`` builds and what the loaders return."""

    @property
    def spec(self) -> Any:
        """The validated specification."""
        ...


class StoredName(msgspec.Struct, frozen=True):
    """The name of a stored workflow, and of nothing else: a text that comes from elsewhere is not to name a file here."""

    name: str


class WorkflowText(msgspec.Struct, frozen=True):
    """A graph as YAML or JSON text, called ``name`` in messages."""

    text: str
    name: str = "workflow"


Workflow = Definition | WorkflowSpec | str | Path | StoredName | WorkflowText
"""A definition, a file (``.yaml``, ``.yml``, ``.json``, ``.py``, ``.py:name``), or the name of a stored workflow."""


Loader = Callable[[str | WorkflowText], Any]
"""Reads a workflow file or text; given by the assembly, which knows the authoring formats and the task kinds. Returns a
``Loaded`` with ``spec``, ``source``, ``source_dir``, ``functions`` and ``locate``."""


class Found(msgspec.Struct, frozen=True):
    """A definition and where it came from. ``locate`` turns a problem's path into ``file:line:column``."""

    spec: AnySpec
    source: str = ""
    source_dir: str | None = None
    locate: Callable[[tuple[str | int, ...]], str] | None = None


class Definitions:
    """Finds, checks and stores definitions."""

    def __init__(
        self, node: Node, load: Loader, give_functions: Callable[[Mapping[str, Callable[..., Any]]], None]
    ) -> None:
        self._node = node
        self._load = load
        self.give_functions = give_functions

    async def register(self, workflow: Workflow) -> AnySpec:
        """See :meth:`headrace.client.client.Client.register`."""
        spec = await self.check(workflow)
        found = await self.find(workflow)
        node = self._node
        await node.library.register(spec, source=lasting(found), now=node.now())
        return spec

    async def check(self, workflow: Workflow) -> AnySpec:
        """See :meth:`headrace.client.client.Client.check`."""
        found = await self.find(workflow)
        try:
            self._node.library.try_binding(found.spec, found.source_dir)
        except (InvalidDefinition, UserCodeError) as error:
            raise located(error, found) from error
        return found.spec

    async def find(self, workflow: Workflow) -> Found:
        """The definition that is meant, not yet checked against its functions. Raises :class:`NotFound` for a name that
        nothing has, and what reading a file raises."""
        if isinstance(workflow, WorkflowSpec):
            return Found(validate(workflow))
        if isinstance(workflow, StoredName):
            return await self._stored(workflow.name, may_be_file=False)
        if isinstance(workflow, WorkflowText):
            text: Any = await asyncio.to_thread(self._load, workflow)
            return Found(text.spec, locate=text.locate)
        if isinstance(workflow, str | Path):
            source = str(workflow)
            if not looks_like_file(source):
                return await self._stored(source)
            loaded: Any = await asyncio.to_thread(self._load, source)
        else:
            expect_workflow(workflow, "run")
            loaded = workflow
        functions = getattr(loaded, "functions", None)
        if functions:
            self.give_functions(functions)
        return Found(
            loaded.spec,
            getattr(loaded, "source", ""),
            getattr(loaded, "source_dir", None),
            getattr(loaded, "locate", None),
        )

    async def _stored(self, name: str, *, may_be_file: bool = True) -> Found:
        row = await self._node.store.workflow_named(name)
        if row is None:
            known = [known.name for known in await self._node.store.workflows()]
            hint = f"stored workflows: {', '.join(known[:20])}" if known else "give a file: workflow.yaml"
            if not may_be_file:
                near = did_you_mean(name, known, what="stored workflows")
                raise NotFound(f"there is no stored workflow named {name!r}", hint=near or "none is stored yet")
            raise NotFound(f"there is no file and no stored workflow named {name!r}", hint=hint)
        source_dir = str(Path(row.source).parent) if row.source else None
        return Found(decode_any_spec(row.data), row.source, source_dir)


def lasting(found: Found) -> str:
    """The source as a path that means the same from every folder: the definition may be run by name from another."""
    return str(Path(found.source_dir) / Path(found.source).name) if found.source and found.source_dir else found.source


def looks_like_file(source: str) -> bool:
    """Whether a text names a workflow file rather than a stored workflow."""
    path = Path(source)
    suffix = path.suffix.partition(":")[0].lower()
    return suffix in {".yaml", ".yml", ".json", ".py"} or "/" in source or path.exists()


def located(error: InvalidDefinition | UserCodeError, found: Found) -> HeadraceError:
    """The same error with places in the user's file, where they can be had."""
    if found.locate is None:
        return error
    if isinstance(error, UserCodeError):
        if error.path:
            error.message = f"{found.locate(error.path)}: {error.message}"
        return error
    problems = [
        Problem(
            problem.message, path=problem.path, where=problem.where or found.locate(problem.path), hint=problem.hint
        )
        for problem in error.problems
    ]
    return InvalidDefinition(problems, source=found.source or error.source)
