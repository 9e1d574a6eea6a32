"""Who may come in, and to what: workers to their desk, administrators to the node, users to runs and workflows."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from headrace.contracts.api.bounds import Role
from headrace.core.errors import HeadraceError, NotAuthorized
from headrace.server.tokens import Tokens, roles_of

_UNKNOWN = "the token is missing, or is none that this server knows"

Connection = ASGIConnection[Any, Any, Any, Any]


class Forbidden(Exception):
    """The token is known, and is not for this; the message says what is."""


class Door:
    """Who may come in now; :meth:`become` while it is open. ``workers``, ``administrators``, ``users``: texts with
    tokens, see :class:`Tokens` and :func:`roles_of`; None: nobody of that sort. ``tokenless``: what a request to the API
    may do that has no token, None: nothing; for sockets that only this host reaches. Raises :class:`HeadraceError` if
    nobody could come in, if one cannot be a token, and if one is of two sorts: every worker could then administer the
    node."""

    def __init__(
        self,
        workers: str | None,
        administrators: str | None = None,
        users: str | None = None,
        *,
        tokenless: Role | None = None,
    ) -> None:
        administering = None if administrators is None else Tokens(administrators, key="server.admin_tokens")
        using = {} if users is None else roles_of(users)
        others = administering is not None or bool(using) or tokenless is not None
        working = None if workers is None and others else Tokens(workers)
        sorts: list[tuple[str, Tokens | None]] = [
            ("server.worker_tokens", working),
            ("server.admin_tokens", administering),
            *(("server.api_tokens", tokens) for tokens in using.values()),
        ]
        for number, (name, tokens) in enumerate(sorts):
            for other, those in sorts[:number]:
                if tokens is not None and those is not None and tokens.shares_one_with(those):
                    what = f"{name} and {other} share a token" if name != other else f"{name} holds a token twice"
                    raise HeadraceError(
                        what, hint="whoever has it could do both; make another one with: openssl rand -hex 32"
                    )
        self._workers, self._administrators, self._users, self._tokenless = working, administering, using, tokenless

    @property
    def tokenless(self) -> Role | None:
        """What a request to the API may do that has no token."""
        return self._tokenless

    @property
    def serves_users(self) -> bool:
        """Whether the API is served: without users of its own, administrators are not let in there either."""
        return bool(self._users) or self._tokenless is not None

    def become(self, other: Door) -> None:
        """Let those in from now on whom the other lets in, and nobody else."""
        self._workers, self._administrators = other._workers, other._administrators
        self._users, self._tokenless = other._users, other._tokenless

    def guard(self, connection: Connection, _handler: BaseRouteHandler) -> None:
        """For workers alone. Raises :class:`NotAuthorized` and :class:`Forbidden`. Called before the body is read."""
        self._check(connection, self._workers, "server.worker_tokens")

    def guard_admin(self, connection: Connection, _handler: BaseRouteHandler) -> None:
        """For administrators alone."""
        self._check(connection, self._administrators, "server.admin_tokens")

    def guard_user(self, needed: Role) -> Callable[[Connection, BaseRouteHandler], None]:
        """A guard for users of that role at least, and for administrators."""

        def guard(connection: Connection, _handler: BaseRouteHandler) -> None:
            role = self.role_of(connection)
            if role is None:
                if self._is_known(connection):
                    raise Forbidden("the token is not for this: one of server.api_tokens is")
                raise NotAuthorized(_UNKNOWN)
            if not role.may(needed):
                raise Forbidden(f"this takes the role {needed}; the token has the role {role}")

        return guard

    def role_of(self, connection: Connection) -> Role | None:
        """What whoever asks may do in the API; None: nothing. Takes as long whichever token is given."""
        header = connection.headers.get("authorization")
        known = [role for role, tokens in self._users.items() if tokens.know(header)]
        if self._administrators is not None and self._administrators.know(header) and self.serves_users:
            known.append(Role.AUTHOR)
        if known:
            return known[0]
        return self._tokenless if header is None and _is_of_this_host(connection) else None

    def _check(self, connection: Connection, wanted: Tokens | None, key: str) -> None:
        header = connection.headers.get("authorization")
        is_known = self._is_known(connection)
        if wanted is not None and wanted.know(header):
            return
        if is_known:
            raise Forbidden(f"the token is not for this: one of {key} is")
        raise NotAuthorized(_UNKNOWN)

    def _is_known(self, connection: Connection) -> bool:
        header = connection.headers.get("authorization")
        known = False
        for tokens in (self._workers, self._administrators, *self._users.values()):
            known |= tokens is not None and tokens.know(header)
        return known


def _is_of_this_host(connection: Connection) -> bool:
    """Whether a request without a token comes from a program here: not from a web page that a browser here shows, which
    names another origin or reached us by a name of its own, and not through a proxy."""
    headers = connection.headers
    host, origin = headers.get("host", ""), headers.get("origin")
    is_passed_on = any(name in headers for name in ("forwarded", "x-forwarded-for", "x-forwarded-host", "via"))
    is_ours = origin is None or origin.partition("://")[2] == host
    return is_ours and not is_passed_on and is_loopback(_name_of(f"//{host}"))


def _name_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Whether an address or a name is this host's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
