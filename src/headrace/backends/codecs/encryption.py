"""Payload codec ``aesgcm``: payloads that only holders of a key can read or change.

AES-GCM with a random 96-bit nonce for each payload (NIST SP 800-38D: fine for 2^32 payloads per key, which is what
rotation is for). Each payload is bound to its place in the store. Which key sealed it is stored beside it in the clear,
so keys can be rotated: add a new one, make it the active one, keep the old ones for as long as what they sealed is kept.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING

from headrace.contracts.codec import Encoded
from headrace.core.errors import HeadraceError, PayloadSealed, StoreCorrupt

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = (16, 24, 32)
_NONCE_BYTES = 12
_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,100}\Z")


class Encryption:
    """``keys``: by id, 16, 24 or 32 random bytes each (:meth:`new_key`). ``active``: the id of the key that seals from
    now on (default: the last one); all of them open. Needs ``pip install 'headrace[encryption]'``."""

    name = "aesgcm"

    def __init__(self, keys: Mapping[str, bytes], *, active: str | None = None) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise HeadraceError(
                "encryption needs the package cryptography", hint="pip install 'headrace[encryption]'"
            ) from error
        if not keys:
            raise ValueError("encryption needs at least one key; Encryption.new_key() makes one")
        for key_id, key in keys.items():
            if not _KEY_ID.match(key_id):
                raise ValueError(f"{key_id!r} is no id for a key: use up to 100 letters, digits and ._-")
            if len(key) not in KEY_BYTES:
                raise ValueError(f"key {key_id!r} has {len(key)} bytes, expected 16, 24 or 32 random ones")
        self._ciphers: dict[str, AESGCM] = {key_id: AESGCM(bytes(key)) for key_id, key in keys.items()}
        self._active = list(keys)[-1] if active is None else active
        if self._active not in self._ciphers:
            raise ValueError(f"there is no key {self._active!r}; there are: {', '.join(self._ciphers)}")

    @staticmethod
    def new_key() -> bytes:
        """A new key of 32 random bytes. Keep it where secrets are kept: what it sealed is lost with it."""
        return secrets.token_bytes(32)

    @classmethod
    def from_environment(cls, variable: str = "HEADRACE_KEYS") -> Encryption:
        """Keys from an environment variable: ``id:base64`` separated by commas or spaces, the active one last. Raises
        ``ValueError`` for anything else; keys are never part of a message."""
        return cls.from_text(os.environ.get(variable, ""), variable)

    @classmethod
    def from_text(cls, text: str, called: str) -> Encryption:
        """Keys as :meth:`from_environment` reads them, from elsewhere; ``called`` is what messages call the text."""
        keys: dict[str, bytes] = {}
        for number, part in enumerate(re.split(r"[,\s]+", text.strip()), 1):
            key_id, mark, data = part.partition(":")
            try:
                key = base64.b64decode(data, validate=True)
            except binascii.Error:
                mark = ""
                key = b""
            if not mark:
                raise ValueError(
                    f"{called}: part {number} is not `id:base64`; a key is made by: "
                    "python -c 'import base64, secrets; print(base64.b64encode(secrets.token_bytes(32)).decode())'"
                )
            keys[key_id] = key
        return cls(keys)

    def encode(self, data: bytes, place: bytes) -> Encoded:
        """Encrypt under the active key."""
        nonce = os.urandom(_NONCE_BYTES)
        return Encoded(f"{self.name}:{self._active}", nonce + self._ciphers[self._active].encrypt(nonce, data, place))

    def decode(self, data: bytes, label: str, place: bytes) -> bytes:
        """Decrypt under the key the label names."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - an extra

        key_id = label.partition(":")[2]
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise PayloadSealed(
                f"this payload is sealed with key {key_id!r}, which is not among the keys: {', '.join(self._ciphers)}",
                hint="add that key; a key is needed for as long as what it sealed is kept",
            )
        try:
            return cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], place)
        except (InvalidTag, ValueError):
            raise StoreCorrupt(
                f"a payload ({place.decode('utf-8', 'replace')}) cannot be decrypted: key {key_id!r} is another one than "
                "it was sealed with, or the payload was changed or moved",
                hint="check the key; if it is right, restore the database from a backup",
            ) from None
