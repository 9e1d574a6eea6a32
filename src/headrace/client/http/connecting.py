"""The front door to a server."""

from __future__ import annotations

import ssl
from pathlib import Path

from headrace.client.http.client import HttpClient
from headrace.core.errors import HeadraceError


def connect(
    url: str, *, token: str | None = None, ca: str | Path | None = None, patience_seconds: float = 15.0
) -> HttpClient:
    """A client of the server at ``url`` (``http://host:port`` or ``https://...``): ``async with connect(...) as
    headrace:``. ``token``: one of its ``server.api_tokens``, without its role. ``ca``: a PEM file with the authorities of
    its certificate, by default the public ones. ``patience_seconds``: how long a server that cannot be reached is tried
    again. Connects when something is asked. Raises :class:`HeadraceError` for what is no address or no certificate."""
    tls = None
    if ca is not None:
        try:
            tls = ssl.create_default_context(cafile=str(ca))
        except (OSError, ssl.SSLError) as error:
            raise HeadraceError(f"ca={str(ca)!r} cannot be used: {error}", hint="a PEM file is expected") from None
    return HttpClient(url, token, tls=tls, patience_seconds=patience_seconds)
