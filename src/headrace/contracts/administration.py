"""What an administrator and a node say to each other over HTTP; ``docs/reference/http-api.md`` describes it for people.

A node answers for itself alone: what it tells is of its own process, and so is what it takes over.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from headrace.contracts.remote import PROBLEM, Refusal

PATH = "/api/v1/admin/"

INVALID = PROBLEM + "invalid-configuration"
"""The type of :class:`Invalid`."""


class ServedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A workflow file: what it defines, and what keeps it from being used, None if nothing does."""

    file: str
    workflows: tuple[str, ...] = ()
    problem: str | None = None


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to ``reload``: keys whose new value is in force, keys whose old value stays in force until the node is
    started anew, and all workflow files as they are served now."""

    node: str
    file: str | None = None
    changed: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    workflows: tuple[ServedFile, ...] = ()


class Mistake(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong. ``where``: ``file:line:column``, the name of a variable or an option; '' if it has no
    place. ``hint``: what to do, '' if that is plain."""

    where: str = ""
    message: str
    hint: str = ""


class Invalid(Refusal, kw_only=True):
    """A refusal of a configuration: status 422; nothing has changed."""

    problems: tuple[Mistake, ...] = ()


class Administration(Protocol):
    """What a process lets administrators do with it."""

    async def take_over(self) -> Applied:
        """Read configuration and workflow files again, as SIGHUP does. Raises
        :class:`~headrace.core.errors.InvalidConfiguration` or another :class:`~headrace.core.errors.HeadraceError` for a
        configuration that cannot be used; then nothing has changed."""
        ...

    def status(self) -> dict[str, Any]:
        """What the process goes by, in builtins; secrets are not in it."""
        ...
