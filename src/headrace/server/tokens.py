"""Who may come in: bearer tokens, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import re

from headrace.contracts.api.bounds import Role
from headrace.core.errors import HeadraceError

TOKEN_CHARS_MIN = 16
TOKENS_MAX = 1_000


class Tokens:
    """A set of tokens, of which only digests are kept. Raises :class:`HeadraceError` for what cannot be one; a message
    never holds a token."""

    def __init__(self, text: str | None, *, key: str = "server.worker_tokens") -> None:
        given = [one for one in re.split(r"[\s,]+", text or "") if one]
        hint = "make one with: openssl rand -hex 32"
        if not given:
            raise HeadraceError(f"{key} holds no token, and nothing is served without one", hint=hint)
        if len(given) > TOKENS_MAX:
            raise HeadraceError(f"{key} holds {len(given):,} tokens; at most {TOKENS_MAX:,} are expected")
        for number, one in enumerate(given, 1):
            if len(one) < TOKEN_CHARS_MIN or not one.isascii():
                raise HeadraceError(
                    f"{key}: token {number} cannot be used: at least {TOKEN_CHARS_MIN} ASCII characters are expected",
                    hint=hint,
                )
        self._digests = [_digest(one) for one in given]

    def know(self, authorization: str | None) -> bool:
        """Whether an ``Authorization`` header has one of them. Takes as long whichever it is, and if it is none."""
        scheme, _, token = (authorization or "").partition(" ")
        found = _digest(token.strip())
        known = False
        for one in self._digests:
            known |= hmac.compare_digest(one, found)
        return known and scheme.lower() == "bearer"

    def shares_one_with(self, other: Tokens) -> bool:
        """Whether a token is in both."""
        return not set(self._digests).isdisjoint(other._digests)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def roles_of(text: str) -> dict[Role, Tokens]:
    """The tokens of ``server.api_tokens``: each has its role in front, as ``operator:TOKEN``. Raises
    :class:`HeadraceError`; a message never holds a token."""
    key = "server.api_tokens"
    given: dict[Role, list[str]] = {}
    for number, one in enumerate((one for one in re.split(r"[\s,]+", text) if one), 1):
        role, mark, token = one.partition(":")
        if not mark or role not in set(Role):
            raise HeadraceError(
                f"{key}: token {number} has no role in front: {', '.join(Role)} are expected",
                hint="for example operator:TOKEN",
            )
        given.setdefault(Role(role), []).append(token)
    if not given:
        raise HeadraceError(f"{key} holds no token", hint="for example operator:TOKEN")
    return {role: Tokens(" ".join(tokens), key=f"{key}, role {role}") for role, tokens in given.items()}
