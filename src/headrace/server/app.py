"""The HTTP around a :class:`~headrace.server.desk.Desk`: paths, who may come in, bounds, refusals."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Litestar, Request, Response, get, post
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler

from headrace.contracts import remote as wire
from headrace.core.errors import Fenced, HeadraceError, NotAuthorized, ServerUnavailable
from headrace.server.desk import BadRequest, Desk
from headrace.server.tokens import Tokens
from headrace.telemetry.metrics import CONTENT_TYPE, exposition

logger = logging.getLogger("headrace.server")

_JSON = "application/json"
_PROBLEM = "application/problem+json"


class Door:
    """Who may come in now; :meth:`change` while it is open."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def change(self, tokens: Tokens) -> None:
        """Let these in from now on, and no others."""
        self._tokens = tokens

    def guard(self, connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
        """Raises :class:`NotAuthorized`. Called before the body is read."""
        if not self._tokens.know(connection.headers.get("authorization")):
            raise NotAuthorized("the token is missing, or is none that this server knows")


def build_app(desk: Desk, door: Door) -> Litestar:
    """The application."""
    verbs: dict[str, tuple[type[Any], Callable[[Any], Awaitable[Any]]]] = {
        "join": (wire.Join, desk.join),
        "renew": (wire.Asked, desk.renew),
        "claim": (wire.AskClaim, desk.claim),
        "held": (wire.Asked, desk.held),
        "report": (wire.AskReport, desk.report),
        "complete": (wire.AskComplete, desk.complete),
        "give-back": (wire.AskGiveBack, desk.give_back),
        "leave": (wire.Asked, desk.leave),
    }

    @post(wire.PATH + "{verb:str}", guards=[door.guard], status_code=200)
    async def workers(request: Request[Any, Any, Any]) -> Response[bytes]:
        verb = request.path_params["verb"]
        if verb not in verbs:
            return _refusal(HTTPStatus.NOT_FOUND, "not-found", f"there is no {verb!r}; there are {', '.join(verbs)}")
        kind, answer = verbs[verb]
        asked = msgspec.json.decode(await request.body(), type=kind)
        return Response(msgspec.json.encode(await answer(asked)), media_type=_JSON)

    @get("/healthz", sync_to_thread=False)
    def healthz() -> Response[bytes]:
        return Response(b'{"status":"alive"}', media_type=_JSON)

    @get("/readyz", sync_to_thread=False)
    def readyz() -> Response[bytes]:
        if desk.is_ready():
            return Response(b'{"status":"ready"}', media_type=_JSON)
        return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "the node cannot serve now")

    @get("/metrics", sync_to_thread=False)
    def metrics() -> Response[bytes]:
        return Response(exposition(desk.metrics()), media_type=CONTENT_TYPE)

    return Litestar(
        [workers, healthz, readyz, metrics],
        exception_handlers={Exception: _refused},
        request_max_body_size=wire.REQUEST_BYTES_MAX,
        openapi_config=None,
        logging_config=None,
    )


def _refused(_request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Every error as a problem. What is ours to know stays in the log."""
    if isinstance(error, NotAuthorized):
        answer = _refusal(HTTPStatus.UNAUTHORIZED, "not-authorized", error.message)
        answer.headers["WWW-Authenticate"] = "Bearer"
        return answer
    if isinstance(error, Fenced):
        return _refusal(HTTPStatus.CONFLICT, "fenced", "the worker no longer holds this epoch: it has to join anew")
    if isinstance(error, msgspec.DecodeError | BadRequest):  # a ValidationError is one, too
        return _refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "bad-request", str(error))
    if isinstance(error, ServerUnavailable):
        return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", error.message)
    if isinstance(error, HeadraceError):
        logger.warning("a worker could not be served", extra={"error": " ".join(str(error).split())})
        return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "the store cannot do that now")
    if isinstance(error, HTTPException):
        status = HTTPStatus(error.status_code)
        slug = {413: "too-large", 404: "not-found", 405: "not-found"}.get(status, "bad-request")
        return _refusal(status, slug, error.detail or status.phrase)
    logger.error("a request failed", exc_info=error)
    return _refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "defect", "a defect in the server; its log says more")


def _refusal(status: HTTPStatus, slug: str, detail: str) -> Response[bytes]:
    body = wire.Refusal(type=wire.PROBLEM + slug, title=status.phrase, status=int(status), detail=detail)
    return Response(msgspec.json.encode(body), media_type=_PROBLEM, status_code=int(status))
