"""Plug-ins: found by name, loaded late, blamed by name."""

import sys
from pathlib import Path

import pytest

from headrace.backends.executors.kinds import TaskKinds, load_task_kinds
from headrace.core.errors import UserCodeError

GOOD = """
import msgspec
class Sql:
    name, shorthand = "sql", "query"
    class Config(msgspec.Struct):
        query: str
    def bind(self, task, context): ...
instance = Sql()
class Poor:
    name = "poor"
class Wrong(Sql):
    Config = dict
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "good_plugin.py").write_text(GOOD)
    (tmp_path / "bad_plugin.py").write_text("def deep():\n    raise OSError('no driver')\ndeep()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("good_plugin", "bad_plugin"):
        sys.modules.pop(name, None)


def test_the_built_in_kinds_are_there():
    kinds = load_task_kinds()
    assert {"python", "run", "http"} <= set(kinds)
    assert [kinds[name].shorthand for name in ("python", "run", "http")] == ["function", "command", "url"]
    assert kinds["run"] is kinds["run"]
    with pytest.raises(KeyError):
        kinds["cobol"]


def test_a_broken_plugin_is_blamed_and_harms_no_other(plugins):
    kinds = TaskKinds([("sql", "good_plugin:Sql", "good-dist"), ("sqlx", "bad_plugin:Kind", "bad-dist")])
    assert "sqlx" in kinds
    assert "bad_plugin" not in sys.modules
    with pytest.raises(UserCodeError, match=r"'sqlx' of bad-dist .* OSError: no driver") as caught:
        kinds["sqlx"]
    assert 'bad_plugin.py", line 2, in deep' in caught.value.traceback
    assert kinds["sql"].shorthand == "query"
    usable, broken = kinds.usable()
    assert set(usable) == {"python", "run", "http", "workflow", "sql"}
    assert len(broken) == 1


def test_two_plugins_may_not_claim_one_name(plugins):
    kinds = TaskKinds(
        [("sql", "good_plugin:Sql", "one"), ("sql", "other:Sql", "two"), ("run", "good_plugin:Sql", "three")]
    )
    with pytest.raises(UserCodeError, match=r"'sql' is claimed by one .* and two"):
        kinds["sql"]
    with pytest.raises(UserCodeError, match=r"'run' is claimed by headrace .* and three"):
        kinds["run"]
    assert kinds["http"].name == "http"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("good_plugin:Poor", "it has no Config, shorthand, bind"),
        ("good_plugin:Wrong", "its Config is not a msgspec.Struct"),
        ("good_plugin:Gone", "AttributeError"),
        ("no_such_plugin:X", "ModuleNotFoundError"),
    ],
)
def test_what_is_no_task_kind_is_refused(plugins, target, message):
    with pytest.raises(UserCodeError, match=f"of some-dist .*{message}"):
        TaskKinds([("x", target, "some-dist")])["x"]


def test_an_instance_serves_as_well_as_a_class(plugins):
    assert TaskKinds([("sql", "good_plugin:instance", "d")])["sql"] is sys.modules["good_plugin"].instance
