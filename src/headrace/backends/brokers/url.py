"""What the URL of a broker says: where it is, and one option of our own.

``nats://user:password@host:4222?prefix=NAME``. ``prefix`` keeps several clusters apart on one broker (default:
``headrace``); everything else after the question mark is the client's.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import msgspec

from headrace.core.errors import BrokerError

PREFIX_DEFAULT = "headrace"
_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,40}")
_PASSWORDS = ("password", "pass", "token", "secret")


class Address(msgspec.Struct, frozen=True):
    """A broker. ``network`` is user, password, hosts and ports as given; ``options`` are the client's. ``shown``: for
    people, without passwords; ``secrets``: what must not be shown."""

    scheme: str
    network: str
    path: str
    options: dict[str, str]
    prefix: str
    shown: str
    secrets: tuple[str, ...]

    def url(self, scheme: str | None = None) -> str:
        """For the client."""
        query = f"?{urlencode(self.options)}" if self.options else ""
        return f"{scheme or self.scheme}://{self.network}{self.path}{query}"

    def servers(self) -> list[str]:
        """For clients that take several servers: the hosts are separated by commas, user and password are the same."""
        user, at, hosts = self.network.rpartition("@")
        return [f"{self.scheme}://{user}{at}{host.strip()}" for host in hosts.split(",")]


def address_of_url(url: str) -> Address:
    """Read a broker's URL. Raises :class:`BrokerError` for one that cannot be read; passwords are not repeated."""
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise BrokerError("a broker's URL cannot be read", hint="it is nats://host:4222?option=value") from None
    prefix = options.pop("prefix", PREFIX_DEFAULT)
    if not _PREFIX.fullmatch(prefix):
        raise BrokerError(f"?prefix={prefix}: expected at most 40 letters, digits, '-' and '_'")
    user, at, hosts = parts.netloc.rpartition("@")
    name, colon, password = user.partition(":")
    secrets = [unquote(password)] if password else []
    if at and not colon:  # NATS: a token in the place of the user
        secrets, name = [unquote(name)], "***"
    secrets += [value for key, value in options.items() if key in _PASSWORDS]
    visible = {key: value for key, value in options.items() if key not in _PASSWORDS}
    if prefix != PREFIX_DEFAULT:
        visible["prefix"] = prefix
    shown = f"{parts.scheme}://{name}{at}{hosts}{parts.path}{'?' if visible else ''}{urlencode(visible)}"
    return Address(parts.scheme, parts.netloc, parts.path, options, prefix, shown, tuple(filter(None, secrets)))
