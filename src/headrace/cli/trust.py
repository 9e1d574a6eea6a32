"""Whom a command trusts to be the server it is told: ``--ca FILE``."""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence

from headrace.core.errors import HeadraceError

VARIABLE = "HEADRACE_CA"


def trust(file: str | None, servers: Sequence[str]) -> ssl.SSLContext | None:
    """A context that knows the authorities in that file, or in that of the variable, and no others; None if neither is
    given: then the public ones are known. Raises :class:`HeadraceError`."""
    named = file or os.environ.get(VARIABLE)
    if not named:
        return None
    where = f"--ca {file}" if file else f"{VARIABLE}={named}"
    if file and not any(server.startswith("https:") for server in servers):
        raise HeadraceError(f"{where} is for servers with TLS", hint="their address begins with https://")
    try:
        return ssl.create_default_context(cafile=named)
    except ssl.SSLError:
        raise HeadraceError(f"{where}: holds no certificate", hint="a PEM file is expected") from None
    except OSError as error:
        raise HeadraceError(f"{where}: cannot be read: {error.strerror}") from None
