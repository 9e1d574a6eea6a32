"""Payload codecs (:mod:`headrace.contracts.codec`): :class:`Compression` and :class:`Encryption`."""

from headrace.backends.codecs.compression import Compression
from headrace.backends.codecs.encryption import Encryption

__all__ = ["Compression", "Encryption"]
