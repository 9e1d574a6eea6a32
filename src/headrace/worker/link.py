"""The way to the servers: one of several URLs at a time, the next one when it does not answer."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec

from headrace.contracts import remote as wire
from headrace.core.errors import Fenced, HeadraceError, NotAuthorized, ServerError, ServerUnavailable

logger = logging.getLogger("headrace.worker")

T = TypeVar("T")

ANSWER_SECONDS = 30.0
"""How long an answer may take, beyond what a claim waits."""
CONNECT_SECONDS = 10.0


class Link:
    """Speaks the worker protocol; see :mod:`headrace.contracts.remote`. Raises :class:`ServerUnavailable` when the server
    of the moment cannot answer (the next call goes to the next one), :class:`Fenced`, :class:`NotAuthorized`, and
    :class:`ServerError` for what is refused for good. ``trust``: the authorities that a server's certificate may be
    from; the public ones if None."""

    def __init__(self, urls: Sequence[str], token: str, trust: ssl.SSLContext | None = None) -> None:
        self.urls = tuple(_checked(url) for url in urls)
        self._at = 0
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        timeout = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
        verify = True if trust is None else trust
        self._client = httpx.AsyncClient(headers=headers, timeout=timeout, trust_env=False, verify=verify)
        self._thread_client = httpx.Client(headers=headers, timeout=timeout, trust_env=False, verify=verify)
        """For the keeper's thread, which renews the lease while the event loop may be blocked."""

    @property
    def url(self) -> str:
        """The server of the moment."""
        return self.urls[self._at % len(self.urls)]

    async def call(self, verb: str, asked: Any, answer: type[T], *, wait_seconds: float = 0.0) -> T:
        """Ask, and wait ``wait_seconds`` longer than usual."""
        url = self.url
        timeout = httpx.Timeout(ANSWER_SECONDS + wait_seconds, connect=CONNECT_SECONDS)
        try:
            got = await self._client.post(url + wire.PATH + verb, content=msgspec.json.encode(asked), timeout=timeout)
        except httpx.HTTPError as error:
            raise self._gone(url, error) from None
        return self._read(url, got, answer)

    def call_now(self, verb: str, asked: Any, answer: type[T], seconds: float) -> T:
        """The same from a thread, within so many seconds."""
        url = self.url
        try:
            got = self._thread_client.post(url + wire.PATH + verb, content=msgspec.json.encode(asked), timeout=seconds)
        except httpx.HTTPError as error:
            raise self._gone(url, error) from None
        return self._read(url, got, answer)

    async def close(self) -> None:
        """Close every connection. Idempotent."""
        await self._client.aclose()
        self._thread_client.close()

    def _gone(self, url: str, error: Exception) -> ServerUnavailable:
        self._leave(url)
        what = str(error) or type(error).__name__
        hint = "is the authority of its certificate known? see --ca" if "CERTIFICATE_VERIFY_FAILED" in what else None
        return ServerUnavailable(f"the server {url} does not answer: {what}", hint=hint)

    def _leave(self, url: str) -> None:
        if url == self.url:  # else another call has moved on already
            self._at += 1

    def _read(self, url: str, got: httpx.Response, answer: type[T]) -> T:
        if got.status_code == 200:
            try:
                return msgspec.json.decode(got.content, type=answer)
            except msgspec.DecodeError as error:
                raise ServerError(
                    f"the server {url} answered something else than a Headrace server would: {error}",
                    hint="is that its address?",
                ) from None
        try:
            told = msgspec.json.decode(got.content, type=wire.Refusal)
        except msgspec.DecodeError:
            told = wire.Refusal(detail=f"{got.status_code} {got.reason_phrase}")
        if got.status_code in (401, 403):
            raise NotAuthorized(
                f"the server {url} refused the token: {told.detail}",
                hint="give one of its server.worker_tokens with --token-file or HEADRACE_TOKEN",
            )
        if told.type == wire.PROBLEM + "fenced":
            raise Fenced(told.detail)
        if got.status_code >= 500 or got.status_code in (408, 429):
            self._leave(url)
            raise ServerUnavailable(f"the server {url} cannot answer: {told.detail}")
        raise ServerError(
            f"the server {url} refused a request: {told.detail}", hint=f"status {got.status_code}: is that its address?"
        )


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise HeadraceError(f"{url!r} is no server's address", hint="for example: http://127.0.0.1:7233")
    return url.rstrip("/")
