"""Serves the table of paths."""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response, Router, route
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream

from headrace.contracts.api.answers import Mistake
from headrace.contracts.api.bounds import BODY_BYTES_MAX, PATH, Role
from headrace.core.errors import NotFound
from headrace.server.api.endpoint import Call, Endpoint, Misasked, Reply, read_body, read_query
from headrace.server.api.events import EVENT_STREAM
from headrace.server.api.openapi import document
from headrace.server.api.refusals import not_json, refused
from headrace.server.api.service import Api
from headrace.server.api.table import ENDPOINTS
from headrace.server.door import Door
from headrace.server.problems import JSON

_BODILESS = frozenset({"GET", "HEAD"})


def api_routes(api: Api, door: Door) -> Router:
    """The paths under :data:`PATH`."""
    handlers: list[Any] = [_handler(api, door, endpoint) for endpoint in ENDPOINTS]
    return Router(
        PATH,
        route_handlers=[*handlers, _described(door)],
        exception_handlers={Exception: refused},
        request_max_body_size=BODY_BYTES_MAX,
    )


def _handler(api: Api, door: Door, endpoint: Endpoint) -> HTTPRouteHandler:
    async def handle(request: Request[Any, Any, Any]) -> Response[Any]:
        with api.working():
            for text in request.path_params.values():
                if "\0" in text:  # nothing has such a name, and not every store can be asked
                    raise NotFound(f"there is no {text!r}")
            query = read_query(endpoint.query, list(request.query_params.multi_items()))
            call = Call(
                path=request.path_params,
                query=query,
                body=None if endpoint.body is None else read_body(endpoint.body, await _body(request)),
                headers=request.headers,
                role=door.role_of(request) or Role.VIEWER,
            )
            return _response(await endpoint.handle(api, call))

    path = endpoint.path
    for name in ("run", "name", "workflow"):
        path = path.replace(f"{{{name}}}", f"{{{name}:str}}")
    # The status is set on every response.
    return route(path, http_method=[endpoint.method], guards=[door.guard_user(endpoint.role)])(handle)  # type: ignore[arg-type]


async def _body(request: Request[Any, Any, Any]) -> bytes:
    """Raises :class:`Misasked`-like refusals for what is not JSON: a form of a foreign web page cannot send that."""
    data = await request.body()
    kind = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if data and kind != JSON:
        raise not_json(kind)
    return data


def _response(answer: Any) -> Response[Any]:
    reply = answer if isinstance(answer, Reply) else Reply(answer)
    headers = {"Cache-Control": "no-store", **reply.headers}
    if reply.media_type == EVENT_STREAM:
        # Proxies are told to pass each message on at once.
        return Stream(reply.body, media_type=EVENT_STREAM, headers={**headers, "X-Accel-Buffering": "no"})  # type: ignore[return-value]
    data = reply.body if isinstance(reply.body, bytes) else _encode(reply.body)
    return Response(data, media_type=reply.media_type, status_code=int(reply.status), headers=headers)


def _encode(body: Any) -> bytes:
    try:
        return msgspec.json.encode(body)
    except (UnicodeEncodeError, RecursionError) as error:
        raise Misasked(
            [Mistake(where="", message=f"the answer cannot be written as JSON: {error}", hint=None)]
        ) from None


def _described(door: Door) -> HTTPRouteHandler:
    @route("/openapi.json", http_method=["GET"], guards=[door.guard_user(Role.VIEWER)], sync_to_thread=False)
    def openapi() -> Response[bytes]:
        return Response(_document(), media_type=JSON, status_code=int(HTTPStatus.OK))

    return openapi


@lru_cache(maxsize=1)
def _document() -> bytes:
    return msgspec.json.encode(document())
