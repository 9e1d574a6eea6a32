"""The keys of the configuration as a table, and how a value for one is read."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from headrace.config.settings import Change, Settings
from headrace.core.durations import format_duration, parse_duration

Path = tuple[str, ...]

_BYTES = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?b|b)?\s*", re.IGNORECASE)
_BYTE_UNITS = {
    "b": 1,
    **{name: 1000**power for power, name in enumerate(("kb", "mb", "gb", "tb"), 1)},
    **{name: 1024**power for power, name in enumerate(("kib", "mib", "gib", "tib"), 1)},
}


class Key(msgspec.Struct, frozen=True):
    """One key. ``path``: its sections and its name. ``kind``: ``text``, ``whole``, ``duration``, ``bytes``, ``choice``,
    ``texts`` or ``mapping``. ``type``: as msgspec checks it. ``optional``: has no value unless one is given."""

    path: Path
    kind: str
    type: Any
    default: Any
    optional: bool
    change: Change
    text: str
    meta: Any
    choices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The path as it is written: ``slots.threads``."""
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """The environment variable that sets it: ``HEADRACE_SLOTS__THREADS``."""
        return "HEADRACE_" + "__".join(self.path).upper()

    @property
    def is_secret(self) -> bool:
        """The value is never shown, wherever it came from."""
        return bool(self.extra.get("secret"))

    @property
    def extra(self) -> Mapping[str, Any]:
        """What was declared besides type and bounds."""
        return cast("Mapping[str, Any]", self.meta.extra)

    @property
    def expected(self) -> str:
        """What a value has to be, for messages."""
        low, high = self.meta.ge, self.meta.le
        if self.kind == "duration":
            text = "a duration such as 30s, 5m or 2d"
            bounds = [format_duration(float(bound)) for bound in (low, high) if bound]
            return text + (f" from {bounds[0]} to {bounds[1]}" if len(bounds) == 2 else "")
        if self.kind == "bytes":
            return f"a size such as 512MiB or 2GiB, at least {low:,} bytes"
        if self.kind == "whole":
            return f"a whole number from {low:,} to {high:,}"
        return {
            "choice": f"one of {', '.join(self.choices)}",
            "texts": "a list of texts",
            "mapping": "a mapping of names to texts",
            "text": "a text that is not empty" if self.meta.min_length and not self.meta.pattern else "a text",
        }[self.kind] + (f" of letters, digits and ._- (at most {self.meta.max_length})" if self.meta.pattern else "")

    @property
    def default_text(self) -> str:
        """The default for people."""
        text = self.extra.get("default_text")
        if text:
            return cast("str", text)
        return shown(self, self.default) if self.default not in ((), {}) else "none"

    def read(self, value: Any, *, from_text: bool = False) -> Any:
        """The value in its type. With ``from_text`` texts are converted, as on a command line: lists are separated by
        commas (or are JSON), mappings are ``name=value`` pairs. Raises ``ValueError`` with what was expected."""
        try:
            return msgspec.convert(self._prepared(value, from_text), self.type, strict=not from_text)
        except (msgspec.ValidationError, ValueError, OverflowError):
            found = "a value that is not shown" if self.is_secret else _quoted(value)
            raise ValueError(f"expected {self.expected}, not {found}") from None

    def _prepared(self, value: Any, from_text: bool) -> Any:
        if self.kind == "duration":
            return parse_duration(value)
        if self.kind == "bytes" and isinstance(value, str):
            return _bytes(value)
        if self.kind == "texts" and isinstance(value, str):
            if from_text and value.lstrip().startswith("["):
                return msgspec.json.decode(value)
            return [part.strip() for part in value.split(",") if part.strip()] if from_text else [value]
        if self.kind == "mapping" and from_text and isinstance(value, str):
            if value.lstrip().startswith("{"):
                return msgspec.json.decode(value)
            return dict(_pair(part) for part in value.split(",") if part.strip())
        if self.kind == "text" and not isinstance(value, str):
            raise ValueError
        return value


def _pair(text: str) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not mark or not name.strip():
        raise ValueError
    return name.strip(), value.strip()


def _bytes(text: str) -> int:
    found = _BYTES.fullmatch(text)
    if found is None:
        raise ValueError
    return int(float(found[1]) * _BYTE_UNITS[(found[2] or "b").lower()])


def _quoted(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "..."


def shown(key: Key, value: Any) -> str:
    """A value as one would write it."""
    if value is None:
        return "none"
    if key.kind == "duration":
        return format_duration(value)
    if key.kind == "texts":
        return "[" + ", ".join(msgspec.json.encode(text).decode() for text in value) + "]"
    if key.kind == "mapping":
        return msgspec.json.encode(value).decode()
    return f"{value:,}".replace(",", "_") if key.kind in ("whole", "bytes") else str(value)


def _keys_of(struct: type[msgspec.Struct], path: Path) -> dict[Path, Key]:
    hints = typing.get_type_hints(struct, include_extras=True)
    found: dict[Path, Key] = {}
    for field in msgspec.structs.fields(struct):
        hint = hints[field.name]
        here = (*path, field.name)
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            found |= _keys_of(hint, here)
        else:
            found[here] = _key(here, hint, field)
    return found


def _key(path: Path, hint: Any, field: Any) -> Key:
    meta = hint.__metadata__[0]
    bare = hint.__origin__
    optional = typing.get_origin(bare) in (types.UnionType, typing.Union)
    if optional:
        [bare] = [part for part in typing.get_args(bare) if part is not type(None)]
    choices = typing.get_args(bare) if typing.get_origin(bare) is typing.Literal else ()
    if choices:
        kind = "choice"
    elif meta.extra["duration"]:
        kind = "duration"
    elif meta.extra.get("bytes"):
        kind = "bytes"
    else:
        kind = {int: "whole", str: "text", tuple: "texts", dict: "mapping"}[typing.get_origin(bare) or bare]
    # Bounds belong to the value, not to "or nothing".
    checked = typing.Annotated[bare, meta]
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return Key(path, kind, checked, default, optional, meta.extra["change"], meta.description, meta, choices)


KEYS: Mapping[Path, Key] = _keys_of(Settings, ())
"""Every key by its path, in the order of the declaration."""

SECTIONS: Mapping[str, str] = {
    field.name: " ".join((field.type.__doc__ or "").split())
    for field in msgspec.structs.fields(Settings)
    if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct)
}
"""The sections and what they are about."""


def value_of(settings: Settings, path: Path) -> Any:
    """A key's value."""
    value: Any = settings
    for part in path:
        value = getattr(value, part)
    return value


def settings_of(values: Mapping[Path, Any]) -> Settings:
    """Settings with the given values, already read, and defaults for the rest."""
    sections: dict[str, dict[str, Any]] = {}
    plain: dict[str, Any] = {}
    for path, value in values.items():
        if len(path) == 1:
            plain[path[0]] = value
        else:
            sections.setdefault(path[0], {})[path[1]] = value
    base = Settings()
    for name, given in sections.items():
        plain[name] = msgspec.structs.replace(getattr(base, name), **given)
    return msgspec.structs.replace(base, **plain)
