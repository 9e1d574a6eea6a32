"""``headrace config``, and the configuration of all the other commands."""

import json

import jsonschema


def test_show_says_what_is_in_force_and_where_it_comes_from(cli):
    cli.write("headrace.toml", '[slots]\nthreads = 3\n[node]\ndrain = "2m"\n')
    text = cli("config", "show", "--origin", env={"HEADRACE_SLOTS__HTTP": "5"}).stdout
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line}
    assert rows["slots.threads"][1:] == ["3", "headrace.toml:2:11"]
    assert rows["slots.http"][1:] == ["5", "HEADRACE_SLOTS__HTTP"]
    assert rows["node.drain"][1:] == ["2m", "headrace.toml:4:9"]
    assert rows["store"][1:] == ["sqlite:///.headrace/headrace.db", "default"]
    found = cli.json("config", "show", "--set", "slots.threads=4")
    values = {entry["key"]: (entry["value"], entry["origin"]) for entry in found["settings"]}
    assert values["slots.threads"] == (4, "--set slots.threads")
    assert found["file"] == "headrace.toml"


def test_secrets_are_not_shown(cli):
    cli.write("headrace.yaml", "store: {env: URL}\nencryption_keys: {file: key}\n")
    cli.write("key", "k:hunter2\n")
    env = {"URL": "postgresql://me:hunter2@db/x", "HEADRACE_LOG": "debug"}
    for arguments in (["show", "--origin"], ["show", "-o", "json"], ["show", "-o", "yaml"], ["check"]):
        done = cli("config", *arguments, env=env)
        assert "hunter2" not in done.stdout + done.stderr
    assert "*** (from the variable URL)" in cli("config", "show", env=env).stdout


def test_check_tells_every_mistake_and_ends_with_2(cli):
    cli.write("good.toml", "[slots]\nthreads = 3\n")
    cli.write("bad.toml", "[slots]\nthreads = 0\nshels = 1\n")
    assert cli("config", "check", "good.toml").stdout == "ok: good.toml, 1 keys\n"
    done = cli("config", "check", "bad.toml", expect=2)
    assert "bad.toml:2:11: slots.threads: expected a whole number from 1 to 10,000, not 0" in done.stderr
    assert "bad.toml:3:1: unknown key 'shels'\n    did you mean 'shells'?" in done.stderr
    found = cli.json("config", "check", "bad.toml", expect=2)
    assert [problem["where"] for problem in found["problems"]] == ["bad.toml:2:11", "bad.toml:3:1"]
    assert "there is no configuration file here" in cli("config", "check", expect=2).stderr
    assert "'gone.toml'" in cli("config", "check", "gone.toml", expect=2).stderr


def test_the_schema_is_one(cli):
    jsonschema.Draft202012Validator.check_schema(json.loads(cli("config", "schema").stdout))


def test_every_command_goes_by_the_configuration(cli):
    cli.write("w.yaml", "tasks: {a: {run: 'true'}}\n")
    cli.write("headrace.toml", 'store = "sqlite:///jobs.db"\n')
    cli("run", "w.yaml", "-q")
    assert (cli.folder / "jobs.db").exists()
    assert len(cli.json("runs", "list")) == 1
    other = cli.folder / "elsewhere"
    other.mkdir()
    assert len(json.loads(cli("--config", "../headrace.toml", "runs", "list", "-o", "json", cwd=other).stdout)) == 1
    assert cli("runs", "list", "--store", "sqlite:///gone.db", expect=2)
    cli.write("headrace.toml", "stor = 1\n")
    refused = cli("runs", "list", expect=2)
    assert "headrace.toml:1:1: unknown key 'stor'\n    did you mean 'store'?" in refused.stderr


def test_nobody_runs_here(cli):
    assert "no node of this store runs on this host" in cli("config", "show", "--running", expect=2).stderr
    assert cli.json("config", "show", "--running") == []
