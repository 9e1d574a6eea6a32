"""The workflow files that a node serves: which there are, what became of each, and what a change of one means."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Any

import msgspec

from headrace.assembly import Headrace
from headrace.core.errors import HeadraceError, NotFound
from headrace.core.schedules import Definition
from headrace.service import files
from headrace.service.files import Source

logger = logging.getLogger("headrace.up")


class Served(msgspec.Struct):
    """What became of one file. ``problem``: why what it says now is not in force; what it said before stays so."""

    digest: str
    workflows: tuple[str, ...] = ()
    problem: str | None = None


class ServedFiles:
    """One node's workflow files."""

    def __init__(self, headrace: Headrace) -> None:
        self._headrace = headrace
        self._found: dict[Source, list[Any]] = {}
        self.served: dict[Source, Served] = {}
        self._dropped: set[str] = set()
        """Files that are gone, whose schedules are yet to be removed."""

    @property
    def paths(self) -> list[Path]:
        """The files, as they were last found."""
        return [source.path for source in self.served]

    async def read(self, patterns: tuple[str, ...], *, all_again: bool = False) -> list[Source]:
        """Look for files, and read and check those that are new or have changed; ``all_again`` reads every one. Stores
        nothing. Returns those that were read. A file with a mistake is logged; it keeps nobody else from being served."""
        sources = await asyncio.to_thread(files.find, patterns)
        digests = {source: await asyncio.to_thread(files.digest, source.path) for source in sources}
        for gone in [source for source in self.served if source not in digests]:
            logger.info("a workflow file is no longer served", extra={"file": str(gone.path)})
            del self.served[gone]
            self._dropped.add(str(gone.path.resolve()))
        changed = [
            source
            for source, digest in digests.items()
            if all_again or source not in self.served or self.served[source].digest != digest
        ]
        again = [source for source in changed if source in self.served and source.path.suffix == ".py"]
        if again:
            # Files import each other: what one of them defined may live on in another, so all are read again.
            python = [source for source in sources if source.path.suffix == ".py"]
            changed += [source for source in python if source not in changed]
            files.forget_modules(source.path for source in python)
            self._headrace.forget_code()
        for source in changed:
            before = self.served.get(source)
            served = Served(digests[source], before.workflows if before is not None else ())
            self.served[source] = served
            try:
                found = await asyncio.to_thread(files.definitions, source, self._headrace.kinds)
                for definition in found:
                    await self._headrace.check(definition)
            except HeadraceError as error:
                served.problem = str(error)
                logger.error(
                    "a workflow file cannot be used", extra={"file": str(source.path), "error": _one_line(error)}
                )
                continue
            self._found[source] = found
        return changed

    async def store(self) -> None:
        """Make what was read the newest version of its workflows, for runs that are started by name. Durable on
        return."""
        found, self._found = self._found, {}
        current: dict[str, set[str]] = {}
        for source, definitions in found.items():
            names: list[str] = []
            try:
                names = [(await self._headrace.register(definition)).name for definition in definitions]
            except HeadraceError as error:
                self._found[source] = definitions  # the store is in trouble: with the next change, or the next start
                self.served[source].problem = str(error)
                logger.error(
                    "a workflow could not be stored", extra={"file": str(source.path), "error": _one_line(error)}
                )
                continue
            self.served[source].workflows = tuple(names)
            schedules = [each for one in definitions for each in getattr(one, "schedules", ())]
            current.setdefault(str(source.path.resolve()), set()).update(await self._schedule(source, schedules))
        await self._drop_schedules(current)

    async def _schedule(self, source: Source, schedules: list[Definition]) -> set[str]:
        """Have the schedules of a file be as it says now; their names. What is wrong with one is the file's problem, and
        keeps the others from nothing."""
        ours = str(source.path.resolve())
        self._dropped.discard(ours)
        problems: list[str] = []
        for one in schedules:
            try:
                await self._headrace.schedules.put(msgspec.structs.replace(one, source=ours), replace=True)
            except HeadraceError as error:
                problems.append(str(error))
                logger.error("a schedule cannot be used", extra={"schedule": one.name, "error": _one_line(error)})
        if problems:
            self.served[source].problem = "\n".join(problems)
        return {one.name for one in schedules}

    async def _drop_schedules(self, current: dict[str, set[str]]) -> None:
        """Remove those that are no longer in their file, and those of files that are gone."""
        current = {**{ours: set[str]() for ours in self._dropped}, **current}
        if not current:
            return
        schedules = self._headrace.schedules
        try:
            for view in await schedules.list():
                ours = view.definition.source
                if ours in current and view.name not in current[ours]:
                    with contextlib.suppress(NotFound):  # another node serves the file, too
                        await schedules.remove(view.name)
                    logger.info("a schedule is no longer in its file", extra={"schedule": view.name, "file": ours})
            self._dropped.clear()
        except HeadraceError as error:
            logger.error("the schedules of a file could not be brought up to date", extra={"error": _one_line(error)})

    def document(self) -> list[dict[str, Any]]:
        """For people and programs."""
        return [
            {"file": str(source.path), "workflows": list(served.workflows), "problem": served.problem}
            for source, served in self.served.items()
        ]


def _one_line(error: HeadraceError) -> str:
    return " ".join(str(error).split())
