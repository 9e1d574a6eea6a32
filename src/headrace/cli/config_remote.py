"""What ``headrace config reload`` and ``config show --server`` ask of a node over HTTP."""

from __future__ import annotations

from typing import Any, TypeVar

import httpx
import msgspec

from headrace.cli.token import read_token
from headrace.cli.trust import trust
from headrace.contracts import administration as wire
from headrace.core.errors import (
    HeadraceError,
    InvalidConfiguration,
    NotAuthorized,
    Problem,
    ServerError,
    ServerUnavailable,
)

TOKEN_VARIABLE = "HEADRACE_ADMIN_TOKEN"  # noqa: S105 - its name
ANSWER_SECONDS = 60.0
"""How long a node may take to read its configuration and workflow files again."""

T = TypeVar("T")


def reload(server: str, token_file: str | None, ca: str | None) -> wire.Applied:
    """Have a node read its configuration again. Raises :class:`InvalidConfiguration` with what the node found wrong, and
    the errors of :func:`_ask`."""
    return _ask("POST", server, "reload", token_file, ca, wire.Applied)


def status(server: str, token_file: str | None, ca: str | None) -> dict[str, Any]:
    """What a node goes by."""
    return _ask("GET", server, "config", token_file, ca, dict[str, Any])


def _ask(method: str, server: str, what: str, token_file: str | None, ca: str | None, kind: type[T]) -> T:
    """Raises :class:`ServerUnavailable`, :class:`NotAuthorized`, and :class:`ServerError`."""
    token = read_token(token_file, variable=TOKEN_VARIABLE, key="server.admin_tokens")
    trusted = trust(ca, [server])
    headers = {"Authorization": f"Bearer {token}"}
    try:
        with httpx.Client(headers=headers, timeout=ANSWER_SECONDS, trust_env=False, verify=trusted or True) as client:
            got = client.request(method, server.rstrip("/") + wire.PATH + what)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        raise HeadraceError(f"{server!r} is no server's address", hint="for example: http://127.0.0.1:7233") from None
    except httpx.HTTPError as error:
        what = str(error) or type(error).__name__
        hint = "is the authority of its certificate known? see --ca" if "CERTIFICATE_VERIFY_FAILED" in what else None
        raise ServerUnavailable(f"the server {server} does not answer: {what}", hint=hint) from None
    try:
        if got.status_code == 200:
            return msgspec.json.decode(got.content, type=kind)
        told = msgspec.json.decode(got.content, type=wire.Invalid)
    except msgspec.DecodeError:
        raise ServerError(
            f"the server {server} answered something else than a Headrace server would: {got.status_code}"
            f" {got.reason_phrase}",
            hint="is that its address?",
        ) from None
    raise _refused(server, told)


def _refused(server: str, told: wire.Invalid) -> HeadraceError:
    if told.type == wire.INVALID:
        return InvalidConfiguration([Problem(one.message, where=one.where, hint=one.hint) for one in told.problems])
    if told.status in (401, 403):
        return NotAuthorized(
            f"the server {server} refused the token: {told.detail}",
            hint=f"give one of its server.admin_tokens with --token-file or {TOKEN_VARIABLE}",
        )
    if told.status == 503:
        return ServerUnavailable(f"the server {server} cannot answer: {told.detail}")
    return ServerError(f"the server {server} refused a request: {told.detail}")
