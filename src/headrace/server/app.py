"""The HTTP around a :class:`~headrace.server.desk.Desk`: paths and bounds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Litestar, Request, Response, get, post

from headrace.contracts import remote as wire
from headrace.contracts.administration import Administration
from headrace.server.admin import admin_routes
from headrace.server.api.routes import api_routes
from headrace.server.api.service import Api
from headrace.server.desk import Desk
from headrace.server.door import Door
from headrace.server.lock_desk import LockDesk
from headrace.server.problems import JSON, refusal, refused
from headrace.telemetry.metrics import CONTENT_TYPE, exposition


def build_app(
    desk: Desk, locks: LockDesk, door: Door, administration: Administration | None = None, api: Api | None = None
) -> Litestar:
    """The application. Without ``administration`` there are no paths for administrators, without ``api`` none for
    users."""
    verbs: dict[str, tuple[type[Any], Callable[[Any], Awaitable[Any]]]] = {
        "join": (wire.Join, desk.join),
        "renew": (wire.Asked, desk.renew),
        "claim": (wire.AskClaim, desk.claim),
        "held": (wire.Asked, desk.held),
        "report": (wire.AskReport, desk.report),
        "complete": (wire.AskComplete, desk.complete),
        "give-back": (wire.AskGiveBack, desk.give_back),
        "take-lock": (wire.AskTakeLock, locks.take),
        "renew-locks": (wire.AskRenewLocks, locks.renew),
        "release-lock": (wire.AskReleaseLock, locks.release),
        "leave": (wire.Asked, desk.leave),
    }

    @post(wire.PATH + "{verb:str}", guards=[door.guard], status_code=200)
    async def workers(request: Request[Any, Any, Any]) -> Response[bytes]:
        verb = request.path_params["verb"]
        if verb not in verbs:
            return refusal(HTTPStatus.NOT_FOUND, "not-found", f"there is no {verb!r}; there are {', '.join(verbs)}")
        kind, answer = verbs[verb]
        asked = msgspec.json.decode(await request.body(), type=kind)
        return Response(msgspec.json.encode(await answer(asked)), media_type=JSON)

    @get("/healthz", sync_to_thread=False)
    def healthz() -> Response[bytes]:
        return Response(b'{"status":"alive"}', media_type=JSON)

    @get("/readyz", sync_to_thread=False)
    def readyz() -> Response[bytes]:
        if desk.is_ready():
            return Response(b'{"status":"ready"}', media_type=JSON)
        return refusal(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "the node cannot serve now")

    @get("/metrics", sync_to_thread=False)
    def metrics() -> Response[bytes]:
        return Response(exposition(desk.metrics()), media_type=CONTENT_TYPE)

    more: list[Any] = [] if administration is None else admin_routes(administration, door)
    if api is not None:
        more = [*more, api_routes(api, door)]
    return Litestar(
        [workers, healthz, readyz, metrics, *more],
        exception_handlers={Exception: refused},
        request_max_body_size=wire.REQUEST_BYTES_MAX,
        openapi_config=None,
        logging_config=None,
    )
