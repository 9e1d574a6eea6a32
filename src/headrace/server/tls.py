"""The server's certificate: checked before it is used, and exchanged while the server is up.

The socket keeps one context for its life; each handshake is handed the newest one, as a whole. So a certificate that
cannot be used, or is half written, never gets in the way of the one that is served, and connections that are open stay.
"""

from __future__ import annotations

import hashlib
import logging
import ssl
from pathlib import Path

from headrace.core.errors import HeadraceError

logger = logging.getLogger("headrace.server")

_CERTIFICATE, _KEY = "server.tls_certificate", "server.tls_key"


class Certificate:
    """``certificate``: a PEM file with the certificate and those between it and its authority. ``key``: one with its
    private key, None if that is in the same file. Raises :class:`HeadraceError` if they cannot be used."""

    def __init__(self, certificate: str, key: str | None = None) -> None:
        self._newest, self._digests = _load(certificate, key)
        self.context = _empty()
        """For the socket."""
        # It is called for every handshake, whether the client names a server or not.
        self.context.sni_callback = self._hand_over

    def _hand_over(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._newest

    def change(self, certificate: str, key: str | None = None) -> tuple[str, ...]:
        """Serve what these files hold now, to connections that come from now on; the names of the keys whose files hold
        something else than before. Raises :class:`HeadraceError`; then nothing has changed."""
        newest, digests = _load(certificate, key)
        changed = tuple(name for name in digests if digests[name] != self._digests.get(name))
        if changed:
            self._newest, self._digests = newest, digests
            logger.info("another certificate is served from now on", extra={"file": certificate})
        return changed


def _empty() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _load(certificate: str, key: str | None) -> tuple[ssl.SSLContext, dict[str, str]]:
    held = {_CERTIFICATE: _read(_CERTIFICATE, certificate)}
    if key is not None:
        held[_KEY] = _read(_KEY, key)
    if b"-----BEGIN CERTIFICATE-----" not in held[_CERTIFICATE]:
        raise HeadraceError(f"{_CERTIFICATE}: {certificate} holds no certificate", hint="a PEM file is expected")
    if b"PRIVATE KEY-----" not in held.get(_KEY, held[_CERTIFICATE]):
        raise HeadraceError(
            f"{_KEY}: {key} holds no private key" if key else f"{_CERTIFICATE}: {certificate} holds no private key",
            hint="a PEM file is expected" if key else f"name the file of the key with {_KEY}",
        )
    context = _empty()
    secret = key or certificate

    def password() -> str:
        raise HeadraceError(f"the private key in {secret} is encrypted", hint="openssl pkey -in KEY -out PLAIN-KEY")

    try:
        context.load_cert_chain(certificate, key, password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise HeadraceError(
                f"the private key in {secret} is not that of the certificate in {certificate}",
                hint="the first certificate in the file has to be the server's own",
            ) from None
        why = error.reason or "not understood"
        raise HeadraceError(f"{_CERTIFICATE}: {certificate} and {secret} cannot be used: {why}") from None
    except OSError as error:
        raise HeadraceError(f"{_CERTIFICATE}: {certificate} cannot be read: {error.strerror}") from None
    return context, {name: hashlib.sha256(data).hexdigest() for name, data in held.items()}


def _read(name: str, file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise HeadraceError(f"{name}: {file} cannot be read: {error.strerror}") from None
