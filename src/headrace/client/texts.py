"""Refuses texts that no store can keep, before anything is stored."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

from headrace.core.errors import InvalidCommand, InvalidDefinition, InvalidParams, Problem


def check_texts(name: str, found: str, params: Mapping[str, Any], tags: Mapping[str, str], key: str | None) -> None:
    """Refuse what no store can keep: texts that are no Unicode, such as names of files from before UTF-8. ``found`` is
    where the workflow ``name`` is. Raises :class:`InvalidDefinition`, :class:`InvalidParams`, :class:`InvalidCommand`."""
    try:
        found.encode()
    except UnicodeEncodeError:
        hint = "rename the file or the folder: its name is not UTF-8"
        problem = Problem(f"its path {found!a} is no Unicode", hint=hint)
        raise InvalidDefinition([problem], source=f"workflow {name!r}") from None
    problems: list[Problem] = []
    for param, value in params.items():
        try:
            msgspec.json.encode({param: value}, enc_hook=str)
        except UnicodeEncodeError as error:
            problems.append(Problem(f"{ascii(error.object)[:100]} is no Unicode", path=(ascii(param)[1:-1],)))
        except (TypeError, ValueError, RecursionError):
            continue  # no plain value: said by who stores it
    if problems:
        raise InvalidParams(problems, workflow=name)
    for what, text in [*(("tag", text) for pair in tags.items() for text in pair), ("key", key or "")]:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidCommand(f"the {what} {text!a} is no Unicode", hint="give it as UTF-8") from None


def texts_of(params: Mapping[str, Any], from_strings: bool | AbstractSet[str]) -> Mapping[str, Any]:
    """The parameters that are texts of a command line."""
    return params if isinstance(from_strings, bool) else {name: params[name] for name in from_strings}
