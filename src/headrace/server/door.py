"""Who may come in, and to what: workers to their desk, administrators to the node."""

from __future__ import annotations

from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from headrace.core.errors import HeadraceError, NotAuthorized
from headrace.server.tokens import Tokens

_UNKNOWN = "the token is missing, or is none that this server knows"


class Forbidden(Exception):
    """The token is known, and is not for this; the message says what is."""


class Door:
    """Who may come in now; :meth:`become` while it is open. ``workers``, ``administrators``: texts with tokens, see
    :class:`Tokens`; None: nobody of that sort. Raises :class:`HeadraceError` if there is none at all, if one cannot be a
    token, and if one is for both: every worker could then administer the node."""

    def __init__(self, workers: str | None, administrators: str | None = None) -> None:
        administering = None if administrators is None else Tokens(administrators, key="server.admin_tokens")
        working = None if workers is None and administering is not None else Tokens(workers)
        if working is not None and administering is not None and working.shares_one_with(administering):
            raise HeadraceError(
                "server.admin_tokens and server.worker_tokens share a token",
                hint="whoever has it could do both; make another one with: openssl rand -hex 32",
            )
        self._workers, self._administrators = working, administering

    def become(self, other: Door) -> None:
        """Let those in from now on whom the other lets in, and nobody else."""
        self._workers, self._administrators = other._workers, other._administrators

    def guard(self, connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
        """For workers alone. Raises :class:`NotAuthorized` and :class:`Forbidden`. Called before the body is read."""
        self._check(connection, self._workers, self._administrators, "server.worker_tokens")

    def guard_admin(self, connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
        """For administrators alone."""
        self._check(connection, self._administrators, self._workers, "server.admin_tokens")

    @staticmethod
    def _check(
        connection: ASGIConnection[Any, Any, Any, Any], wanted: Tokens | None, other: Tokens | None, key: str
    ) -> None:
        header = connection.headers.get("authorization")
        is_wanted = wanted is not None and wanted.know(header)
        is_other = other is not None and other.know(header)
        if is_other:
            raise Forbidden(f"the token is not for this: one of {key} is")
        if not is_wanted:
            raise NotAuthorized(_UNKNOWN)
