"""What a caller sends, as it is stored."""

from __future__ import annotations

from typing import Any

from headrace.contracts.execution import AttemptError
from headrace.core.errors import InvalidCommand
from headrace.durable.running import plain as plain_or_error


def plain(value: Any) -> Any:
    """The value as JSON can hold it. Raises :class:`InvalidCommand` for what it cannot."""
    try:
        return plain_or_error(value)
    except AttemptError as error:
        raise InvalidCommand(str(error)) from None
