"""The configuration for people and for editors: the reference page, the JSON Schema, and what is in force."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

from headrace.config.keys import KEYS, SECTIONS, Key, Path, shown, value_of
from headrace.config.load import Configuration
from headrace.config.settings import Settings
from headrace.core.durations import format_duration

HIDDEN = "***"

_URLS = (("store",), ("broker",), ("keeper",))

_PASSWORD = re.compile(r"(?<=://)([^/@:]*):[^@/]*(?=@)")
_PASSWORD_OPTION = re.compile(r"(?<=[?&])((?:ssl)?password)=[^&]*")

_TYPES = {
    "text": "text",
    "whole": "whole number",
    "duration": "duration",
    "bytes": "size",
    "texts": "list of texts",
    "mapping": "mapping",
}


def without_password(url: str) -> str:
    """A store URL that may be shown."""
    return _PASSWORD_OPTION.sub(rf"\1={HIDDEN}", _PASSWORD.sub(rf"\1:{HIDDEN}", url))


def entries(
    configuration: Configuration, in_force: Settings | None = None, secret: Collection[Path] = ()
) -> list[dict[str, Any]]:
    """Every key with its value, where it comes from, and when a change takes effect. Secrets are not among the values:
    their entry says what they were taken from. ``in_force``: what a running node goes by; keys that differ from the
    configuration because they need a restart say so. ``secret``: keys whose value in force was a secret."""
    found: list[dict[str, Any]] = []
    for path, key in KEYS.items():
        value = value_of(in_force or configuration.settings, path)
        given = configuration.given.get(path)
        if value != value_of(configuration.settings, path):
            hidden = key.is_secret or path in secret
            plain = HIDDEN if hidden else without_password(value) if path in _URLS and value else value
            text = HIDDEN if hidden else shown(key, plain)
            found.append(
                {
                    "key": key.name,
                    "value": plain,
                    "text": text,
                    "origin": f"before; {configuration.origin(path)} needs a restart",
                    "change": str(key.change),
                }
            )
            continue
        entry: dict[str, Any] = {"key": key.name, "value": value, "text": shown(key, value)}
        if given is None:
            entry["text"] = key.default_text
        elif given.secret is not None:
            entry["value"] = HIDDEN
            entry["text"] = f"{HIDDEN} (from {given.secret})" if not key.is_secret else HIDDEN
        elif path in _URLS and value:
            entry["value"] = entry["text"] = without_password(value)
        entry["origin"] = configuration.origin(path)
        entry["change"] = str(key.change)
        found.append(entry)
    return found


def reference() -> str:
    """The tables of ``docs/reference/configuration.md``."""
    lines: list[str] = []
    for name in ("", *SECTIONS):
        keys = [key for path, key in KEYS.items() if (path[0] if len(path) > 1 else "") == name]
        title = f"## `[{name}]`" if name else "## At the top"
        lines += [title, "", *([SECTIONS[name], ""] if name else [])]
        lines += ["| key | type | default | a change takes effect | meaning |", "|---|---|---|---|---|"]
        lines += [_row(key) for key in keys]
        lines.append("")
    return "\n".join(lines)


def _row(key: Key) -> str:
    kind = " or ".join(f"`{choice}`" for choice in key.choices) if key.choices else _TYPES[key.kind]
    kind += _bounds(key)
    default = key.default_text
    if key.extra.get("default_text") is None and default != "none":
        default = f"`{default}`"
    text = key.text
    example: str | list[str] | None = key.extra.get("example")
    if example is not None:
        text += f" Example: `{_toml(example)}`."
    if key.is_secret:
        text += " Never shown."
    name = key.path[-1]
    return f"| `{name}` | {kind} | {default} | {key.change} | {text} `{key.variable}` |".replace("\n", " ")


def _bounds(key: Key) -> str:
    low, high = key.meta.ge, key.meta.le
    if key.kind == "duration":
        return f", {format_duration(float(low))} to {format_duration(float(high))}" if low and high else ""
    if key.kind == "bytes":
        return f", at least {low // (1 << 20)}MiB"
    return f", {low:,} to {high:,}" if high is not None else ""


def _toml(value: str | Sequence[str]) -> str:
    return f'"{value}"' if isinstance(value, str) else "[" + ", ".join(map(_toml, value)) + "]"


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a configuration file, for editors."""
    properties: dict[str, Any] = {}
    for path, key in KEYS.items():
        if len(path) == 1:
            properties[path[0]] = _schema_of(key)
    for name, text in SECTIONS.items():
        inside = {path[1]: _schema_of(key) for path, key in KEYS.items() if path[0] == name and len(path) > 1}
        properties[name] = {
            "type": "object",
            "description": text,
            "properties": inside,
            "additionalProperties": False,
        }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Headrace configuration",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "$defs": {"elsewhere": _ELSEWHERE},
    }


_ELSEWHERE = {
    "description": "A value that is kept elsewhere: in an environment variable or a file.",
    "type": "object",
    "oneOf": [
        {"properties": {"env": {"type": "string", "minLength": 1}}, "required": ["env"], "additionalProperties": False},
        {
            "properties": {"file": {"type": "string", "minLength": 1}},
            "required": ["file"],
            "additionalProperties": False,
        },
    ],
}


def _schema_of(key: Key) -> dict[str, Any]:
    bounds = {
        name: bound
        for name, bound in (
            ("minimum", key.meta.ge),
            ("maximum", key.meta.le),
            ("minLength", key.meta.min_length),
            ("maxLength", key.meta.max_length),
            ("pattern", key.meta.pattern),
        )
        if bound is not None
    }
    about: dict[str, Any] = {"description": f"{key.text} A change takes effect: {key.change}."}
    texts = {"type": "string"}
    forms: dict[str, dict[str, Any]] = {
        "whole": {"type": "integer", **bounds},
        "choice": {"enum": list(key.choices)},
        "texts": {"anyOf": [{"type": "array", "items": texts}, texts]},
        "mapping": {"type": "object", "additionalProperties": texts},
        "duration": {"anyOf": [texts, {"type": "number", **bounds}]},
        "bytes": {"anyOf": [texts, {"type": "integer", **bounds}]},
        "text": {"anyOf": [{"type": "string", **bounds}, {"$ref": "#/$defs/elsewhere"}]},
    }
    if key.default is not None and not key.is_secret:
        about["default"] = list(key.default) if isinstance(key.default, tuple) else key.default
    return {**forms[key.kind], **about}
