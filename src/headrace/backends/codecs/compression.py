"""Payload codec ``zstd``: smaller payloads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from headrace.contracts.codec import Encoded
from headrace.core.errors import StoreCorrupt

if TYPE_CHECKING:
    import zstandard

BYTES_MAX = 4 * 1024 * 1024 * 1024
"""The most a payload may unpack to."""

GAIN_MIN = 0.05
"""What would not become smaller by this share stays as it is."""


class Compression:
    """Compresses payloads of at least ``bytes_min`` bytes that become smaller by it. ``level``: zstd's, 1 to 19."""

    name = "zstd"

    def __init__(self, *, bytes_min: int = 1024, level: int = 3) -> None:
        if not 1 <= level <= 19:
            raise ValueError(f"level must be between 1 and 19, not {level}")
        self._bytes_min = bytes_min
        self._level = level
        self._local = threading.local()

    def encode(self, data: bytes, place: bytes) -> Encoded | None:
        """Compress, if it is worth while."""
        if len(data) < self._bytes_min:
            return None
        packed = self._compressor().compress(data)
        return Encoded(self.name, packed) if len(packed) <= len(data) * (1 - GAIN_MIN) else None

    def decode(self, data: bytes, label: str, place: bytes) -> bytes:
        """Decompress, at most :data:`BYTES_MAX`."""
        import zstandard  # noqa: PLC0415 - 10 ms that most programs never need

        try:
            size = zstandard.frame_content_size(data)
            if 0 <= size <= BYTES_MAX:
                return zstandard.ZstdDecompressor().decompress(data, max_output_size=BYTES_MAX)
            reason = f"it says it holds {size:,} bytes"
        except zstandard.ZstdError as error:
            reason = str(error)
        raise StoreCorrupt(f"a compressed payload is damaged: {reason}", hint="restore it from a backup")

    def _compressor(self) -> zstandard.ZstdCompressor:
        """One per thread: they are not safe to share."""
        found = getattr(self._local, "compressor", None)
        if found is None:
            import zstandard  # noqa: PLC0415

            found = self._local.compressor = zstandard.ZstdCompressor(level=self._level)
        return found
