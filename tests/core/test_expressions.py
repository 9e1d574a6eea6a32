"""Templates: what they yield, what they refuse, and that the two ways of evaluating them agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.core import sandbox
from headrace.core.errors import TemplateError
from headrace.core.expressions import NeedValue, compile_condition, compile_template, compile_value, template_refs

SCOPE: dict[str, Any] = {
    "params": {"year": 2013, "items": [1, 2], "name": "Oslo", "flag": "false", "nothing": None, "on": True},
    "tasks": {
        "load": {"output": {"rows": [1, 2, 3], "a b": {"c": 1}}, "state": "succeeded"},
        "a b": {"output": 5},
    },
    "item": {"x": [7, {"y": 8}], "_id": 3},
    "index": 4,
    "run": {"id": "R1"},
}


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("plain text", "plain text"),
        ("{{ params.year }}", 2013),
        ("{{params.year}}\n", 2013),
        ("{{ params.items }}", [1, 2]),
        ("{{ tasks.load.output.rows }}", [1, 2, 3]),
        ("{{ tasks['a b'].output }}", 5),
        ('{{ tasks.load.output["a b"].c }}', 1),
        ("{{ item.x[1].y }}", 8),
        ("{{ item.x[-1] }}", {"y": 8}),
        ("{{ item._id }}", 3),
        ("{{ params.nothing }}", None),
        (" {{ params.year }}", " 2013"),
        ("{{ params.year }}{{ params.year }}", "20132013"),
        ("{{ params.on }} {{ params.nothing }} {{ tasks.load.output['a b'] }}", 'true null {"c":1}'),
        ("{{ params.year + 1 }}", 2014),
        ("{{ params.on | string }}!", "True!"),
        ("{% if params.on %}yes{% else %}no{% endif %}", "yes"),
        ("{% for row in tasks.load.output.rows %}{{ row }};{% endfor %}", "1;2;3;"),
        ("{{ tasks.load.output.rows | map('string') }}", ["1", "2", "3"]),
        ("{{ tasks.load.output.rows | select('gt', 1) }}", [2, 3]),
        ("{{ {'a': {'b': params.year}} }}", {"a": {"b": 2013}}),
        ("{{ params | items | first }}", ["year", 2013]),
        ("{{ params.missing | default('x') }}", "x"),
        ("{{ params.missing is defined }}", False),
        ("{{ 'a' ~ params.on ~ 1 }}", "atrue1"),
        ("{{ params.items | tojson }}", "[1,2]"),
        ("{{ '[1, 2]' | fromjson }}", [1, 2]),
        ('{{ "it\'s" | quote }}', "'it'\"'\"'s'"),
        ("{{ params.items | join('-') }}", "1-2"),
        ("{{ 'a-b' | replace('-', '+') }}", "a+b"),
        ("{{ params.name.upper() }}", "OSLO"),
        ("{{ '%03d' % 7 }}", "007"),
        ("{{ range(3) }}", [0, 1, 2]),
        ("{% raw %}{{ a }}{% endraw %}", "{{ a }}"),
        ("{# a comment #}x", "x"),
    ],
)
def test_what_a_template_yields(template: str, value: object) -> None:
    rendered = compile_value(template).render(SCOPE)
    assert rendered == value
    assert type(rendered) is type(value)


def test_text_is_never_parsed_back() -> None:
    scope = {"a": "1", "b": "2"}
    assert compile_value("{{ a }}{{ b }}").render(scope) == "12"
    assert compile_value("{{ a }}").render({"a": "[1, 2]"}) == "[1, 2]"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ params.yaer }}", ["'yaer' is not in params", "did you mean 'year'?", "{{ params.yaer }}"]),
        ("{{ params.yaer + 1 }}", ["'yaer'", "did you mean 'year'?"]),
        ("{{ param.year }}", ["'param' is undefined"]),
        ("x {{ param.year }}", ["'param' is undefined"]),
        ("{{ tasks.load.output.rows[9] }}", ["3 items", "[9]"]),
        ("{{ params.nothing.x }}", ["params.nothing is null"]),
        ("{{ params.year.real }}", ["type int", "'real'"]),
        ("{{ 'a'.upper }}", ["function"]),
        ("{{ ''.__class__ }}", ["__class__", "unsafe"]),
        ("{{ params.items.append(3) }}", ["append", "unsafe"]),
        ("{{ ''.format() }}", ["format filter"]),
        ("line one\n{{ 1 / 0 }}", ["line 2", "division by zero"]),
        ("{{ params.missing }} text", ["'missing'"]),
        ("{{ tasks.load.output.rows | map('nope') }}", ["nope"]),
        ("{{ range(10 ** 30) }}", ["a range has more than 100,000 values"]),
    ],
)
def test_an_evaluation_that_fails_says_why_and_where(template: str, words: list[str]) -> None:
    with pytest.raises(TemplateError) as caught:
        compile_value(template).render(SCOPE)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "template",
    ["{{ x y }}", "{{ }}", "{% if x %}", "{{ 1 | random }}", "{{ 1 | lengthh }}", "{{ 1 is odd_ }}",
     "{% include 'a' %}", "{% macro m() %}{% endmacro %}", "{% set params = 1 %}x", "{{" + "(" * 500 + "1" + ")" * 500 + "}}",
     "{% for a in b recursive %}{% endfor %}"],
)  # fmt: skip
def test_a_template_that_cannot_be_parsed_is_refused_when_compiled(template: str) -> None:
    with pytest.raises(TemplateError, match="cannot parse"):
        compile_value(template)


@pytest.mark.parametrize("text", ["echo ${#name}", "printf '{%s}' x"])
def test_marks_that_shells_use_too_are_explained(text: str) -> None:
    with pytest.raises(TemplateError, match=r"begins a \w+ of the template: write \{\{ '\{[#%]' \}\}"):
        compile_value(text)
    assert compile_value("echo ${{ '{#' }}name}").render(SCOPE) == "echo ${#name}"


def test_the_filters_named_for_one_that_is_unknown_are_the_users() -> None:
    with pytest.raises(TemplateError, match="there is no filter 'zzzz'; filters: abs, batch"):
        compile_value("{{ 1 | zzzz }}")


@pytest.mark.parametrize(
    "expression",
    ["'a' * 10**9", "10**9 * 'a'", "[1] * 10**9", "9**999999", "'%999999999d' % 1", "'%*d' % (999999999, 1)",
     "'a' | center(10**9)", "'a'.ljust(10**9)", "'a'.rjust(width=10**9)", "range(10**9)", "[1] | batch(10**9, 0) | list",
     "('a' * 10**6).replace('a', 'b' * 10**6)", "('a' * 10**6) | replace('a', 'b' * 10**6)",
     "('a' * 10**6) | join('b' * 10**6)", "('b' * 10**6).join('a' * 1000)", "'%999999999d' | format(1)",
     "'a' | indent(10**9)"],
)  # fmt: skip
def test_an_expression_cannot_take_the_memory(expression: str) -> None:
    with pytest.raises(TemplateError):
        compile_value("{{ " + expression + " }}").render({})


def test_text_that_doubles_itself_is_stopped() -> None:
    template = "{% set s = 'x' * 1000 %}" + "{% set s = s ~ s %}" * 60 + "{{ s }}"
    with pytest.raises(TemplateError, match="longer than"):
        compile_value(template).render({})
    nested = "{% for a in range(1100) %}{% for b in range(1100) %}x{% endfor %}{% endfor %}"
    with pytest.raises(TemplateError, match=r"more than|over"):
        compile_value(nested).render({})


def test_no_chance_and_no_clock() -> None:
    for name in ("lipsum", "cycler", "joiner", "namespace", "dict", "now"):
        with pytest.raises(TemplateError, match="undefined"):
            compile_value("{{ " + name + "() }}").render({})


@pytest.mark.parametrize(
    ("condition", "truth"),
    [
        ("params.year > 2000", True),
        ("{{ params.year > 2000 }}", True),
        ("params.on", True),
        ("not params.on", False),
        ("params.flag", False),
        ("{{ params.flag }}", False),
        ("{{ params.name }}", True),
        ("params.nothing", False),
        ("{% if params.on %}No{% endif %}", False),
        ("{% if params.on %}go{% endif %}", True),
        ("true", True),
        ("false", False),
        ("tasks.load.output.rows | length == 3", True),
        ("[]", False),
    ],
)
def test_what_a_condition_decides(condition: str, truth: bool) -> None:
    assert compile_condition(condition).render(SCOPE) is truth


@pytest.mark.parametrize("condition", ["", "a b", "a ==", "a }}", "{{ a"])
def test_a_condition_that_is_no_expression(condition: str) -> None:
    with pytest.raises(TemplateError, match="cannot parse"):
        compile_condition(condition)


def test_references_are_known_without_evaluating() -> None:
    compiled = compile_value(
        {
            "a": "{{ tasks.load.output.rows }}",
            "b": ["x {{ tasks['a b'].output }} {{ params.year }}", "{{ tasks[params.name].output | length }}"],
            "c": "{% for item in run.tags %}{{ item.x }}{{ loop.index }}{% endfor %}",
        }
    )
    assert compiled.tasks == {"load", "a b"}
    assert compiled.names == {"tasks", "params", "run"}
    assert compiled.refs == (
        ("tasks", "load", "output", "rows"),
        ("tasks", "a b", "output"),
        ("params", "year"),
        ("tasks",),
        ("params", "name"),
        ("run", "tags"),
    )
    assert not compiled.is_constant


def test_constants_are_known_and_not_shared() -> None:
    definition = {"a": [1, {"b": "text"}], "c": None}
    compiled = compile_value(definition)
    assert compiled.is_constant and not compiled.names and not compiled.tasks
    first, second = compiled.render({}), compiled.render({})
    assert first == second == definition
    first["a"][1]["b"] = "changed"
    assert second["a"][1]["b"] == definition["a"][1]["b"] == "text"  # type: ignore[index]


def test_nesting_is_bounded() -> None:
    value: Any = "{{ a }}"
    for _ in range(200):
        value = [value]
    with pytest.raises(TemplateError, match="nested"):
        compile_value(value)


class _Lazy(Mapping[str, Any]):
    """A scope entry whose value is elsewhere."""

    def __getitem__(self, key: str) -> Any:
        if key == "output":
            raise NeedValue("abc")
        raise KeyError(key)

    def __iter__(self) -> Any:
        return iter(["output"])

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize(
    "template",
    ["{{ tasks.load.output }}", "x {{ tasks.load.output.y }}", "{{ tasks.load.output | length }}",
     "{{ tasks.load.output | default(1) }}", "{{ [1] | map(attribute='x') | list if tasks.load.output else 2 }}"],
)  # fmt: skip
def test_a_value_that_is_elsewhere_is_asked_for(template: str) -> None:
    with pytest.raises(NeedValue) as caught:
        compile_value(template).render({"tasks": {"load": _Lazy()}})
    assert caught.value.digest == "abc"


# ---- the two ways of evaluating agree -------------------------------------------------------------------------------

_keys = st.sampled_from(["a", "b_1", "items", "get", "_x", "keys"])
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(_keys, children, max_size=3),
    max_leaves=10,
)
_steps = st.lists(
    _keys.map(lambda key: f".{key}") | _keys.map(lambda key: f"['{key}']") | st.integers(-2, 3).map(lambda i: f"[{i}]"),
    max_size=3,
).map("".join)


def _outcome(render: Any, scope: dict[str, Any]) -> tuple[str, Any]:
    try:
        return "value", render(scope)
    except TemplateError:
        return "error", None


@settings(max_examples=300, deadline=None)
@given(
    scope=st.dictionaries(st.sampled_from(["a", "b"]), _values), steps=_steps, around=st.sampled_from(["", "x", "\n"])
)
def test_plain_look_ups_mean_the_same_with_and_without_jinja(scope: dict[str, Any], steps: str, around: str) -> None:
    text = "{{ a" + steps + " }}" + around
    direct = compile_template(text)
    jinja = sandbox.parse(text, bare=False)
    assert _outcome(direct.render, scope) == _outcome(jinja.render, scope)
    assert direct.refs == jinja.refs == template_refs(text)
    assert direct.is_text == jinja.is_text
