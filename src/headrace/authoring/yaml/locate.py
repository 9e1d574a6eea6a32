"""From a path in a definition back to line and column.

Positions are not kept while reading, because that would cost more than reading itself; when a problem has to be shown
the text is parsed once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, cast

import yaml

from headrace.authoring.loaded import SourcePath
from headrace.authoring.yaml.reader import events

Position = tuple[int, int]
"""Line and column, from 1."""


class Key(str):
    """The last part of a path whose key is wrong, not its value: the key's position is meant."""

    __slots__ = ()


class Locator:
    """Finds positions in one text. ``data`` is what was read from it: it tells which paths exist."""

    def __init__(self, text: str, data: Any, source: str) -> None:
        self.text = text
        self.data = data
        self.source = source

    def __call__(self, path: SourcePath) -> str:
        """``source:line:column`` of a path in the text or in the specification made from it."""
        return self.many([path])[0][1]

    def many(self, paths: Iterable[SourcePath]) -> list[tuple[Position, str]]:
        """The same for several paths in one pass, with the bare position to sort by."""
        found = [translate(path, self.data) for path in paths]
        positions = _positions(self.text, set(found))
        places: list[tuple[Position, str]] = []
        for path in found:
            key, value = positions.get(path, ((1, 1), (1, 1)))
            position = key if path and isinstance(path[-1], Key) else value
            places.append((position, f"{self.source}:{position[0]}:{position[1]}"))
        return places


def translate(path: SourcePath, data: Any) -> SourcePath:
    """The longest beginning of a path that is in the data; paths of a specification become those of its source."""
    if len(path) > 1 and path[0] == "tasks" and isinstance(data, dict):
        tasks: Any = cast("dict[str, Any]", data).get("tasks")
        at: str | int = path[1]
        task: Any = cast("dict[Any, Any]", tasks).get(at) if isinstance(tasks, dict) else None
        if isinstance(tasks, list) and isinstance(at, str):
            entries = enumerate(cast("list[Any]", tasks))
            at, task = next(
                ((i, entry) for i, entry in entries if isinstance(entry, dict) and entry.get("id") == at), (at, None)
            )
        rest = path[2:]
        if isinstance(task, dict) and rest:
            rest = (_source_key(rest[0], cast("dict[str, Any]", task), rest), *rest[1:])
        path = ("tasks", at, *rest)
    existing: list[str | int] = []
    for part in path:
        if isinstance(data, dict) and part in data:
            data = cast("dict[Any, Any]", data)[part]
        elif isinstance(data, list) and isinstance(part, int) and 0 <= part < len(cast("list[Any]", data)):
            data = cast("list[Any]", data)[part]
        else:
            break
        existing.append(part)
    return tuple(existing)


_OWN_NAMES: dict[str, str] = {"args": "with", "timeouts": "timeout"}


def _source_key(name: str | int, task: dict[str, Any], path: SourcePath) -> str | int:
    if name in task or not isinstance(name, str):
        return name
    if name in ("config", "kind"):
        from headrace.authoring.yaml.fields import TASK_FIELDS  # noqa: PLC0415 - fields need nothing of this module

        return next((key for key in task if key not in TASK_FIELDS), name)
    return _OWN_NAMES.get(name, name)


def _positions(text: str, wanted: set[SourcePath]) -> dict[SourcePath, tuple[Position, Position]]:
    """Key and value positions of the wanted paths. A text that cannot be parsed has none: JSON with tabs, perhaps."""
    found: dict[SourcePath, tuple[Position, Position]] = {}
    with suppress(yaml.YAMLError):
        _walk(text, wanted, found.__setitem__)
    return found


def _walk(text: str, wanted: set[SourcePath], report: Callable[[SourcePath, tuple[Position, Position]], None]) -> None:
    left = len(wanted)
    # One frame per open collection: is it a mapping, the pending key and its position, and the index in a list.
    frames: list[_Frame] = []
    for event in events(text):
        if isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            frames.pop()
            if frames:
                frames[-1].advance()
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        mark = cast("yaml.Mark", event.start_mark)
        position = (mark.line + 1, mark.column + 1)
        frame = frames[-1] if frames else None
        if frame is not None and frame.is_mapping and frame.key is None:
            frame.key = getattr(event, "value", "")
            frame.key_position = position
            continue
        path = tuple(cast("str | int", each.key if each.is_mapping else each.index) for each in frames)
        if path in wanted:
            key_position = frame.key_position if frame is not None and frame.is_mapping else position
            report(path, (key_position, position))
            left -= 1
            if not left:
                return
        if isinstance(event, yaml.CollectionStartEvent):
            frames.append(_Frame(isinstance(event, yaml.MappingStartEvent)))
        elif frame is not None:
            frame.advance()


class _Frame:
    __slots__ = ("index", "is_mapping", "key", "key_position")

    def __init__(self, is_mapping: bool) -> None:
        self.is_mapping = is_mapping
        self.key: str | None = None
        self.key_position: Position = (1, 1)
        self.index = 0

    def advance(self) -> None:
        self.key = None
        self.index += 1
