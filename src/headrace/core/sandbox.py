"""The part of template evaluation that is Jinja's: filters, arithmetic, conditions, loops.

Evaluation is pure: the sandbox gives no access to underscore attributes, files, clocks or chance; values cannot be
changed in place; sizes are bounded, so that ``{{ 'a' * 10**10 }}`` is an error and not an outage. Of Jinja's statements
only ``if``, ``for`` and ``set`` are there; filters are those listed below.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from types import TracebackType
from typing import Any, cast

import msgspec
from jinja2 import TemplateSyntaxError, Undefined, nodes
from jinja2.environment import Template
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS
from jinja2.parser import Parser
from jinja2.runtime import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from headrace.core.errors import TemplateError
from headrace.core.expressions import (
    DEPTH_MAX,
    TEXT_CHARS_MAX,
    NeedValue,
    Reference,
    Scope,
    bounded_text,
    describe_missing,
    shorten,
    to_text,
)
from headrace.core.suggest import did_you_mean

WIDTH_MAX = 1_000_000
"""The largest number a padding, repeating or slicing operation takes, and the longest sequence it makes."""

ITEMS_MAX = 1_000_000
"""The most items a filter or a loop yields. Lists that exist already are not bounded here."""

INT_BITS_MAX = 65_536
"""The largest whole number arithmetic may make."""

_ALLOWED_STATEMENTS = (nodes.Output, nodes.If, nodes.For, nodes.Assign)
_RESERVED = frozenset({"params", "tasks", "run"})
RANGE_MAX = 100_000
"""The longest ``range`` in a template."""

_CONCAT = "_concat"
"""The filter behind a text with several templates in it; no user writes it."""

_PURE_FILTERS = frozenset(
    (  # noqa: SIM905 - forty lines for forty names hide them
        "abs batch capitalize center count d default dictsort filesizeformat first float groupby indent int items "
        "last length list lower map max min pprint reject rejectattr reverse round select selectattr slice sort "
        "string sum title trim truncate unique upper urlencode wordcount wordwrap"
    ).split()
)
_WIDE_FORMAT = re.compile(r"%[^a-zA-Z%]*(\d{7,}|\*)")
_WIDENING_METHODS = frozenset(["center", "ljust", "rjust", "zfill", "expandtabs"])


class ParsedTemplate:
    """A template Jinja has parsed. ``refs``: its look-ups; ``is_text``: it always renders to text."""

    __slots__ = ("_ast", "_template", "is_text", "refs", "text")

    def __init__(self, text: str, ast: nodes.Template, refs: tuple[Reference, ...], *, is_text: bool) -> None:
        self.text = text
        self.refs = refs
        self.is_text = is_text
        self._ast = ast
        self._template: Template | None = None

    def render(self, scope: Scope) -> Any:
        """Evaluate. Raises :class:`TemplateError`; lets :class:`NeedValue` pass."""
        template: Template | None = None
        try:
            template = self._template
            if template is None:
                # Generating code costs ten times parsing, and most templates of a large graph wait for long.
                template = self._template = _environment.from_string(self._ast)
            context = template.new_context(dict(scope))
            if self.is_text:
                return bounded_text(list(_bounded(template.root_render_func(context))), self.text)
            for _ in template.root_render_func(context):
                pass
            result = context.vars["result"]
            if isinstance(result, Undefined):
                str(result)  # raises, with the name of what is missing
            return plain(result)
        except (NeedValue, TemplateError):
            raise
        except Exception as error:  # whatever a filter or operator raises is the template's fault
            line = _line_of(error.__traceback__, template) if template is not None else None
            place = f" (line {line})" if line is not None and "\n" in self.text else ""
            reason = str(error) or type(error).__name__
            raise TemplateError(f"cannot evaluate {shorten(self.text)}{place}: {reason}") from None


def parse(text: str, *, bare: bool) -> ParsedTemplate:
    """Parse a template, or a bare expression. Raises :class:`TemplateError` naming line and reason."""
    try:
        if bare:
            parser = Parser(_environment, text, state="variable")
            expression = parser.parse_expression()
            if not parser.stream.eos:
                token = parser.stream.current
                raise TemplateSyntaxError(f"unexpected {token.value!r} after the expression", token.lineno)
            ast = _valued(expression)
            sole: nodes.Expr | None = expression
        else:
            ast = _environment.parse(text)
            sole = _sole_expression(ast)
            if sole is not None:
                ast = _valued(sole)
        _check(ast, is_text=sole is None)
        ast = _Rewrite().visit(ast)
        ast.set_environment(_environment)
        return ParsedTemplate(text, ast, _references(ast), is_text=sole is None)
    except TemplateSyntaxError as error:
        place = f" (line {error.lineno})" if "\n" in text else ""
        raise TemplateError(f"cannot parse {shorten(text)}{place}: {error.message}{_meant(text)}") from None
    except RecursionError:
        raise TemplateError(f"cannot parse {shorten(text)}: it is nested too deeply") from None


def _meant(text: str) -> str:
    """What to do about a mark that other languages use too: ``${#name}`` in a shell, ``{%s}`` in a format."""
    for mark, begins in (("{#", "a comment"), ("{%", "a statement")):
        if mark in text:
            return f"; {mark} begins {begins} of the template: write {{{{ '{mark}' }}}} where the text itself is meant"
    return ""


def _valued(expression: nodes.Expr) -> nodes.Template:
    """A template that keeps the expression's own value instead of printing it."""
    assign = nodes.Assign(nodes.Name("result", "store"), expression, lineno=1)
    return nodes.Template([assign], lineno=1)


def _sole_expression(ast: nodes.Template) -> nodes.Expr | None:
    if len(ast.body) != 1 or not isinstance(ast.body[0], nodes.Output):
        return None
    parts = list(ast.body[0].nodes)
    if parts and isinstance(parts[-1], nodes.TemplateData) and not parts[-1].data.strip("\n"):
        parts.pop()
    if len(parts) != 1 or isinstance(parts[0], nodes.TemplateData):
        return None
    return parts[0]


def _check(ast: nodes.Template, *, is_text: bool) -> None:
    for statement in ast.find_all(nodes.Stmt):
        if not isinstance(statement, _ALLOWED_STATEMENTS) or (isinstance(statement, nodes.For) and statement.recursive):
            kind = type(statement).__name__.lower()
            raise TemplateSyntaxError(f"{kind!r} is not available here; there are: if, for, set", statement.lineno)
    for used in ast.find_all(nodes.Filter):
        if used.name not in _environment.filters:
            hint = did_you_mean(used.name, sorted(_environment.filters.keys() - {_CONCAT}), what="filters")
            raise TemplateSyntaxError(f"there is no filter {used.name!r}; {hint}", used.lineno)
    for used in ast.find_all(nodes.Test):
        if used.name not in _environment.tests:
            hint = did_you_mean(used.name, sorted(_environment.tests), what="tests")
            raise TemplateSyntaxError(f"there is no test {used.name!r}; {hint}", used.lineno)
    if not is_text:
        return
    for name in ast.find_all(nodes.Name):
        if name.ctx == "store" and name.name in _RESERVED:
            raise TemplateSyntaxError(f"{name.name!r} cannot be assigned to", name.lineno)


class _Rewrite(NodeTransformer):
    """``a ~ b`` cannot be intercepted like other operators, so it becomes a filter that checks its size."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - Jinja's naming
        parts = [self.visit(part) for part in node.nodes]
        return nodes.Filter(nodes.List(parts), _CONCAT, [], [], None, None, lineno=node.lineno)


def _references(ast: nodes.Template) -> tuple[Reference, ...]:
    assigned = {name.name for name in ast.find_all(nodes.Name) if name.ctx != "load"}
    skipped = assigned | {"loop", *_environment.globals}
    found: list[Reference] = []
    stack: list[nodes.Node] = [ast]
    while stack:
        node = stack.pop()
        keys: list[str | int] = []
        arguments: list[nodes.Node] = []
        while isinstance(node, (nodes.Getattr, nodes.Getitem)):
            if isinstance(node, nodes.Getattr):
                keys.append(node.attr)
            elif (key := _constant_key(node.arg)) is not None:
                keys.append(key)
            else:
                keys.clear()  # beyond a computed key nothing is known
                arguments.append(node.arg)
            node = node.node
        if isinstance(node, nodes.Name):
            if node.name not in skipped:
                found.append((node.name, *reversed(keys)))
        else:
            arguments.extend(node.iter_child_nodes())
        stack.extend(reversed(arguments))
    return tuple(found)


def _constant_key(argument: nodes.Expr) -> str | int | None:
    if isinstance(argument, nodes.Neg) and isinstance(argument.node, nodes.Const) and type(argument.node.value) is int:
        return -argument.node.value
    if isinstance(argument, nodes.Const) and type(argument.value) in (str, int):
        return argument.value
    return None


# ---- values out of Jinja ----------------------------------------------------------------------------------------


def plain(value: Any, depth: int = 0) -> Any:
    """The value as JSON knows it: generators, tuples and other iterables become lists. Methods are refused."""
    kind = type(value)
    if kind in (str, int, float, bool) or value is None:
        return value
    if depth > DEPTH_MAX:
        raise ValueError(f"the value is nested more than {DEPTH_MAX} levels deep")
    if kind is dict:
        return {key: plain(part, depth + 1) for key, part in cast("dict[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [plain(part, depth + 1) for part in cast("list[Any]", value)]
    if isinstance(value, (set, frozenset, range, Iterator)) or kind.__name__.startswith("dict_"):
        return [plain(part, depth + 1) for part in _bounded(cast("Iterable[Any]", value))]
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Undefined):
        return str(value)  # raises
    if callable(value):
        raise TypeError("the result is a function; call it with ()")
    return value


def _bounded(items: Iterable[Any]) -> Iterator[Any]:
    """The items of something made while evaluating, at most :data:`ITEMS_MAX`."""
    for count, item in enumerate(items):
        if count >= ITEMS_MAX:
            raise ValueError(f"there are more than {ITEMS_MAX:,} items")
        yield item


class _Missing(StrictUndefined):
    """Says what is missing from what, and what there is. Computed only when the message is read, for ``default``
    and ``is defined`` meet missing things all the time."""

    __slots__ = ()

    @property
    def _undefined_message(self) -> str:
        if self._undefined_hint:
            return self._undefined_hint
        if self._undefined_obj is _NOTHING:
            return f"{self._undefined_name!r} is undefined"
        return describe_missing(self._undefined_obj, self._undefined_name, "the value before it")


_NOTHING = Undefined()._undefined_obj  # Jinja's own marker for "no object"


def _line_of(traceback: TracebackType | None, template: Template) -> int | None:
    line = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == "<template>":
            line = template.get_corresponding_lineno(traceback.tb_lineno)
        traceback = traceback.tb_next
    return line


# ---- the environment ----------------------------------------------------------------------------------------------


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        _check_size(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Mapping):
            return self._key(cast("Mapping[Any, Any]", obj), attribute)
        if isinstance(obj, str) and attribute in ("format", "format_map"):
            return self.undefined("str.format is not available; use the format filter or ~", exc=SecurityError)
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, Mapping):
            return self._key(cast("Mapping[Any, Any]", obj), argument)
        return super().getitem(obj, argument)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as in Jinja
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str):
            name = getattr(__obj, "__name__", "")
            if name in _WIDENING_METHODS:
                _check_widths(args)
            elif name in ("replace", "join", "translate") and args:
                return _guarded_str(name, owner, *args)
        return super().call(__context, __obj, *args, **kwargs)

    def _key(self, mapping: Mapping[Any, Any], key: Any) -> Any:
        try:
            return mapping[key]
        except (LookupError, TypeError):
            return self.undefined(obj=mapping, name=key)


def _check_size(operator: str, left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        if operator == "**":
            bits = left.bit_length() * max(right, 0)
        elif operator == "*":
            bits = left.bit_length() + right.bit_length()
        else:
            return
        if bits > INT_BITS_MAX:
            raise OverflowError(f"the number is over {INT_BITS_MAX:,} bits")
        return
    if operator == "*":
        for sequence, count in ((left, right), (right, left)):
            if isinstance(sequence, (str, bytes, list, tuple)) and isinstance(count, int):
                _check_length(len(cast("list[Any]", sequence)) * count)
    elif operator == "+":
        if isinstance(left, (str, list, tuple)) and isinstance(right, (str, list, tuple)):
            _check_length(len(cast("list[Any]", left)) + len(cast("list[Any]", right)), TEXT_CHARS_MAX)
    elif operator == "%" and isinstance(left, str):
        _check_format(left)


def _check_length(length: int, limit: int = WIDTH_MAX) -> None:
    if length > limit:
        raise OverflowError(f"the result is longer than {limit:,}")


def _check_widths(args: Iterable[Any]) -> None:
    for argument in args:
        if isinstance(argument, (int, float)) and argument > WIDTH_MAX:
            raise OverflowError(f"{argument:,} is over the bound of {WIDTH_MAX:,}")


def _check_format(text: str) -> None:
    if _WIDE_FORMAT.search(text):
        raise OverflowError(f"a width in {shorten(text)} is over the bound of {WIDTH_MAX:,}, or taken from a value")


def _guarded_str(name: str, owner: str, *args: Any) -> str:
    if name == "replace":
        return _replace(owner, *args)
    if name == "join":
        return _join(args[0], owner)
    raise SecurityError(f"str.{name} is not available")


def _widths_checked(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)  # keeps Jinja's marks, such as "pass the environment"
    def checked(*args: Any, **kwargs: Any) -> Any:
        _check_widths(args)
        _check_widths(kwargs.values())
        return function(*args, **kwargs)

    return checked


def _replace(text: Any, old: Any, new: Any, count: int = -1) -> str:
    text, old, new = to_text(text), to_text(old), to_text(new)
    _check_length(len(text) + text.count(old) * len(new), TEXT_CHARS_MAX)
    return text.replace(old, new, count)


def _join(value: Iterable[Any], d: Any = "", attribute: str | int | None = None) -> str:
    separator = to_text(d)
    if attribute is not None:
        value = _pluck(value, attribute)
    parts: list[str] = []
    length = 0
    for part in _bounded(value):
        parts.append(to_text(_defined(part)))
        length += len(parts[-1]) + len(separator)
        _check_length(length, TEXT_CHARS_MAX)
    return separator.join(parts)


def _pluck(value: Iterable[Any], attribute: str | int) -> Iterator[Any]:
    for part in value:
        for key in str(attribute).split("."):
            part = _environment.getitem(part, int(key) if key.isdigit() else key)  # noqa: PLW2901
        yield part


def _range(*bounds: int) -> range:
    found = range(*bounds)
    if found[RANGE_MAX:]:
        raise OverflowError(f"a range has more than {RANGE_MAX:,} values; a task can make a longer list")
    return found


def _concat(parts: list[Any]) -> str:
    return _join(parts)


def _format(value: Any, *args: Any, **kwargs: Any) -> str:
    text = to_text(value)
    _check_format(text)
    return text % (kwargs or args)


def _tojson(value: Any, indent: int | None = None) -> str:
    if indent is not None:
        _check_widths((indent,))
        return json.dumps(plain(value), ensure_ascii=False, indent=indent)
    return msgspec.json.encode(plain(value)).decode()


def _fromjson(value: Any) -> Any:
    return json.loads(to_text(_defined(value)))


def _quote(value: Any) -> str:
    return shlex.quote(to_text(_defined(value)))


def _defined(value: Any) -> Any:
    if isinstance(value, Undefined):
        str(value)  # raises
    return value


def _finalize(value: Any) -> Any:
    return value if isinstance(value, (str, Undefined)) else to_text(plain(value))


def _make_environment() -> _Sandbox:
    environment = _Sandbox(
        undefined=_Missing, finalize=_finalize, keep_trailing_newline=True, autoescape=False, cache_size=0
    )
    environment.globals.clear()
    environment.globals["range"] = _range  # type: ignore[assignment]
    environment.filters = {name: _widths_checked(FILTERS[name]) for name in _PURE_FILTERS}
    environment.filters |= {
        "format": _format,
        "fromjson": _fromjson,
        "join": _join,
        "quote": _quote,
        "replace": _replace,
        "tojson": _tojson,
        _CONCAT: _concat,
    }
    return environment


_environment = _make_environment()
