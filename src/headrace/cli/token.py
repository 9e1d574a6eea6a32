"""The token for a server, from a file or a variable: never from the command line, where everybody can read it."""

from __future__ import annotations

import os
from pathlib import Path

from headrace.core.errors import HeadraceError

TOKEN_BYTES_MAX = 10_000


def read_token(file: str | None, *, variable: str, key: str) -> str:
    """The one token that is there. ``key``: the server's key that holds it, for messages. Raises
    :class:`HeadraceError`, without the token."""
    if file is not None:
        try:
            with Path(file).open("rb") as stream:
                token = stream.read(TOKEN_BYTES_MAX).decode("ascii").strip()
        except OSError as error:
            raise HeadraceError(f"--token-file {file}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise HeadraceError(f"--token-file {file}: expected one token of ASCII characters") from None
        where = f"--token-file {file}"
    else:
        token, where = os.environ.get(variable, "").strip(), variable
        if not token:
            raise HeadraceError("--server needs a token", hint=f"give --token-file FILE, or set {variable}; see {key}")
    if not token or not token.isascii() or any(one.isspace() or not one.isprintable() for one in token):
        raise HeadraceError(f"{where}: expected one token, without white space")
    return token
