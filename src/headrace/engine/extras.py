"""What a run may be created with, besides its workflow and parameters."""

from __future__ import annotations

from typing import Any

import msgspec


class RunExtras(msgspec.Struct, frozen=True, kw_only=True):
    """``key``: the business key, of which one unfinished run per workflow may exist; ``kept_by``: states in which a run
    that has ended still keeps it. ``attributes`` are searched, ``memo`` is shown. ``signals`` (name, payload) wait for
    the code when it begins. ``headers`` travel beside the parameters."""

    key: str | None = None
    kept_by: tuple[str, ...] = ()
    attributes: dict[str, Any] = {}
    memo: dict[str, Any] = {}
    signals: list[tuple[str, Any]] = []
    headers: dict[str, str] = {}


NO_EXTRAS = RunExtras()
