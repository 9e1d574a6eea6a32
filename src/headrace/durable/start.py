"""How a run is to be started: what ``hr.run(...)`` takes and ``workflow.options(...)`` remembers."""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec

from headrace.contracts.store import KEY_CHARS_MAX
from headrace.core.errors import InvalidCommand
from headrace.core.states import FINAL_RUN_STATES, RunState
from headrace.core.where import items_of

OnConflict = Literal["fail", "use_existing", "terminate"]
"""What to do if an unfinished run has the key: raise :class:`AlreadyRunning`, return that run, or end it first."""

OnReuse = Literal["allow", "allow_failed", "reject"]
"""Whether the key of a run that has ended may be used again: always, unless it succeeded, or never."""


class StartOptions(msgspec.Struct, frozen=True, kw_only=True):
    """``key`` names what the run is about (an order, a customer): one unfinished run per workflow and key. ``tags`` add
    to the workflow's own. ``attributes`` (text, numbers, booleans, lists of these) are searched by
    ``runs list --where``, ``memo`` is only shown."""

    key: str | None = None
    on_conflict: OnConflict = "fail"
    on_reuse: OnReuse = "allow"
    tags: dict[str, str] = {}
    attributes: dict[str, Any] = {}
    memo: dict[str, Any] = {}

    def check(self) -> StartOptions:
        """Itself. Raises :class:`InvalidCommand` for what cannot be meant."""
        for name, value, known in (
            ("on_conflict", self.on_conflict, get_args(OnConflict)),
            ("on_reuse", self.on_reuse, get_args(OnReuse)),
        ):
            if value not in known:
                raise InvalidCommand(f"{name}={value!r}: expected one of {', '.join(known)}")
        key: Any = self.key  # callers without a type checker may give anything
        if key is None:
            if self.on_conflict != "fail" or self.on_reuse != "allow":
                raise InvalidCommand("on_conflict and on_reuse are about the key of a run: give key=")
        elif not isinstance(key, str) or not 0 < len(key) <= KEY_CHARS_MAX:
            raise InvalidCommand(f"key={key!r}: expected a text of 1 to {KEY_CHARS_MAX} characters")
        elif self.on_conflict == "terminate" and self.on_reuse == "reject":
            raise InvalidCommand(
                "on_conflict='terminate' with on_reuse='reject' would end a run whose key is not free afterwards",
                hint="choose on_reuse='allow' or 'allow_failed', or another on_conflict",
            )
        check_attributes(self.attributes)
        return self

    @property
    def kept_by(self) -> tuple[str, ...]:
        """States in which a run that has ended keeps its key."""
        if self.on_reuse == "allow":
            return ()
        if self.on_reuse == "allow_failed":
            return (RunState.SUCCEEDED,)
        return tuple(sorted(FINAL_RUN_STATES))


DEFAULT_START = StartOptions()


def check_attributes(values: dict[str, Any]) -> None:
    """Raise :class:`InvalidCommand` for attributes that could not be searched."""
    for name, value in values.items():
        items = value if isinstance(value, list | tuple) else [value]
        if value is not None and len(items_of(value)) != len(items):
            raise InvalidCommand(
                f"attribute {name!r} is a {type(value).__name__}: expected text, a number, a boolean or a list of these",
                hint="what is only to be shown goes into the memo",
            )


__all__ = ["DEFAULT_START", "OnConflict", "OnReuse", "StartOptions", "check_attributes"]
