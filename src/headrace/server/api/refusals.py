"""What everybody hears whose request cannot be done: problems of RFC 9457. What is the node's own to know stays in its
log."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from msgspec import UNSET

from headrace.contracts.api.answers import Mistake, Refused
from headrace.contracts.api.bounds import RETRY_SECONDS
from headrace.contracts.remote import PROBLEM
from headrace.core.errors import (
    AlreadyRunning,
    BrokerError,
    Diverged,
    EngineStopped,
    HeadraceError,
    InvalidCommand,
    InvalidDefinition,
    InvalidParams,
    KeeperError,
    NotAuthorized,
    NotDeterministic,
    NotFound,
    Problem,
    ServerUnavailable,
    StoreError,
    UpdateRejected,
    UserCodeError,
    ValueTooLarge,
)
from headrace.core.where import InvalidFilter
from headrace.server.api.endpoint import Misasked
from headrace.server.door import Forbidden
from headrace.server.problems import PROBLEM_JSON

logger = logging.getLogger("headrace.server")

SLUGS: dict[int, tuple[str, ...]] = {
    401: ("not-authorized",),
    403: ("forbidden",),
    404: ("not-found",),
    409: ("already-running", "invalid-command", "update-rejected", "diverged"),
    413: ("too-large",),
    415: ("not-json",),
    422: ("bad-request", "invalid-params", "invalid-definition", "user-code"),
    500: ("defect",),
    503: ("unavailable",),
}
"""The types of problems by status, after ``urn:headrace:problem:``."""


def not_json(kind: str) -> HTTPException:
    """A body that is of another type."""
    return HTTPException(f"the body is {kind[:100] or 'of no type'}; application/json is expected", status_code=415)


_OURS = (StoreError, EngineStopped, BrokerError, KeeperError)
"""Troubles of the node: whoever asks can only try again."""


def refused(_request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Every error as a problem."""
    body = _problem(error)
    headers: dict[str, str] = {}
    if body.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if body.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(RETRY_SECONDS)
    data = msgspec.json.encode(body)
    return Response(data, media_type=PROBLEM_JSON, status_code=body.status, headers=headers)


def _problem(error: Exception) -> Refused:
    if isinstance(error, HTTPException):
        status = HTTPStatus(error.status_code)
        slug = {413: "too-large", 404: "not-found", 405: "not-found", 415: "not-json"}.get(status, "bad-request")
        return _refusal(status, slug, error.detail or status.phrase)
    if isinstance(error, Misasked):
        return _refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "bad-request", str(error), problems=error.problems)
    if isinstance(error, Forbidden):
        return _refusal(HTTPStatus.FORBIDDEN, "forbidden", str(error))
    if not isinstance(error, HeadraceError):
        logger.error("a request failed", exc_info=error)
        return _refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "defect", "a defect in the server; its log says more")
    if isinstance(error, _OURS):
        logger.warning("a request could not be served", extra={"error": " ".join(str(error).split())})
        return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "the node cannot do that now", hint="try again")
    return _of_a_user(error)


def _of_a_user(error: HeadraceError) -> Refused:
    """What whoever asked can mend."""
    if isinstance(error, AlreadyRunning):
        found = _refusal(HTTPStatus.CONFLICT, "already-running", error.message, hint=error.hint)
        found.workflow, found.key = error.workflow, error.key
        found.run_id, found.state = error.run_id, error.state
        return found
    if isinstance(error, InvalidParams):
        return _refusal(
            HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-params", error.message, problems=_placed(error.problems)
        )
    if isinstance(error, InvalidDefinition):
        return _refusal(
            HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-definition", error.message, problems=_placed(error.problems)
        )
    if isinstance(error, InvalidFilter):
        where = [Mistake(where="where", message=error.message, hint=error.hint)]
        return _refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "bad-request", error.message, hint=error.hint, problems=where)
    kinds: tuple[tuple[type[HeadraceError], HTTPStatus, str], ...] = (
        (NotAuthorized, HTTPStatus.UNAUTHORIZED, "not-authorized"),
        (ServerUnavailable, HTTPStatus.SERVICE_UNAVAILABLE, "unavailable"),
        (NotFound, HTTPStatus.NOT_FOUND, "not-found"),
        (InvalidCommand, HTTPStatus.CONFLICT, "invalid-command"),
        (UpdateRejected, HTTPStatus.CONFLICT, "update-rejected"),
        (Diverged, HTTPStatus.CONFLICT, "diverged"),
        (NotDeterministic, HTTPStatus.CONFLICT, "diverged"),
        (ValueTooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large"),
        (UserCodeError, HTTPStatus.UNPROCESSABLE_ENTITY, "user-code"),
    )
    for kind, status, slug in kinds:
        if isinstance(error, kind):
            return _refusal(status, slug, error.message, hint=error.hint)
    return _refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "bad-request", error.message, hint=error.hint)


def _placed(problems: Iterable[Problem]) -> list[Mistake]:
    return [mistake(one) for one in problems]


def mistake(problem: Problem) -> Mistake:
    """A problem as it travels."""
    where = problem.where or ".".join(map(str, problem.path))
    return Mistake(where=where, message=problem.message, hint=problem.hint or None)


def _refusal(
    status: HTTPStatus, slug: str, detail: str, *, hint: str | None = None, problems: list[Mistake] | None = None
) -> Refused:
    return Refused(
        type=PROBLEM + slug,
        title=status.phrase,
        status=int(status),
        detail=detail,
        hint=UNSET if hint is None else hint,
        problems=UNSET if problems is None else problems,
    )
