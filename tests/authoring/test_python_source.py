"""Workflows in Python files, and files that cannot be loaded."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from headrace.authoring.sources import load
from headrace.core.errors import InvalidDefinition, NotFound, UserCodeError

DEFINITION = """
import headrace_test_neighbour
from headrace.authoring import dag, task

@task
def hello(name: str) -> str:
    return headrace_test_neighbour.GREETING + name

with dag("greetings", params={"name": "world"}) as d:
    hello(d.params.name)
alias = d
"""


def write(folder: Path, text: str, name: str = "headrace_test_flow.py") -> Path:
    (folder / "headrace_test_neighbour.py").write_text("GREETING = 'Hello, '\n")
    file = folder / name
    file.write_text(text)
    return file


@pytest.fixture(autouse=True)
def _clean_modules() -> object:
    before, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("headrace_"):
            del sys.modules[name]
    sys.path[:] = path


def test_the_one_workflow_of_a_file(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, DEFINITION), kinds={})
    assert loaded.spec.name == "greetings" and loaded.source_dir == str(tmp_path)
    (target,) = loaded.functions
    assert target == "headrace_test_flow:hello"
    assert loaded.functions[target]("Ada") == "Hello, Ada"


def test_a_file_whose_name_is_taken_or_is_no_name(tmp_path: Path) -> None:
    for name in ("json.py", "my-flow.py"):
        loaded = load(write(tmp_path, DEFINITION, name), kinds={})
        assert list(loaded.functions) == [f"{name}:hello"]
    assert sys.modules["json"].__name__ == "json"


def test_one_of_several(tmp_path: Path) -> None:
    file = write(tmp_path, DEFINITION + "with dag('other') as second:\n    hello('x')\n")
    for name in ("second", "other"):
        assert load(f"{file}:{name}", kinds={}).spec.name == "other"
    with pytest.raises(InvalidDefinition, match="2 workflows"):
        load(file, kinds={})
    with pytest.raises(NotFound, match="did you mean 'second'"):
        load(f"{file}:secnd", kinds={})


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("def f():\n    return 1 / 0\nf()\n", UserCodeError, "ZeroDivisionError"),
        ("x = (\n", UserCodeError, "SyntaxError"),
        ("import headrace_no_such_module\n", UserCodeError, "beside the file"),
        ("raise SystemExit(3)\n", UserCodeError, "__main__"),
        ("x = 1\n", InvalidDefinition, "no workflow"),
        (
            "from headrace.authoring import dag\nwith dag('w') as d:\n    d.run('a', '{{ x }}')\n",
            InvalidDefinition,
            "'x'",
        ),
    ],
)
def test_a_file_that_cannot_be_used(text: str, error: type[Exception], words: str, tmp_path: Path) -> None:
    file = write(tmp_path, text)
    path = list(sys.path)
    with pytest.raises(error, match=words):
        load(file, kinds={})
    assert "headrace_test_flow" not in sys.modules or error is InvalidDefinition
    assert sys.path[: len(path)] == path


def test_the_traceback_is_the_users_own(tmp_path: Path) -> None:
    file = write(tmp_path, "def f():\n    return 1 / 0\nf()\n")
    with pytest.raises(UserCodeError) as caught:
        load(file, kinds={})
    assert "return 1 / 0" in caught.value.traceback
    assert "importlib" not in caught.value.traceback and "python_source" not in caught.value.traceback
