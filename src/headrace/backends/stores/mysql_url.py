"""What the URL of a MySQL or MariaDB store says: where the database is, and how to get there.

``mysql://user:password@host:3306/database?option=value``, or ``mariadb://``; what may stand after the question mark is in
:data:`OPTIONS`. Without a password in it, that of the environment (``MYSQL_PWD``) is used.
"""

from __future__ import annotations

import os
import re
import ssl
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import msgspec

from headrace.core.errors import StoreError

SCHEMES = ("mysql", "mariadb")
PORT_DEFAULT = 3306

OPTIONS = {
    "unix_socket": "path of the server's socket, instead of host and port",
    "ssl_mode": "disabled (default), required, verify_ca or verify_identity",
    "ssl_ca": "file of the authorities to trust; makes verify_identity the default",
    "ssl_cert": "file of the client's certificate",
    "ssl_key": "file of its key",
    "relaxed_durability": "true: use a server that may lose acknowledged commits when the power fails",
}
"""Names and meanings."""

TLS_MODES = ("disabled", "required", "verify_ca", "verify_identity")

_DATABASE = re.compile(r"[A-Za-z0-9_$-]{1,64}")
_FORM = "it is mysql://user@host:3306/database?option=value"


class Place(msgspec.Struct, frozen=True):
    """A database on a server, and how to reach it.

    ``shown``: for people, without the password. ``unix_socket``: '' to use host and port. ``tls``: one of
    :data:`TLS_MODES`. ``relaxed``: whether a server is acceptable that may lose what it acknowledged.
    """

    shown: str
    user: str
    password: bytes
    host: str
    port: int
    database: str
    unix_socket: str = ""
    tls: str = "disabled"
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    relaxed: bool = False

    @property
    def quoted(self) -> str:
        """The name of the database, for statements."""
        return f"`{self.database}`"

    def tls_context(self) -> ssl.SSLContext | None:
        """How to encrypt; None for not at all. Raises :class:`StoreError` for files that cannot be used."""
        if self.tls == "disabled":
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca)
            context.check_hostname = self.tls == "verify_identity"
            if self.tls == "required":
                context.verify_mode = ssl.CERT_NONE
            if self.certificate:
                context.load_cert_chain(self.certificate, self.key)
        except OSError as error:  # SSLError is one
            raise StoreError(
                f"the certificates for {self.shown} cannot be used ({error})",
                hint="ssl_ca, ssl_cert and ssl_key are paths of PEM files",
            ) from error
        return context


def place_of_url(url: str) -> Place:
    """Read a store URL. Raises :class:`StoreError` for one that means nothing; no password is shown."""
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        host, port = parts.hostname or "localhost", parts.port or PORT_DEFAULT
    except ValueError as error:
        raise StoreError(
            f"a MySQL URL cannot be read ({error})",
            hint=f"{_FORM}; special characters of a password are written as %XX",
        ) from None
    options = {name.replace("-", "_"): value for name, value in options.items()}
    unknown = sorted(options.keys() - OPTIONS.keys())
    if unknown:
        raise StoreError(
            f"a MySQL URL has no option {unknown[0]!r}",
            hint="\n".join(["there are:", *(f"    {name:<20} {meaning}" for name, meaning in OPTIONS.items())]),
        )
    database = unquote(parts.path).strip("/")
    if not _DATABASE.fullmatch(database):
        raise StoreError(
            f"a MySQL URL names the database {database!r}" if database else "a MySQL URL names no database",
            hint=f"{_FORM}; a name has letters, digits, _, $ and -, at most 64",
        )
    mode = options.get("ssl_mode", "verify_identity" if "ssl_ca" in options else "disabled").lower().replace("-", "_")
    if mode not in TLS_MODES:
        raise StoreError(f"?ssl_mode={mode}: expected one of {', '.join(TLS_MODES)}")
    if mode != "disabled" and "unix_socket" in options:
        raise StoreError("a MySQL URL asks for TLS over a unix socket", hint="leave one of them out")
    relaxed = options.get("relaxed_durability", "false").lower()
    if relaxed not in ("true", "false", "1", "0"):
        raise StoreError(f"?relaxed_durability={relaxed}: expected true or false")
    user, at, network = parts.netloc.rpartition("@")
    name, colon, password = user.partition(":")
    return Place(
        shown=_joined(parts.scheme, name + at + network, parts.path, options),
        user=unquote(name) or os.environ.get("USER", "root"),
        password=(unquote(password) if colon else os.environ.get("MYSQL_PWD", "")).encode(),
        host=host,
        port=port,
        database=database,
        unix_socket=options.get("unix_socket", ""),
        tls=mode,
        ca=options.get("ssl_ca"),
        certificate=options.get("ssl_cert"),
        key=options.get("ssl_key"),
        relaxed=relaxed in ("true", "1"),
    )


def with_database(url: str, database: str) -> str:
    """The same server, another database."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    return _joined(parts.scheme, parts.netloc, f"/{quote(database)}", options)


def _joined(scheme: str, network: str, path: str, options: dict[str, str]) -> str:
    return f"{scheme}://{network}{path}{'?' if options else ''}{urlencode(options, safe='/')}"
