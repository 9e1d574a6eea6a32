"""Bad input: exit code 2, what is wrong, where, what to do, and no traceback but the user's own."""

import os
import resource
import sqlite3
import sys

import pytest

OK = "tasks: {a: {run: 'true'}}\n"

DEFINITIONS = {
    "broken YAML": (
        "name: x\ntasks:\n  a: {run: 'true'\n  b: {run: 'true'}\n",
        ["bad.yaml:4:", "not closed", "began on line 3"],
    ),
    "unknown key": ("tasks:\n  a: {run: 'true', retry: 3}\n", ["bad.yaml:2:", "'retry'", "did you mean 'retries'?"]),
    "wrong type": (
        "tasks:\n  a: {run: 'true', max_parallel: many}\n",
        ["bad.yaml:2:34", "expected a whole number", "'many'"],
    ),
    "unknown task in needs": (
        "tasks:\n  load: {run: 'true'}\n  b: {run: 'true', needs: [laod]}\n",
        ["bad.yaml:3:", "'laod'", "did you mean 'load'?"],
    ),
    "cycle": (
        "tasks:\n  z: {run: 'true'}\n  a: {run: 'true', needs: [c]}\n  b: {run: 'true', needs: [a]}\n"
        "  c: {run: 'true', needs: [b]}\n",
        ["bad.yaml:", "cycle", "a", "b", "c"],
    ),
    "duplicate id": ("tasks:\n  a: {run: 'true'}\n  a: {run: 'false'}\n", ["bad.yaml:3:", "'a'"]),
    "undefined template name": (
        "params: {year: 2013}\ntasks:\n  a: {run: 'echo {{ params.yaer }}'}\n",
        ["bad.yaml:3:", "yaer", "did you mean 'year'?"],
    ),
    "unknown function": ("tasks:\n  a: {python: 'code:wrok'}\n", ["bad.yaml:2:", "wrok", "did you mean 'work'?"]),
    "unknown module": ("tasks:\n  a: {python: 'nowhere:work'}\n", ["bad.yaml:2:", "nowhere"]),
    "missing argument": ("tasks:\n  a: {python: 'code:work'}\n", ["bad.yaml:2:", "'x'"]),
    "alias bomb": (
        "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
        + OK,
        ["bad.yaml:", "alias"],
    ),
    "not a mapping": ("- a\n- b\n", ["bad.yaml"]),
    "empty file": ("", ["bad.yaml"]),
    "not UTF-8 is said of": ("tasks: {a: {run: 'true', surprise: \u00e9}}\n", ["bad.yaml:1:", "'surprise'"]),
}


def refused(cli, *arguments, **options) -> str:
    """What standard error says of bad input."""
    done = cli(*arguments, expect=2, **options)
    assert done.stderr.startswith("error: "), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.stderr


@pytest.mark.parametrize("name", DEFINITIONS)
def test_run_refuses_a_definition_and_stores_nothing(cli, name):
    text, expected = DEFINITIONS[name]
    cli.write("code.py", "def work(x):\n    return x\n")
    cli.write("bad.yaml", text)
    said = refused(cli, "run", "bad.yaml")
    assert not [part for part in expected if part not in said], said
    if (cli.folder / ".headrace").exists():
        assert cli.json("runs", "list") == []


def test_validate_says_all_at_once_and_leaves_no_trace(cli):
    cli.write(
        "bad.yaml", "tasks:\n  a: {run: 'true', retry: 3}\n  b: {run: 'true', needs: [c]}\n  d: {python: 'no:no'}\n"
    )
    cli.write("good.yaml", OK)
    done = cli("validate", "good.yaml", "bad.yaml", expect=2)
    assert done.stdout == "good.yaml: ok: good, 1 task\n"
    assert "bad.yaml:2:" in done.stderr
    assert "bad.yaml:3:" in done.stderr
    assert sorted(path.name for path in cli.folder.iterdir()) == ["bad.yaml", "good.yaml"]


def test_validate_in_json_has_the_place_of_every_problem(cli):
    cli.write("bad.yaml", "tasks:\n  a: {run: 'true', retry: 3}\n  b: {run: 'true', needs: [c]}\n")
    found = cli.json("validate", "bad.yaml", expect=2)
    assert found["ok"] is False
    assert [problem["where"].rsplit(":", 1)[0] for problem in found["problems"]] == ["bad.yaml:2", "bad.yaml:3"]
    cli.write("good.yaml", OK)
    assert cli.json("validate", "good.yaml") == {
        "file": "good.yaml",
        "ok": True,
        "workflow": "good",
        "tasks": 1,
        "problems": [],
    }


def test_an_import_error_in_user_code_is_shown_with_the_users_own_traceback(cli):
    cli.write("code.py", "import json\n\ndef helper():\n    return 1 / 0\n\nhelper()\n")
    cli.write("bad.yaml", "tasks:\n  a: {python: 'code:work'}\n")
    done = cli("run", "bad.yaml", expect=2)
    assert "error: bad.yaml:2:" in done.stderr
    assert 'code.py", line 4, in helper' in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert "headrace/" not in done.stderr.partition("Traceback")[2]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), ["year", "required parameter is missing"]),
        (("-p", "year=soon"), ["year", "expected a whole number", "'soon'"]),
        (("-p", "year=2013", "-p", "yaer=1"), ["yaer", "unknown parameter", "did you mean 'year'?"]),
        (("-p", "year"), ["-p year: expected name=value"]),
        (("--params-file", "no.yaml"), ["no.yaml", "No such file"]),
        (("--params-file", "list.yaml"), ["list.yaml", "expected a mapping"]),
        (("--params-file", "typed.yaml"), ["year", "expected a whole number", "'2013'"]),
    ],
)
def test_parameters_are_checked_before_anything_is_stored(cli, given, expected):
    cli.write("w.yaml", "params: {year: {type: int}}\ntasks: {a: {run: 'true'}}\n")
    cli.write("list.yaml", "[1, 2]\n")
    cli.write("typed.yaml", "year: '2013'\n")
    said = refused(cli, "run", "w.yaml", *given)
    assert not [part for part in expected if part not in said], said


@pytest.mark.skipif(sys.platform == "darwin", reason="its file system keeps UTF-8 only")
def test_texts_that_are_no_unicode_are_refused_where_they_come_from(cli):
    cli.write("w.yaml", "params: {year: '', more: []}\ntasks: {a: {run: 'true'}}\n")
    no_unicode = os.fsdecode(b"n\xe9")
    (cli.folder / no_unicode).mkdir()
    (cli.folder / no_unicode / "w.yaml").write_text(OK)
    assert "workflow 'w' has 1 problem" in refused(cli, "run", f"{no_unicode}/w.yaml")
    assert "year: 'n\\udce9' is no Unicode" in refused(cli, "run", "w.yaml", "-p", f"year={no_unicode}")
    assert "more: 'n\\udce9' is no Unicode" in refused(cli, "run", "w.yaml", "-p", f'more=["{no_unicode}"]')
    assert "the tag 'n\\udce9' is no Unicode" in refused(cli, "run", "w.yaml", "--tag", f"team={no_unicode}")
    assert "the key 'n\\udce9' is no Unicode" in refused(cli, "run", "w.yaml", "--key", no_unicode)


def test_a_file_of_50_megabytes_is_refused_quickly(cli):
    (cli.folder / "big.yaml").write_bytes(OK.encode() + b"# padding\n" * 5_300_000)
    said = refused(cli, "run", "big.yaml")
    assert "big.yaml" in said
    assert "MiB" in said


def test_a_map_over_its_bound_is_refused(cli):
    cli.write("w.yaml", "tasks:\n  a: {map: [1, 2, 3], max_items: 2, run: 'true'}\n")
    said = refused(cli, "run", "w.yaml")
    assert "w.yaml:2:" in said
    assert "more than max_items (2)" in said


def test_a_map_over_its_bound_that_only_the_run_can_know_fails_the_task(cli):
    cli.write("code.py", "def three():\n    return [1, 2, 3]\n")
    cli.write(
        "w.yaml",
        "tasks:\n  a: {python: 'code:three'}\n  b: {map: '{{ tasks.a.output }}', max_items: 2, run: 'true'}\n",
    )
    run = cli.json("run", "w.yaml", expect=2)
    assert (run["state"], run["failed_task"]) == ("failed", "b")
    assert run["tasks"]["b"]["error"]["type"] == "map_too_large"
    assert "max_items" in run["tasks"]["b"]["error"]["message"]


@pytest.mark.parametrize(
    "arguments", [["run", "no.yaml"], ["run", "nothing"], ["validate", "no.yaml"], ["run"], ["fly"]]
)
def test_what_does_not_exist_is_said_in_a_line(cli, arguments):
    cli.write("now.yaml", OK)
    said = refused(cli, *arguments)
    assert len(said.splitlines()) <= 2


# ---- the store --------------------------------------------------------------------------------------------------


def test_reading_a_store_that_does_not_exist_makes_none(cli):
    for command in (
        ["list"],
        ["show", "-"],
        ["logs", "-"],
        ["resume", "-"],
        ["cancel", "-"],
        ["delete", "--older-than=1d"],
    ):
        said = refused(cli, "runs", *command)
        assert "there is no database at" in said
        assert "--store" in said
    assert list(cli.folder.iterdir()) == []


@pytest.mark.parametrize("url", ["oracle://x", "x.db", "sqlite://host/x.db", ""])
def test_a_bad_store_url_is_refused(cli, url):
    cli.write("w.yaml", OK)
    if url:
        assert "sqlite:///" in refused(cli, "run", "w.yaml", "--store", url)
    else:
        cli("run", "w.yaml", env={"HEADRACE_STORE": ""})  # an empty variable is none


def store_of(cli):
    cli.write("w.yaml", OK)
    cli("run", "w.yaml")
    return cli.folder / ".headrace" / "headrace.db"


def test_a_newer_schema_is_left_alone(cli):
    file = store_of(cli)
    with sqlite3.connect(file) as db:
        db.execute("PRAGMA user_version = 999")
    db.close()
    said = refused(cli, "run", "w.yaml")
    assert "999" in said
    assert "upgrade Headrace" in said


def test_a_corrupt_file_is_named(cli):
    file = store_of(cli)
    file.write_bytes(b"SQLite format 3\0" + os.urandom(8192))
    assert str(file) in refused(cli, "run", "w.yaml")
    file.write_bytes(b"these are my notes")
    said = refused(cli, "runs", "list")
    assert str(file) in said
    assert "backup" in said


def test_a_database_of_something_else_is_left_alone(cli):
    cli.write("w.yaml", OK)
    with sqlite3.connect(cli.folder / "other.db") as db:
        db.execute("CREATE TABLE songs (title)")
    db.close()
    assert "songs" in refused(cli, "run", "w.yaml", "--store", "sqlite:///other.db")


def test_a_locked_database_is_waited_for_and_then_named(cli):
    file = store_of(cli)
    db = sqlite3.connect(file, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    try:
        said = refused(cli, "run", "w.yaml")
    finally:
        db.close()
    assert "locked by another process" in said
    assert "hint:" in said


def test_a_read_only_folder_is_named(cli):
    folder = cli.folder / "fixed"
    folder.mkdir()
    cli.write("w.yaml", OK)
    if os.geteuid() == 0:  # mode bits do not hold root back; a file in the place of the folder does
        folder.rmdir()
        folder.write_text("")
    else:
        folder.chmod(0o555)
    said = refused(cli, "run", "w.yaml", "--store", "sqlite:///fixed/deeper/x.db")
    assert "fixed/deeper" in said
    assert "hint:" in said


def limit_file_size(size: int):
    def apply() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return apply


def test_a_full_disk_stops_the_run_and_it_can_go_on_afterwards(cli):
    """A bound on the size of files is met by SQLite as a full disk or a failed write; both must read well."""
    cli.write("code.py", "def fill(x):\n    return 'x' * 20_000\n")
    store_of(cli)
    cli.write("w.yaml", "tasks:\n  a: {map: '{{ range(200) | list }}', python: 'code:fill', with: {x: '{{ item }}'}}\n")
    done = cli("run", "w.yaml", "-q", expect=2, preexec_fn=limit_file_size(1_000_000))
    warning, said = done.stderr.split("\n", 1)
    assert warning.startswith("warning: commit failed, trying again")
    assert said.startswith("error: ")
    assert "headrace.db" in said
    assert "headrace runs resume" in said
    run = cli.json("runs", "resume", "-")
    assert (run["state"], len(run["tasks"]["a"]["output"])) == ("succeeded", 200)


def test_closed_pipes_are_nobodys_error(cli):
    store_of(cli)
    process = cli.start("runs", "list", "-o", "json", "--limit", "1000")
    assert process.stdout is not None
    process.stdout.close()  # nobody reads
    _, said = process.communicate(timeout=30)
    assert "BrokenPipe" not in said
    assert process.returncode == 0
