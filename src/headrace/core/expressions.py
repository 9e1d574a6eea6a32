"""Templates and conditions: ``{{ tasks.load.output.rows }}`` in any string of a definition.

A string that is exactly one ``{{ expression }}`` (a line break after it does not count) yields the expression's own
value: a list stays a list. In any other string each expression becomes text: strings as they are, everything else as
JSON (``true``, ``null``, ``{"a": 1}``), because that is what commands, URLs and other programs can read. Nothing is
parsed back: ``"{{ a }}{{ b }}"`` with "1" and "2" is the string "12".

A dot or bracket on a mapping looks up a key and nothing else: ``params.items`` is the parameter of that name. What is
not there is an error that says what is. Reading a name never has an effect and never depends on time or chance.

Plain look-ups, alone or inside text, are nearly all of what real definitions hold. They compile to a closure here, in a
few microseconds. Only what is left is handed to Jinja's sandbox (:mod:`headrace.core.sandbox`), which is parsed when
compiled and turned into code when first rendered.

Names in scope: ``params``, ``tasks`` (``tasks.<id>.output``, ``.state``, ``.error``), ``item`` and ``index`` in a
mapped task, ``run`` (``run.id``, ``.workflow``, ``.tags``, ``.created_at``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, cast, final

import msgspec

from headrace.core.errors import TemplateError
from headrace.core.suggest import closest, listed

Scope = Mapping[str, Any]
Reference = tuple[str | int, ...]
"""A name and the keys taken from it, as far as they are constants: ``("tasks", "load", "output", "rows")``."""

TEXT_CHARS_MAX = 16 * 1024 * 1024
"""The longest text a template may render to."""

DEPTH_MAX = 100
"""How deeply lists and mappings may be nested in a definition."""

CACHED_TEMPLATES_MAX = 8_192
"""Compiled templates kept, least recently used go first."""

FALSE_WORDS = frozenset({"", "false", "no", "off", "0", "none", "null"})
"""What a condition that comes out as text may say for "no", whatever its case; any other text means yes."""

_PATH = r"""([A-Za-z][A-Za-z0-9_]*)((?:\.[A-Za-z_][A-Za-z0-9_]*|\[-?\d{1,9}\]|\['[^'\\{}\n]*'\]|\["[^"\\{}\n]*"\])*)"""
_bare_path = re.compile(rf"\s*{_PATH}\s*").fullmatch
_sole_path = re.compile(rf"\{{\{{\s*{_PATH}\s*\}}\}}\n*").fullmatch
_paths = re.compile(rf"\{{\{{\s*{_PATH}\s*\}}\}}").finditer
_keys = re.compile(r"""\.(\w+)|\[(-?\d+)\]|\[(?:'([^']*)'|"([^"]*)")\]""").findall
_KEYWORDS = frozenset(("true", "false", "none", "True", "False", "None", "not", "loop", "self", "range"))
_NO_NAMES: frozenset[str] = frozenset()


class NeedValue(Exception):
    """Raised by a scope when a large value is not in memory yet. Passes through ``render`` untouched."""

    def __init__(self, digest: str) -> None:
        super().__init__(digest)
        self.digest = digest


@final
class Compiled:
    """A value ready to render.

    ``render(scope)`` returns a value that shares no container with the definition, so user code may change it. It
    raises :class:`TemplateError`, or :class:`NeedValue` if the scope does. ``is_constant``: no template inside.
    ``refs`` holds every look-up in the order of the text; ``names`` and ``tasks`` are what they begin with.
    ``is_text`` is True for a string template that always renders to text.
    """

    __slots__ = ("is_constant", "is_text", "refs", "render")

    def __init__(
        self,
        render: Callable[[Scope], Any],
        refs: tuple[Reference, ...] = (),
        *,
        is_constant: bool = False,
        is_text: bool = False,
    ) -> None:
        self.render = render
        self.refs = refs
        self.is_constant = is_constant
        self.is_text = is_text

    @property
    def names(self) -> frozenset[str]:
        """The top-level names used."""
        return frozenset(cast("str", ref[0]) for ref in self.refs) if self.refs else _NO_NAMES

    @property
    def tasks(self) -> frozenset[str]:
        """Ids of the tasks referred to by a constant name."""
        return frozenset(str(ref[1]) for ref in self.refs if ref[0] == "tasks" and len(ref) > 1)


# ---- compiling -------------------------------------------------------------------------------------------------


def compile_value(value: Any) -> Compiled:
    """Compile every string inside a value of dicts, lists and scalars. Mapping keys are not templates.

    Raises :class:`TemplateError` for a template that cannot be parsed, or nesting over :data:`DEPTH_MAX`.
    """
    return _compile(value, 0)


def compile_template(text: str) -> Compiled:
    """Compile one string."""
    return _template(text) if has_template(text) else _constant(text)


def template_refs(text: str) -> tuple[Reference, ...]:
    """The look-ups of one string with a template, for checks: what :func:`compile_template` would know, without
    making anything to render. Raises :class:`TemplateError`."""
    # The usual spelling is split without a regular expression: this runs once per template of a large graph.
    if text.startswith("{{ ") and text.endswith(" }}") and text.isascii():
        keys = text[3:-3].split(".")
        if all(map(str.isidentifier, keys)) and keys[0] not in _KEYWORDS:
            return (tuple(keys),)
    path = _sole_path(text)
    if path is not None and path[1] not in _KEYWORDS:
        return ((path[1], *_split_keys(path[2])),)
    return _template(text).refs


def compile_condition(text: str) -> Compiled:
    """Compile a ``when``: ``"{{ expression }}"`` or the bare expression. ``render`` returns a bool.

    The truth of a value is Python's (0, empty and null are false), except that text counts as false if it is one of
    :data:`FALSE_WORDS`: whether a flag arrives as ``false`` or ``"false"`` makes no difference.
    """
    compiled = _template(text) if has_template(text) else _bare_expression(text)
    render = compiled.render

    def decide(scope: Scope) -> bool:
        value = render(scope)
        return value.strip().lower() not in FALSE_WORDS if isinstance(value, str) else bool(value)

    return Compiled(decide, compiled.refs)


def has_template(text: str) -> bool:
    """Whether a string is more than a constant."""
    return "{" in text and ("{{" in text or "{%" in text or "{#" in text)


def is_constant(value: Any) -> bool:
    """Whether no string inside a value is a template; cheaper than compiling it. False when nested too deeply to tell:
    compiling will refuse it."""
    return _is_constant(value, DEPTH_MAX)


def _is_constant(value: Any, depth_left: int) -> bool:
    if isinstance(value, str):
        return not has_template(value)
    if isinstance(value, dict):
        parts = cast("dict[Any, Any]", value).values()
    elif isinstance(value, (list, tuple)):
        parts = cast("list[Any]", value)
    else:
        return True
    return depth_left > 0 and all(_is_constant(part, depth_left - 1) for part in parts)


def _constant(value: Any) -> Compiled:
    return Compiled(lambda scope: value, is_constant=True)


def _compile(value: Any, depth: int) -> Compiled:
    if isinstance(value, str):
        return _template(value) if has_template(value) else _constant(value)
    if not isinstance(value, (dict, list, tuple)):
        return _constant(value)
    if depth >= DEPTH_MAX:
        raise TemplateError(f"a value is nested more than {DEPTH_MAX} levels deep")
    if isinstance(value, dict):
        entries = [(key, _compile(part, depth + 1)) for key, part in cast("dict[Any, Any]", value).items()]
        return _mapping(entries)
    return _sequence([_compile(part, depth + 1) for part in cast("list[Any]", value)])


def _mapping(entries: list[tuple[Any, Compiled]]) -> Compiled:
    renders = [(key, part.render) for key, part in entries]
    refs = tuple(ref for _, part in entries for ref in part.refs)
    is_constant = all(part.is_constant for _, part in entries)
    return Compiled(lambda scope: {key: render(scope) for key, render in renders}, refs, is_constant=is_constant)


def _sequence(parts: list[Compiled]) -> Compiled:
    renders = [part.render for part in parts]
    refs = tuple(ref for part in parts for ref in part.refs)
    is_constant = all(part.is_constant for part in parts)
    return Compiled(lambda scope: [render(scope) for render in renders], refs, is_constant=is_constant)


@lru_cache(maxsize=CACHED_TEMPLATES_MAX)
def _template(text: str) -> Compiled:
    path = _sole_path(text)
    if path is not None and path[1] not in _KEYWORDS:
        return _lookup(path[1], path[2], text)
    return _text_of_paths(text) or _jinja(text, bare=False)


@lru_cache(maxsize=CACHED_TEMPLATES_MAX)
def _bare_expression(text: str) -> Compiled:
    path = _bare_path(text)
    if path is not None and path[1] not in _KEYWORDS:
        return _lookup(path[1], path[2], text)
    return _jinja(text, bare=True)


def _jinja(text: str, *, bare: bool) -> Compiled:
    # Jinja takes 20 ms to import, and many programs never need it.
    from headrace.core import sandbox  # noqa: PLC0415

    parsed = sandbox.parse(text, bare=bare)
    return Compiled(parsed.render, parsed.refs, is_text=parsed.is_text)


# ---- plain look-ups --------------------------------------------------------------------------------------------


def _split_keys(rest: str) -> tuple[str | int, ...]:
    if "[" not in rest:
        return tuple(rest[1:].split(".")) if rest else ()
    return tuple(
        int(number) if number else dotted or single or double for dotted, number, single, double in _keys(rest)
    )


def _lookup(root: str, rest: str, text: str) -> Compiled:
    keys = _split_keys(rest)

    def render(scope: Scope) -> Any:
        try:
            value = scope[root]
            for key in keys:
                value = value[key]
        except (LookupError, TypeError):
            # Either something is missing, or a look-up on an object has to go through its attributes.
            return _walk(scope, root, keys, text)
        return value

    return Compiled(render, ((root, *keys),))


def _walk(scope: Scope, root: str, keys: tuple[str | int, ...], text: str) -> Any:
    if root not in scope:
        raise TemplateError(f"cannot evaluate {shorten(text)}: {root!r} is undefined; there are: {listed(scope)}")
    value = scope[root]
    reached = root
    for key in keys:
        try:
            value = take(value, key)
        except LookupError:
            raise TemplateError(f"cannot evaluate {shorten(text)}: {describe_missing(value, key, reached)}") from None
        reached += f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]"
    return value


def take(value: Any, key: str | int) -> Any:
    """One step of a look-up: a key of a mapping, an index of a sequence, or a public data attribute of one of the
    engine's own objects. Raises ``LookupError`` when there is nothing."""
    if isinstance(value, Mapping):
        return cast("Mapping[Any, Any]", value)[key]
    if isinstance(key, int):
        if isinstance(value, (list, tuple, str)):
            return cast("list[Any]", value)[key]
        raise LookupError(key)
    # Built-in values have only methods, which are no data; they stay reachable through filters.
    if key.startswith("_") or type(value).__module__ == "builtins":
        raise LookupError(key)
    found = getattr(value, key, msgspec.UNSET)
    if found is msgspec.UNSET or callable(found):
        raise LookupError(key)
    return found


def describe_missing(value: Any, key: object, reached: str) -> str:
    """Why ``value``, called ``reached`` in the template, has no ``key``, for the reader of an error message."""
    if value is None:
        return f"{reached} is null, so it has no {key!r}"
    if isinstance(value, Mapping):
        mapping = cast("Mapping[Any, Any]", value)
        if not mapping:
            return f"{key!r} is not in {reached}, which is empty"
        near = closest(str(key), mapping)
        hint = f"; did you mean {near!r}?" if near else ""
        return f"{key!r} is not in {reached}, which has: {listed(mapping)}{hint}"
    if isinstance(key, int) and isinstance(value, (list, tuple, str)):
        return f"{reached} has {len(cast('list[Any]', value))} items, so there is no [{key}]"
    return f"{reached} is of type {type(value).__name__}, which has no {key!r}"


def shorten(text: str, limit: int = 200) -> str:
    """A template as it is shown in messages: on one line, quoted, bounded."""
    line = " ".join(text.split())
    return repr(line if len(line) <= limit else line[: limit - 3] + "...")


# ---- text around plain look-ups -----------------------------------------------------------------------------------


def _text_of_paths(text: str) -> Compiled | None:
    """``./load.sh {{ params.year }}``: pieces to join, or None if anything in it needs Jinja."""
    pieces: list[str] = []
    lookups: list[Compiled] = []
    end = 0
    for path in _paths(text):
        pieces.append(text[end : path.start()])
        if path[1] in _KEYWORDS:
            return None
        lookups.append(_lookup(path[1], path[2], text))
        end = path.end()
    pieces.append(text[end:])
    # A carriage return is left to Jinja, which normalises line ends.
    if "\r" in text or any(has_template(piece) for piece in pieces):
        return None
    renders = list(zip((lookup.render for lookup in lookups), pieces[1:], strict=True))
    first = pieces[0]

    def render(scope: Scope) -> str:
        parts = [first]
        for lookup, piece in renders:
            parts.append(to_text(lookup(scope)))
            parts.append(piece)
        return bounded_text(parts, text)

    return Compiled(render, tuple(lookup.refs[0] for lookup in lookups), is_text=True)


def to_text(value: Any) -> str:
    """A value inside text: strings as they are, everything else as JSON."""
    if type(value) is str:
        return value
    if type(value) is int or isinstance(value, str):
        return str(value)
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        return str(value)


def bounded_text(parts: list[str], template: str) -> str:
    """The parts joined. Raises :class:`TemplateError` over :data:`TEXT_CHARS_MAX`."""
    if sum(map(len, parts)) > TEXT_CHARS_MAX:
        raise TemplateError(f"cannot evaluate {shorten(template)}: the text is over {TEXT_CHARS_MAX:,} characters")
    return "".join(parts)
