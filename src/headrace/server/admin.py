"""What administrators can ask of a node: to read its configuration again, and what it goes by."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler

from headrace.contracts import administration as wire
from headrace.core.errors import HeadraceError, InvalidConfiguration
from headrace.server.door import Door
from headrace.server.problems import JSON, PROBLEM_JSON

logger = logging.getLogger("headrace.server")


def admin_routes(administration: wire.Administration, door: Door) -> list[HTTPRouteHandler]:
    """The paths under :data:`headrace.contracts.administration.PATH`."""

    @post(wire.PATH + "reload", guards=[door.guard_admin], status_code=200)
    async def reload() -> Response[bytes]:
        logger.info("an administrator asks for the configuration to be read again")
        try:
            done = await administration.take_over()
        except HeadraceError as error:
            return invalid(error)
        return Response(msgspec.json.encode(done), media_type=JSON)

    @get(wire.PATH + "config", guards=[door.guard_admin], sync_to_thread=False)
    def config() -> Response[bytes]:
        return Response(msgspec.json.encode(administration.status()), media_type=JSON)

    return [reload, config]


def invalid(error: HeadraceError) -> Response[Any]:
    """A configuration that cannot be used, as a problem."""
    if isinstance(error, InvalidConfiguration):
        problems = tuple(wire.Mistake(where=one.where, message=one.message, hint=one.hint) for one in error.problems)
    else:
        problems = (wire.Mistake(message=error.message, hint=error.hint or ""),)
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    body = wire.Invalid(
        type=wire.INVALID,
        title="The new configuration was refused; the old one stays in force",
        status=int(status),
        detail="\n".join(": ".join(part for part in (one.where, one.message) if part) for one in problems),
        problems=problems,
    )
    return Response(msgspec.json.encode(body), media_type=PROBLEM_JSON, status_code=int(status))
