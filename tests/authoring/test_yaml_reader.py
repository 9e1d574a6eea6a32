"""YAML and JSON text to plain data: YAML 1.2 scalars, bounds, and errors in plain words."""

from __future__ import annotations

import time

import pytest

from headrace.authoring.yaml.reader import ALIAS_NODES_MAX, SOURCE_BYTES_MAX, decode, read_json, read_yaml
from headrace.core.errors import InvalidDefinition


def test_only_true_false_null_and_numbers_are_not_text() -> None:
    text = """
    no: yes
    on: off
    time: 1:30
    date: 2013-01-31
    zero: 012
    octal: 0o17
    hex: 0x1F
    float: 1e3
    dot: .5
    version: 1.2.3
    sign: +
    quoted: "5"
    tagged: !!str 5
    null_: ~
    empty:
    true_: True
    underscore: 1_000
    1: one
    """
    assert read_yaml(text, "f") == {
        "no": "yes", "on": "off", "time": "1:30", "date": "2013-01-31", "zero": 12, "octal": 15, "hex": 31, "float": 1000.0,
        "dot": 0.5, "version": "1.2.3", "sign": "+", "quoted": "5", "tagged": "5", "null_": None, "empty": None, "true_": True,
        "underscore": "1_000", "1": "one",
    }  # fmt: skip


def test_anchors_and_merge_keys() -> None:
    text = "base: &b {a: 1, b: 2}\none: {<<: *b, b: 3}\ntwo: {b: 4, <<: [*b, {c: 5}]}\nthree: *b\n"
    data = read_yaml(text, "f")
    assert data["one"] == {"a": 1, "b": 3}
    assert data["two"] == {"b": 4, "a": 1, "c": 5}
    assert data["three"] == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: [1, 2", "f:2:1", "not closed"),
        ("a: 1\na: 2", "f:2:1", "'a' is there twice"),
        ("m: &m {a: 1}\nb: {<<: *m, a: 2, a: 3}", "f:2:19", "'a' is there twice"),
        ("a:\n\tb: 1", "f:2:1", "a tab"),
        ("a: b: c", "f:1:5", "where no key can be"),
        ("a: {{ params.x }}", "f:1:5", "quote templates"),
        ("a: 'x", "f:1:6", "quoted text is not closed"),
        ("a: @x", "f:1:4", "'@' cannot begin a value"),
        ("a: *x", "f:1:4", "there is no &x"),
        ("a: &a [*a]", "f:1:8", "contain itself"),
        ("a: 1\n---\nb: 1", "f:2:1", "second document"),
        ("a: .inf", "f:1:4", "not a number JSON can hold"),
        ("a: !!python/object:os.system x", "f:1:4", "tag"),
        ("? [a]\n: b", "f:1:3", "a key must be plain text"),
        ("a: \x01", "f:1", "not allowed"),
        ("a: " + "[" * 200, "f:1:103", "nested more than"),
        ("a: " + "9" * 5000, "f:1:4", "digits"),
    ],
)
def test_what_is_no_definition_says_where_and_why(text: str, place: str, words: str) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        read_yaml(text, "f")
    (problem,) = caught.value.problems
    assert problem.where == place
    assert words in f"{problem.message} {problem.hint}"


def test_aliases_cannot_multiply_without_end() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    started = time.process_time()
    with pytest.raises(InvalidDefinition, match=f"{ALIAS_NODES_MAX:,}"):
        read_yaml("\n".join(lines), "f")
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff\xfea\x00", "UTF-16"),
        (b"a: b\nc: \xe9\n", "f:2:4: byte 0xe9 is not UTF-8"),
        (b" " * (SOURCE_BYTES_MAX + 1), "larger than 32 MiB"),
    ],
)
def test_bytes_that_are_no_text(data: bytes, words: str) -> None:
    with pytest.raises(InvalidDefinition, match=words):
        decode(data, "f")


def test_a_byte_order_mark_does_no_harm() -> None:
    assert read_yaml(decode(b"\xef\xbb\xbfa: 1", "f"), "f") == {"a": 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [('{"a": 1,}', "f:1:[89]: not JSON"), ('{"a": 1, "a": 2}', "f:1:10: 'a' is there twice"), ('{"a": NaN}', "NaN"), ("[" * 100_000, "nested")],
)  # fmt: skip
def test_what_is_no_json(text: str, words: str) -> None:
    with pytest.raises(InvalidDefinition, match=words):
        read_json(text, "f")


def test_a_text_that_is_there_twice_is_kept_once() -> None:
    data = read_yaml("tasks:\n  first: {run: x}\n  second: {needs: [first], run: x}\n", "f")["tasks"]
    assert data["second"]["needs"][0] is next(iter(data))


def test_a_quoted_merge_key_is_a_key_like_any_other() -> None:
    assert read_yaml('a: "<<"\nb: &b {x: 1}\nc: {<<: *b, "<<": "<<"}\n', "f")["c"] == {"x": 1, "<<": "<<"}
