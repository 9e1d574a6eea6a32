"""What the URL of etcd says: where its members are, and under which prefix our keys are.

``etcd://user:password@a:2379,b:2379?prefix=NAME&ca=FILE&cert=FILE&key=FILE&tls=true``. ``prefix`` keeps several
clusters apart in one etcd (default ``headrace``). ``ca`` is who has signed the members' certificates; with it, with
``cert`` and ``key`` (our own certificate), or with ``tls=true`` the connection is encrypted.
"""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from headrace.core.errors import KeeperError

PORT_DEFAULT = 2379
PREFIX_DEFAULT = "headrace"
MEMBERS_MAX = 20
_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,40}")
_OPTIONS = ("prefix", "ca", "cert", "key", "tls")
_FORM = "it is etcd://host:2379, with several members etcd://a:2379,b:2379,c:2379"


class EtcdAddress(msgspec.Struct, frozen=True, kw_only=True):
    """An etcd cluster. ``members``: the URL of each, such as ``http://host:2379``. ``user``: "" for none. ``shown``: for
    people, without the password."""

    members: tuple[str, ...]
    prefix: str = PREFIX_DEFAULT
    user: str = ""
    password: str = ""
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    shown: str = ""

    def tls(self) -> ssl.SSLContext | None:
        """How to encrypt; None for not at all. Raises :class:`KeeperError` if a file cannot be used."""
        if not self.members[0].startswith("https:"):
            return None
        for option, file in (("ca", self.ca), ("cert", self.cert), ("key", self.key)):
            if file is not None and not Path(file).is_file():
                raise KeeperError(f"{self.shown}: ?{option}={file}: there is no such file")
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.key)
        except (OSError, ValueError) as error:
            raise KeeperError(
                f"{self.shown}: its certificates cannot be used: {error}", hint="expected are files in PEM format"
            ) from None
        return context


def address_of_url(url: str) -> EtcdAddress:
    """Read the URL of etcd. Raises :class:`KeeperError` for one that cannot be read; the password is not repeated."""
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise KeeperError("the URL of etcd cannot be read", hint=_FORM) from None
    user, at, network = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    shown = f"etcd://{name}{at}{network}"
    if parts.path not in ("", "/") or parts.fragment:
        raise KeeperError(f"{shown}: nothing may follow the members but options", hint="?prefix=NAME keeps keys apart")
    if strange := next((option for option in options if option not in _OPTIONS), None):
        raise KeeperError(f"{shown}: there is no option {strange!r}", hint=f"there are: {', '.join(_OPTIONS)}")
    prefix = options.get("prefix", PREFIX_DEFAULT)
    if not _PREFIX.fullmatch(prefix):
        raise KeeperError(f"{shown}: ?prefix={prefix}: expected at most 40 letters, digits, '-' and '_'")
    if ("key" in options) and "cert" not in options:
        raise KeeperError(f"{shown}: ?key= needs ?cert=", hint="name the certificate that the key belongs to")
    tls = options.get("tls", "true" if {"ca", "cert"} & options.keys() else "false")
    if tls not in ("true", "false"):
        raise KeeperError(f"{shown}: ?tls={tls}: expected true or false")
    if tls == "false" and {"ca", "cert"} & options.keys():
        raise KeeperError(f"{shown}: certificates without TLS", hint="leave ?tls=false out")
    scheme = "https" if tls == "true" else "http"
    members = tuple(f"{scheme}://{_member(shown, one.strip())}" for one in network.split(","))
    if len(members) > MEMBERS_MAX:
        raise KeeperError(f"{shown}: {len(members)} members; expected at most {MEMBERS_MAX}")
    return EtcdAddress(
        members=members,
        prefix=prefix,
        user=unquote(name),
        password=unquote(password),
        ca=options.get("ca"),
        cert=options.get("cert"),
        key=options.get("key"),
        shown=shown,
    )


def _member(shown: str, text: str) -> str:
    """``host:port`` of one member."""
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise KeeperError(f"{shown}: {text!r}: expected host or host:port, port 1 to 65535", hint=_FORM) from None
    if not host or port == 0:
        raise KeeperError(f"{shown}: {text!r} is not a member's host:port", hint=_FORM)
    return f"[{host}]:{port or PORT_DEFAULT}" if ":" in host else f"{host}:{port or PORT_DEFAULT}"


__all__ = ["PORT_DEFAULT", "PREFIX_DEFAULT", "EtcdAddress", "address_of_url"]
