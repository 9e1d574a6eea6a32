"""Requests to a server: repeated as long as that is safe, and refusals as the errors that the client in process
raises."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec
from msgspec import UNSET

from headrace.contracts.api.answers import Refused
from headrace.contracts.api.bounds import IDEMPOTENCY_HEADER, PATH
from headrace.contracts.remote import PROBLEM
from headrace.core.errors import (
    AlreadyRunning,
    Diverged,
    HeadraceError,
    InvalidCommand,
    InvalidDefinition,
    InvalidParams,
    NotAuthorized,
    NotFound,
    Problem,
    ServerError,
    ServerUnavailable,
    UpdateRejected,
    UserCodeError,
)

T = TypeVar("T")

ANSWER_SECONDS = 30.0
"""How long an answer may take beyond what the request waits for."""

CONNECT_SECONDS = 10.0
PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX = 0.1, 2.0
"""Between two tries."""

SLACK_SECONDS = 1.0


class Link:
    """The way to one server. ``patience_seconds``: how long one that cannot be reached, or cannot answer now, is tried
    again, as far as nothing could be done twice by that. Raises :class:`HeadraceError` for what is no address."""

    def __init__(
        self, url: str, token: str | None, *, tls: ssl.SSLContext | None = None, patience_seconds: float = 15.0
    ) -> None:
        self.url = url.rstrip("/")
        if not _is_address(self.url):
            raise HeadraceError(f"{url!r} is no server's address", hint="for example: http://127.0.0.1:7233")
        self._patience = patience_seconds
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        timeout = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
        self.http = httpx.AsyncClient(
            base_url=self.url + PATH, headers=headers, timeout=timeout, trust_env=False, verify=tls or True
        )

    async def close(self) -> None:
        """Idempotent."""
        await self.http.aclose()

    async def get(self, path: str, kind: type[T], query: Mapping[str, Any] | None = None, *, wait: float = 0.0) -> T:
        """Read something."""
        return await self.ask("GET", path, kind, query=query, wait=wait, repeatable=True)

    async def post(
        self,
        path: str,
        kind: type[T],
        body: Mapping[str, Any],
        query: Mapping[str, Any] | None = None,
        *,
        wait: float = 0.0,
        repeatable: bool = False,
        request: str | None = None,
    ) -> T:
        """Have something done. ``repeatable``: it may be asked again if its answer was lost. ``request``: its idempotency
        id."""
        return await self.ask(
            "POST", path, kind, body=body, query=query, wait=wait, repeatable=repeatable, request=request
        )

    async def ask(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        wait: float = 0.0,
        repeatable: bool,
        request: str | None = None,
    ) -> T:
        """Ask, and read the answer as ``kind``. Raises what the server refuses it for, and :class:`ServerUnavailable`."""
        headers = {} if request is None else {IDEMPOTENCY_HEADER: request}
        content = None
        if body is not None:
            content, headers["Content-Type"] = _encoded(body), "application/json"
        timeout = httpx.Timeout(ANSWER_SECONDS + wait, connect=CONNECT_SECONDS)
        until = time.monotonic() + self._patience
        pause = PAUSE_SECONDS_MIN
        while True:
            try:
                got = await self.http.request(
                    method, path, params=_params(query), content=content, headers=headers, timeout=timeout
                )
                if got.is_success:
                    return self._decoded(got, kind)
                raise self.refusal(got.status_code, got.content)
            except (httpx.HTTPError, ServerUnavailable) as error:
                # A refusal has changed nothing, and what never connected was not sent.
                is_safe = repeatable or isinstance(error, ServerUnavailable | httpx.ConnectError | httpx.ConnectTimeout)
                if not is_safe or is_untrusted(error) or time.monotonic() + pause >= until:
                    raise self.unreachable(error, is_done=not is_safe) from None
            await asyncio.sleep(pause)
            pause = min(pause * 2, PAUSE_SECONDS_MAX)

    def _decoded(self, got: httpx.Response, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(got.content, type=kind)
        except msgspec.DecodeError:
            raise self._strange(got.status_code) from None

    def unreachable(self, error: Exception, *, is_done: bool = False) -> HeadraceError:
        """What to say of a server that does not answer. ``is_done``: what was asked may have been done."""
        if isinstance(error, HeadraceError):
            return error
        what = str(error) or type(error).__name__
        hint = "whether it was done is not known: look before asking again" if is_done else None
        if is_untrusted(error):
            hint = "is the authority of its certificate known? see --ca"
        return ServerUnavailable(f"the server {self.url} does not answer: {what}", hint=hint)

    def refusal(self, status: int, content: bytes) -> HeadraceError:
        """What a refusal means, as the error that the client in process raises."""
        try:
            told = msgspec.json.decode(content, type=Refused)
        except msgspec.DecodeError:
            return self._strange(status)
        hint = None if told.hint is UNSET else told.hint
        slug = told.type.removeprefix(PROBLEM)
        problems = [Problem(one.message, where=one.where, hint=one.hint or "") for one in told.problems or ()]
        if slug == "already-running" and told.run_id and told.workflow and told.key:
            return AlreadyRunning(told.workflow, told.key, told.run_id, told.state or None)
        if slug == "invalid-params":
            return InvalidParams(problems)
        if slug == "invalid-definition":
            return InvalidDefinition(problems)
        if slug in ("not-authorized", "forbidden"):
            return NotAuthorized(
                f"the server {self.url} refused the token: {told.detail}",
                hint=hint or "one of its server.api_tokens is expected, with a role that may do this",
            )
        kinds: dict[str, type[HeadraceError]] = {
            "not-found": NotFound,
            "invalid-command": InvalidCommand,
            "update-rejected": UpdateRejected,
            "diverged": Diverged,
            "user-code": UserCodeError,
            "bad-request": InvalidCommand,
            "unavailable": ServerUnavailable,
        }
        return kinds.get(slug, ServerError)(told.detail, hint=hint)

    def _strange(self, status: int) -> ServerError:
        return ServerError(
            f"the server {self.url} answered something else than a Headrace server would (status {status})",
            hint="is that its address?",
        )


def is_untrusted(error: Exception) -> bool:
    """Whether the server's certificate is the trouble, which no other try mends."""
    return "CERTIFICATE_VERIFY_FAILED" in str(error)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(httpx.URL(url).host) and not parts.query
    except (ValueError, httpx.InvalidURL):
        return False


def _params(query: Mapping[str, Any] | None) -> httpx.QueryParams:
    given = ((name, value if isinstance(value, list | tuple) else (value,)) for name, value in (query or {}).items())
    return httpx.QueryParams([(name, one) for name, values in given for one in values if one is not None])


def _encoded(body: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode({name: value for name, value in body.items() if value is not None})
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidCommand(f"this cannot be sent as JSON: {error}") from None
