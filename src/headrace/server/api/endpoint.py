"""One path of the API: who may ask, what with, and what is answered."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.contracts.api.answers import Mistake
from headrace.contracts.api.bounds import Role
from headrace.contracts.api.requests import Asked, NoQuery
from headrace.core.errors import NotFound
from headrace.core.suggest import did_you_mean

if TYPE_CHECKING:
    from headrace.server.api.service import Api

RUN = "{run}"
"""In a path: a run's id or the beginning of it."""

_ID = re.compile("[0-9a-zA-Z]{1,26}")
_PLACE = re.compile(r"(.*) - at `([^`]*)`", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `([^`]*)`")


class Misasked(Exception):
    """What was asked cannot be meant; ``problems`` say where and what was expected."""

    def __init__(self, problems: Sequence[Mistake]) -> None:
        super().__init__("; ".join(f"{one.where}: {one.message}" if one.where else one.message for one in problems))
        self.problems = list(problems)


@dataclass(frozen=True, slots=True)
class Call:
    """One request, checked."""

    path: Mapping[str, str]
    query: Any
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    role: Role = Role.VIEWER

    @property
    def run(self) -> str:
        """The run that the path names. Raises :class:`NotFound` for what can be no run's."""
        given = self.path["run"]
        if not _ID.fullmatch(given):
            raise NotFound(f"there is no run {given[:100]!r}", hint="GET /api/v1/runs lists them")
        return given


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that needs more than its body."""

    body: Any
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    media_type: str = "application/json"


Handle = Callable[["Api", Call], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``path`` is relative to :data:`headrace.contracts.api.bounds.PATH`. ``answer`` is the type of the body with any of
    ``statuses``; ``refusals`` are those besides what every path may refuse. ``headers``: request headers that it heeds,
    with what they say."""

    method: str
    path: str
    role: Role
    summary: str
    answer: type
    handle: Handle
    query: type[Asked] = NoQuery
    body: type[Asked] | None = None
    statuses: tuple[int, ...] = (200,)
    refusals: tuple[int, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    media_types: tuple[str, ...] = ("application/json",)

    @property
    def name(self) -> str:
        """Of the operation."""
        return self.handle.__name__


def read_query(kind: type[Asked], given: Sequence[tuple[str, str]]) -> Any:
    """The parameters of a query. Raises :class:`Misasked`, which names the parameter."""
    fields = {one.name: one for one in msgspec.structs.fields(kind)}
    values: dict[str, Any] = {}
    for name, text in given:
        if name in fields and fields[name].default == ():
            values.setdefault(name, []).append(text)
        elif name in values:
            raise Misasked([Mistake(where=name, message="given twice; once is expected", hint=None)])
        else:
            values[name] = text
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Misasked([mistake_of(error, kind)]) from None


def read_body(kind: type[Asked], data: bytes) -> Any:
    """The body of a request; an empty one is an empty object. Raises :class:`Misasked`."""
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Misasked([mistake_of(error, kind)]) from None


def mistake_of(error: Exception, kind: type[Asked]) -> Mistake:
    """What the decoder found wrong, with the name of the field in front."""
    text = str(error) or type(error).__name__
    found = _PLACE.fullmatch(text)
    message, where = (found[1], found[2].removeprefix("$").removeprefix(".")) if found else (text, "")
    unknown = _UNKNOWN.fullmatch(message)
    if unknown is None or where:
        return Mistake(where=where, message=message, hint=None)
    known = [one.name for one in msgspec.structs.fields(kind)]
    hint = did_you_mean(unknown[1], known) if known else ""
    return Mistake(where=unknown[1], message="there is no such field", hint=hint or None)
