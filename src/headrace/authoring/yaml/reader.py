"""YAML or JSON text to plain dicts, lists and scalars.

YAML is read as a stream of parser events, which is several times faster than building node trees and lets every bound
hold while reading: depth, size, and how much aliases multiply. Keys are always text, as they are written. A key given
twice is an error: YAML would silently keep the last one, and a task would be gone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from headrace.authoring.yaml.scalars import plain_scalar
from headrace.core.errors import InvalidDefinition, Problem

if TYPE_CHECKING:
    import yaml
    from yaml.events import Event

SOURCE_BYTES_MAX = 32 * 1024 * 1024
"""The largest definition file."""

DEPTH_MAX = 100
"""How deeply lists and mappings may be nested."""

ALIAS_NODES_MAX = 1_000_000
"""How many values aliases (``*name``) may add in total: a few lines of them can stand for billions."""

_MERGE = "".join(("<", "<"))
"""An unquoted ``<<``: told apart from a quoted one, which is a key like any other, by identity."""

_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq"))
_STR_TAG = "tag:yaml.org,2002:str"
_UNQUOTED = 'quote templates: "{{ params.name }}"; a bare { begins a mapping'


def decode(data: bytes, source: str) -> str:
    """Text of a file. Raises :class:`InvalidDefinition` if it is too large or not UTF-8."""
    if len(data) > SOURCE_BYTES_MAX:
        most = f"{SOURCE_BYTES_MAX // 1_048_576} MiB"
        raise _invalid(source, f"the file is larger than {most}, which is the most", "split it up")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _invalid(source, "the file is UTF-16, and UTF-8 was expected", "save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        message = f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise _invalid(source, message, "save the file as UTF-8", line, column) from None


def read_json(text: str, source: str) -> Any:
    """The data of a JSON text. Raises :class:`InvalidDefinition` with line and column."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise _invalid(source, f"not JSON: {error.msg}", "", error.lineno, error.colno) from None
    except RecursionError:
        raise _invalid(source, f"lists and mappings are nested more than {DEPTH_MAX} levels deep", "") from None
    except ValueError as error:
        # Python's JSON reader does not say where; the YAML reader refuses the same and does.
        read_yaml(text, source)
        raise _invalid(source, str(error), "") from None


def read_yaml(text: str, source: str) -> Any:
    """The data of the single document in a YAML text. Raises :class:`InvalidDefinition` with line and column."""
    import yaml  # noqa: PLC0415 - programs that never read a file do not pay for it

    try:
        return _Builder(source).build(events(text))
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(source, text, error) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"character {chr(cast('int', error.character))!r} is not allowed in YAML"
        raise _invalid(source, message, "remove it or escape it in double quotes", line) from None


def events(text: str) -> Iterator[Event]:
    """The parser events of a text, from the C parser where PyYAML has it."""
    import yaml  # noqa: PLC0415

    parser = getattr(yaml, "CLoader", None) or yaml.SafeLoader
    return yaml.parse(text, Loader=parser)


class _Builder:
    """Builds the data of one document from events, with an explicit stack."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.open_anchors: set[str] = set()
        self.alias_nodes = 0
        self.texts: dict[str, str] = {}
        """Every text once: in a graph of 100,000 tasks, ids stand in needs again and the rest says much the same."""
        self.merged: dict[int, set[str]] = {}
        """Keys that came into a mapping by ``<<``, by its identity: its own keys of that name are no duplicates."""

    def build(self, stream: Iterator[Event]) -> Any:  # noqa: PLR0912, PLR0915 - one hot loop over one kind of thing
        """The document's data."""
        from yaml import events as kinds  # noqa: PLC0415

        scalar, alias, mapping, sequence, end_mapping, end_sequence, document = (
            kinds.ScalarEvent,
            kinds.AliasEvent,
            kinds.MappingStartEvent,
            kinds.SequenceStartEvent,
            kinds.MappingEndEvent,
            kinds.SequenceEndEvent,
            kinds.DocumentStartEvent,
        )
        # One frame per open collection: the collection, its pending key, its anchor, and its size.
        stack: list[tuple[Any, str | None, str | None, int]] = []
        current: Any = None  # a dict, a list, or None outside
        key: str | None = None
        anchor: str | None = None
        size = 0
        root: Any = None
        documents = 0
        for event in stream:
            kind = type(event)
            is_mapping = isinstance(current, dict)
            is_key = key is None and is_mapping
            if kind is scalar:
                if is_key:
                    key = self.key(event, cast("dict[str, Any]", current))
                    continue
                value = self.scalar(event)
                size += 1
            elif kind is mapping or kind is sequence:
                if is_key:
                    raise self.wrong(event, "a key must be plain text", _UNQUOTED)
                if len(stack) >= DEPTH_MAX:
                    raise self.wrong(event, f"lists and mappings are nested more than {DEPTH_MAX} levels deep")
                self.check_tag(event)
                stack.append((current, key, anchor, size))
                current, key, anchor, size = {} if kind is mapping else [], None, self.open(event), 1
                continue
            elif kind is end_mapping or kind is end_sequence:
                value, done_anchor, done_size = current, anchor, size
                current, key, anchor, size = stack.pop()
                size += done_size
                if done_anchor is not None:
                    self.open_anchors.discard(done_anchor)
                    self.anchors[done_anchor] = (value, done_size)
            elif kind is alias:
                if is_key:
                    raise self.wrong(event, "a key must be plain text, not an alias")
                value, more = self.alias(event)
                size += more
            else:
                if kind is document:
                    documents += 1
                    if documents > 1:
                        hint = 'one file holds one workflow; remove the "---" and what follows'
                        raise self.wrong(event, "there is a second document", hint)
                continue
            if isinstance(current, dict):
                if key is _MERGE:
                    self.merge(event, cast("dict[str, Any]", current), value)
                else:
                    current[key] = value
                key = None
            elif current is None:
                root = value
            else:
                current.append(value)
        return root

    def wrong(self, event: Any, message: str, hint: str = "") -> InvalidDefinition:
        """An error at the place of an event."""
        return _invalid(self.source, message, hint, event.start_mark.line + 1, event.start_mark.column + 1)

    def key(self, event: Any, mapping: dict[str, Any]) -> str:
        text: str = event.value
        if text in mapping:
            merged = self.merged.get(id(mapping), set())
            if text not in merged:
                hint = "YAML would keep only the last one; rename or remove one of them"
                raise self.wrong(event, f"{text!r} is there twice", hint)
            merged.discard(text)
        self.check_tag(event)
        if event.anchor is not None:
            self.anchors[event.anchor] = (text, 1)
        return _MERGE if text == "<<" and event.implicit[0] else self.texts.setdefault(text, text)

    def scalar(self, event: Any) -> Any:
        value: Any = event.value
        if event.tag is not None and event.tag != "!":
            value = self.tagged(event)
        elif event.implicit[0]:
            try:
                value = plain_scalar(value)
            except ValueError as error:
                raise self.wrong(event, str(error)) from None
        if type(value) is str:
            value = self.texts.setdefault(value, value)
        if event.anchor is not None:
            self.anchors[event.anchor] = (value, 1)
        return value

    def tagged(self, event: Any) -> Any:
        self.check_tag(event)
        if event.tag == _STR_TAG:
            return event.value
        try:
            value = plain_scalar(event.value)
        except ValueError as error:
            raise self.wrong(event, str(error)) from None
        wanted = event.tag.rpartition(":")[2]
        if wanted == "float" and type(value) is int:
            return float(value)
        if {"int": int, "float": float, "bool": bool, "null": type(None)}.get(wanted) is not type(value):
            raise self.wrong(event, f"{event.value!r} is not a {wanted}")
        return value

    def check_tag(self, event: Any) -> None:
        if event.tag is not None and event.tag != "!" and event.tag not in _TAGS:
            raise self.wrong(event, f"the tag {event.tag!r} is not known", "remove it")

    def open(self, event: Any) -> str | None:
        name: str | None = event.anchor
        if name is not None:
            self.open_anchors.add(name)
        return name

    def alias(self, event: Any) -> tuple[Any, int]:
        name: str = event.anchor
        if name in self.open_anchors:
            raise self.wrong(event, f"*{name} is used inside &{name}: it would contain itself")
        if name not in self.anchors:
            raise self.wrong(event, f"there is no &{name} before this *{name}")
        value, size = self.anchors[name]
        self.alias_nodes += size
        if self.alias_nodes > ALIAS_NODES_MAX:
            raise self.wrong(event, f"the aliases of this file add more than {ALIAS_NODES_MAX:,} values")
        return value, size

    def merge(self, event: Any, mapping: dict[str, Any], value: Any) -> None:
        """``<<: *defaults``: keys that are not in the mapping itself. What comes after it in the mapping still wins."""
        sources = cast("list[Any]", value if isinstance(value, list) else [value])
        for source in sources:
            if not isinstance(source, dict):
                raise self.wrong(event, '"<<" takes a mapping or a list of mappings')
            for key, part in cast("dict[str, Any]", source).items():
                if key not in mapping:
                    mapping[key] = part
                    self.merged.setdefault(id(mapping), set()).add(key)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key!r} is there twice in one object")
            seen.add(key)
    return mapping


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _invalid(
    source: str, message: str, hint: str, line: int | None = None, column: int | None = None
) -> InvalidDefinition:
    where = source if line is None else f"{source}:{line}" if column is None else f"{source}:{line}:{column}"
    return InvalidDefinition([Problem(message, where=where, hint=hint)], source=source)


def _syntax_error(source: str, text: str, error: yaml.MarkedYAMLError) -> InvalidDefinition:
    mark = error.problem_mark or error.context_mark
    problem = error.problem or "this is not YAML"
    if mark is None:
        return _invalid(source, problem, error.context or "")
    lines = text.splitlines()
    rest = lines[mark.line][mark.column :] if mark.line < len(lines) else ""
    said = f"{problem} {error.context or ''}"
    if rest.startswith("\t"):
        message, hint = "a tab cannot be used here", "indent with spaces"
    elif "cannot start any token" in said:
        message, hint = f"{rest[:1]!r} cannot begin a value", "quote the text"
    else:
        found = ((message, hint) for symptom, message, hint in _PLAIN_WORDS if symptom in said)
        message, hint = next(found, (problem, error.context or ""))
    if error.context_mark is not None and error.context_mark.line != mark.line:
        hint += f"; it began on line {error.context_mark.line + 1}"
    return _invalid(source, message, hint, mark.line + 1, mark.column + 1)


_PLAIN_WORDS = (
    ("violates indentation", "a tab cannot be used here", "indent with spaces"),
    ("mapping values are not allowed", 'a ":" where no key can be', 'quote text that contains ": "'),
    ("could not find expected ':'", 'a key without ":"', 'write "key: value"; quote text that spans lines'),
    ("flow mapping", 'this { } is not closed, or lacks a "," or ":"', _UNQUOTED),
    ("flow sequence", 'this [ ] is not closed, or lacks a ","', "quote texts that hold , [ ] { } or :"),
    ("found unexpected end of stream", "a quoted text is not closed", "add the closing quote"),
    ("did not find expected key", "this fits neither the lines above nor a new key", "check indentation and quotes"),
    ("block collection", "the indentation does not fit the lines above", 'align the "-" of one list'),
    ("block sequence entries", 'a "-" where no list can begin', "put the list on the next line, indented"),
    ("undefined tag handle", 'a "!" begins a tag', "quote the text"),
)
"""What libyaml says, and what it means to a person."""
