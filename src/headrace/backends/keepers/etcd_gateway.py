"""Talks to etcd over its JSON gateway, from the event loop and from threads.

etcd serves its gRPC interface as JSON over HTTP on the same port (``/v3/...``, since 3.4). Every request goes to one
member; one that does not answer in time is left for the next. A request may be sent twice, so callers ask only for what
may be done twice. See ``docs/adr/0008-etcd-client.md`` for why this way.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Generator, Sequence
from typing import Any, cast

import httpx
import msgspec

from headrace.backends.keepers.etcd_url import EtcdAddress
from headrace.core.errors import StoreUnavailable

CONNECT_SECONDS = 2.0
REQUEST_SECONDS = 4.0
CONNECTIONS_MAX = 20

UNAUTHORIZED = 401
"""How HTTP says that a token is no longer good."""

NOT_FOUND = 5
EXISTS = 9
"""Codes of gRPC: no such lease; there is one already."""


class Refused(Exception):
    """etcd understood and said no. ``code`` is that of gRPC."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Reply(msgspec.Struct, frozen=True):
    """What one member answered."""

    member: str
    body: dict[str, Any]


def packed(text: str) -> str:
    """A key or a value as the gateway wants it."""
    return b64encode(text.encode()).decode()


def unpacked(text: str) -> str:
    """The reverse of :func:`packed`."""
    return b64decode(text).decode()


def after(prefix: str) -> str:
    """The end of the range of all keys that begin with ``prefix``, which ends in an ASCII character."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


class Gateway:
    """One etcd cluster. Raises :class:`StoreUnavailable` if no member answers, :class:`Refused` if one says no.

    Coroutines belong to one event loop; :meth:`post_now` may be called from any thread."""

    def __init__(self, address: EtcdAddress) -> None:
        self.shown = address.shown
        self._members = address.members
        self._preferred = 0
        tls = address.tls()
        # No proxies of the environment: the members are neighbours.
        shared: dict[str, Any] = {
            "timeout": httpx.Timeout(REQUEST_SECONDS, connect=CONNECT_SECONDS),
            "limits": httpx.Limits(max_connections=CONNECTIONS_MAX),
            "trust_env": False,
            "verify": tls if tls is not None else False,
            "auth": _Login(address.user, address.password) if address.user else None,
        }
        self._client = httpx.AsyncClient(**shared)
        self._blocking = httpx.Client(**shared)

    async def post(self, path: str, body: Any, *, member: str | None = None) -> Reply:
        """Ask a member, or only that one."""
        last: Exception | None = None
        for one in self._order() if member is None else [member]:
            try:
                return self._read(one, await self._client.post(f"{one}/v3/{path}", json=body))
            except (httpx.HTTPError, StoreUnavailable) as error:
                last = error
        raise self._out_of_reach(last)

    def post_now(self, path: str, body: Any, *, member: str, seconds: float = REQUEST_SECONDS) -> Reply:
        """Ask that member, and wait in this thread, for its answer at most that long."""
        timeout = httpx.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS))
        try:
            return self._read(member, self._blocking.post(f"{member}/v3/{path}", json=body, timeout=timeout))
        except httpx.HTTPError as error:
            raise self._out_of_reach(error) from None

    def members(self) -> Sequence[str]:
        """In the order in which they are best asked: first the one that answered last."""
        return self._order()

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        self._blocking.close()
        await self._client.aclose()

    def _order(self) -> list[str]:
        start = self._preferred
        return [*self._members[start:], *self._members[:start]]

    def _read(self, member: str, response: httpx.Response) -> Reply:
        try:
            body = response.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise StoreUnavailable(
                f"{member} does not answer as etcd does (HTTP {response.status_code})",
                hint="expected is etcd 3.4 or newer with its JSON gateway on (--enable-grpc-gateway, the default)",
            )
        told = cast("dict[str, Any]", body)
        error: Any = told.get("error")
        if error or response.is_error:
            if isinstance(error, dict):  # of a stream
                told = cast("dict[str, Any]", error)
            code = told.get("code", told.get("grpc_code", 2))
            raise self._said_no(member, int(code), str(told.get("message") or error or f"HTTP {response.status_code}"))
        self._preferred = self._members.index(member)
        return Reply(member, told.get("result", told))

    def _said_no(self, member: str, code: int, message: str) -> Exception:
        if code in (NOT_FOUND, EXISTS):
            return Refused(code, message)
        if code in (3, 7, 16) and ("user name" in message or "permission" in message or "auth" in message):
            return StoreUnavailable(
                f"etcd at {member} refuses us: {message}",
                hint="check user and password in the URL, and the user's role",
            )
        return StoreUnavailable(f"etcd at {member} could not do it: {message}")

    def _out_of_reach(self, error: Exception | None) -> StoreUnavailable:
        if isinstance(error, StoreUnavailable):
            return error
        why = str(error) or type(error).__name__
        return StoreUnavailable(
            f"etcd at {self.shown} cannot be reached: {why}", hint="is it up, and has it a majority of its members?"
        )


class _Login(httpx.Auth):
    """Gets a token with name and password, and another one when it is no longer good."""

    requires_response_body = True

    def __init__(self, user: str, password: str) -> None:
        self._credentials = {"name": user, "password": password}
        self._token = ""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        sent = self._token
        if sent:
            request.headers["Authorization"] = sent
            response = yield request
            if response.status_code != UNAUTHORIZED:
                return
        login = request.url.copy_with(path="/v3/auth/authenticate")
        response = yield httpx.Request("POST", login, json=self._credentials, extensions=request.extensions)
        if response.is_success:
            self._token = str(response.json().get("token", ""))
        request.headers["Authorization"] = self._token
        yield request


__all__ = ["EXISTS", "NOT_FOUND", "REQUEST_SECONDS", "Gateway", "Refused", "Reply", "after", "packed", "unpacked"]
