"""Run parameters: defaults, types, checks, and everything wrong at once."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from headrace.core.errors import InvalidParams
from headrace.core.params import resolve_params, spec_problems
from headrace.core.spec import ParamSpec

SPECS = {
    "year": ParamSpec(type="int", default=2013, min=1987, max=2100),
    "ratio": ParamSpec(type="float", default=0.5),
    "city": ParamSpec(type="str", pattern="[A-Z][a-z]+", description="a city"),
    "dry": ParamSpec(type="bool", default=False),
    "months": ParamSpec(type="list", default=[1], max=12),
    "options": ParamSpec(type="dict", default={}),
    "size": ParamSpec(type="str", default="small", choices=("small", "large")),
    "day": ParamSpec(type="date", default=None),
    "at": ParamSpec(type="datetime", default=None),
    "what": ParamSpec(default=None),
}


def test_defaults_fill_what_is_not_given() -> None:
    resolved = resolve_params(SPECS, {"city": "Oslo"})
    assert list(resolved) == list(SPECS)
    assert resolved["year"] == 2013 and resolved["city"] == "Oslo" and resolved["day"] is None
    resolved["months"].append(2)
    assert SPECS["months"].default == [1]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [("year", "2014", 2014), ("ratio", "1", 1.0), ("dry", "yes", True), ("dry", "0", False), ("months", "[1, 2]", [1, 2]),
     ("options", '{"a": 1}', {"a": 1}), ("size", "large", "large"), ("day", "2013-01-31", "2013-01-31"),
     ("at", "2013-01-31T06:00:00Z", "2013-01-31T06:00:00Z"), ("what", "5", 5), ("what", "x", "x"), ("what", "NaN", "NaN"), ("city", "Oslo", "Oslo")],
)  # fmt: skip
def test_text_from_a_command_line_is_read_as_the_type(name: str, text: str, value: Any) -> None:
    resolved = resolve_params(SPECS, {"city": "Oslo", name: text}, from_strings=True)
    assert resolved[name] == value and type(resolved[name]) is type(value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("year", True), ("year", 2014.0), ("year", "2014"), ("year", 1900), ("year", 2200), ("ratio", True), ("ratio", "1"),
     ("ratio", float("nan")), ("city", "oslo"), ("city", 5), ("dry", 1), ("months", {}), ("months", [1] * 13), ("options", []),
     ("options", {1: 2}), ("options", {"a": [float("nan")]}), ("months", [float("inf")]), ("what", {"a": (-float("inf"),)}), ("size", "medium"), ("day", "2013-02-31"), ("day", 5), ("at", "yesterday"), ("year", None)],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidParams) as caught:
        resolve_params(SPECS, {"city": "Oslo", name: value}, workflow="w")
    assert [problem.path for problem in caught.value.problems] == [(name,)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("months", "[1,"),
        ("options", "x"),
        ("months", "[" * 100_000),
        ("dry", "maybe"),
        ("options", '{"a": NaN}'),
        ("months", "[1e999]"),
        ("what", '{"a": [-Infinity]}'),
        ("ratio", "inf"),
    ],
)
def test_text_that_is_not_the_type_is_refused(name: str, text: str) -> None:
    with pytest.raises(InvalidParams, match=name):
        resolve_params(SPECS, {"city": "Oslo", name: text}, from_strings=True)


def test_everything_wrong_is_said_at_once() -> None:
    with pytest.raises(InvalidParams) as caught:
        resolve_params(SPECS, {"yaer": 1, "ratio": "x"}, workflow="flights")
    message = str(caught.value)
    assert "'flights'" in message
    assert "did you mean 'year'?" in message
    assert "city: required parameter is missing" in message
    assert "ratio: expected a finite number, not 'x'" in message


def test_a_pattern_is_said_to_match_the_whole_text() -> None:
    with pytest.raises(InvalidParams, match="'xy' does not match the pattern '\\^x' from end to end"):
        resolve_params({"p": ParamSpec(type="str", pattern="^x")}, {"p": "xy"})


def test_dates_become_text_and_choices_know_types() -> None:
    assert resolve_params({"d": ParamSpec(type="date")}, {"d": datetime.date(2013, 1, 31)}) == {"d": "2013-01-31"}
    with pytest.raises(InvalidParams):
        resolve_params({"n": ParamSpec(choices=(0, 1))}, {"n": False})


@pytest.mark.parametrize(
    "spec",
    [ParamSpec(type="int", default="x"), ParamSpec(type="int", min=2, max=1), ParamSpec(type="str", pattern="("),
     ParamSpec(type="int", pattern="x"), ParamSpec(type="bool", min=1), ParamSpec(type="int", choices=(1, "2")),
     ParamSpec(type="int", default=5, max=4), ParamSpec(type="str", default="c", choices=("a", "b"))],
)  # fmt: skip
def test_a_declaration_that_contradicts_itself(spec: ParamSpec) -> None:
    assert spec_problems(spec)


def test_declarations_that_are_right() -> None:
    assert [spec_problems(spec) for spec in SPECS.values()] == [[]] * len(SPECS)
