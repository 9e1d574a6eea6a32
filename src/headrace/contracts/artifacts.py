"""Large values and files, addressed by their content: the same bytes have the same name, for ever."""

from __future__ import annotations

from typing import Protocol


class ArtifactStore(Protocol):
    """A content-addressed store. Names are ``sha256`` hex digests of the uncompressed bytes."""

    def put(self, data: bytes) -> str:
        """Store bytes, return their digest. Durable on return; idempotent; safe from any thread and process: readers
        never see a partial file."""
        ...

    def get(self, digest: str) -> bytes:
        """The bytes. Raises :class:`headrace.core.errors.NotFound` if absent and
        :class:`headrace.core.errors.StoreCorrupt` if they no longer match their digest."""
        ...

    def has(self, digest: str) -> bool:
        """Whether the digest is stored."""
        ...

    def collect(self, keep: set[str], older_than_seconds: float) -> int:
        """Delete what is not in ``keep`` and older than the bound; returns how many went."""
        ...
