"""Refusals: every answer that is not 2xx is a problem (RFC 9457)."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException

from headrace.contracts import remote as wire
from headrace.core.errors import Fenced, HeadraceError, NotAuthorized, ServerUnavailable
from headrace.server.desk import BadRequest
from headrace.server.door import Forbidden

logger = logging.getLogger("headrace.server")

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"


def refused(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Every error as a problem. What is ours to know stays in the log."""
    if isinstance(error, NotAuthorized):
        answer = refusal(HTTPStatus.UNAUTHORIZED, "not-authorized", error.message)
        answer.headers["WWW-Authenticate"] = "Bearer"
        return answer
    if isinstance(error, Forbidden):
        return refusal(HTTPStatus.FORBIDDEN, "forbidden", str(error))
    if isinstance(error, Fenced):
        return refusal(HTTPStatus.CONFLICT, "fenced", "the worker no longer holds this epoch: it has to join anew")
    if isinstance(error, msgspec.DecodeError | BadRequest):  # a ValidationError is one, too
        return refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "bad-request", str(error))
    if isinstance(error, ServerUnavailable):
        return refusal(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", error.message)
    if isinstance(error, HeadraceError):
        logger.warning("a worker could not be served", extra={"error": " ".join(str(error).split())})
        return refusal(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "the store cannot do that now")
    if isinstance(error, HTTPException):
        status = HTTPStatus(error.status_code)
        slug = {413: "too-large", 404: "not-found", 405: "not-found"}.get(status, "bad-request")
        if status is HTTPStatus.NOT_FOUND:
            return refusal(status, slug, f"there is no path {request.url.path[:200]}")
        return refusal(status, slug, error.detail or status.phrase)
    logger.error("a request failed", exc_info=error)
    return refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "defect", "a defect in the server; its log says more")


def refusal(status: HTTPStatus, slug: str, detail: str) -> Response[bytes]:
    """One problem."""
    body = wire.Refusal(type=wire.PROBLEM + slug, title=status.phrase, status=int(status), detail=detail)
    return Response(msgspec.json.encode(body), media_type=PROBLEM_JSON, status_code=int(status))
