"""Reading the configuration: who wins, what is refused and where, what is never shown."""

import json
from pathlib import Path

import jsonschema
import pytest

from headrace.config import describe
from headrace.config.changes import compare
from headrace.config.keys import KEYS, settings_of, value_of
from headrace.config.load import NAMES, load
from headrace.config.settings import Change, Settings
from headrace.config.toml_places import places
from headrace.core.errors import InvalidConfiguration, NotFound


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(**options):
    return load(environment=options.pop("environment", {}), **options)


def refused(**options) -> list[str]:
    with pytest.raises(InvalidConfiguration) as caught:
        read(**options)
    return str(caught.value).splitlines()


# ---- who wins --------------------------------------------------------------------------------------------------------


def test_without_anything_the_defaults_hold():
    found = read()
    assert found.settings == Settings()
    assert found.file is None
    assert found.origin(("store",)) == "default"


def test_the_later_wins_key_by_key():
    Path("headrace.toml").write_text('store = "sqlite:///file.db"\n[slots]\nthreads = 1\nshells = 1\nhttp = 1\n')
    found = read(environment={"HEADRACE_SLOTS__SHELLS": "2", "HEADRACE_SLOTS__HTTP": "2"}, overrides=["slots.http=3"])
    slots = found.settings.slots
    assert (found.settings.store, slots.threads, slots.shells, slots.http) == ("sqlite:///file.db", 1, 2, 3)
    assert [found.origin(("slots", key)) for key in ("threads", "shells", "http", "inline")] == [
        "headrace.toml:3:11",
        "HEADRACE_SLOTS__SHELLS",
        "--set slots.http",
        "default",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_in_toml_and_in_yaml(name):
    text = {
        ".toml": 'retention = "30d"\nworkflows = ["a", "b"]\n[node]\ndrain = 5\n[log]\nformat = "json"\n',
        ".yaml": "retention: 30d\nworkflows: [a, b]\nnode: {drain: 5}\nlog:\n  format: json\n",
    }
    Path(name).write_text(text[".toml" if name.endswith("toml") else ".yaml"])
    found = read().settings
    assert (found.retention, found.workflows, found.node.drain, found.log.format) == (
        30 * 86_400,
        ("a", "b"),
        5.0,
        "json",
    )


def test_a_file_is_named_by_option_or_variable_and_two_are_too_many(folder):
    Path("other.toml").write_text("[slots]\nthreads = 7\n")
    assert read(named="other.toml").settings.slots.threads == 7
    assert read(environment={"HEADRACE_CONFIG": "other.toml"}).settings.slots.threads == 7
    with pytest.raises(NotFound, match=r"no configuration file 'gone\.toml'"):
        read(named="gone.toml")
    Path("headrace.toml").touch()
    Path("headrace.yaml").touch()
    assert "headrace.toml and headrace.yaml" in refused()[1]


def test_an_empty_variable_counts_as_not_set_and_a_short_one_sets_the_level():
    found = read(environment={"HEADRACE_STORE": "", "HEADRACE_LOG": "DEBUG", "HEADRACE_KEYS": "x", "PATH": "y"})
    assert found.settings.store == Settings().store
    assert found.settings.log.level == "debug"
    both = {"HEADRACE_LOG": "debug", "HEADRACE_LOG__LEVEL": "error"}
    assert read(environment=both).settings.log.level == "error"


def test_texts_are_converted():
    found = read(
        overrides=[
            "workflows=a.yaml, b.py",
            'env_allow=["A", "B,C"]',
            "retention=1h30m",
            "limits.process_memory=2GiB",
            "slots.threads=8",
        ]
    ).settings
    assert found.workflows == ("a.yaml", "b.py")
    assert found.env_allow == ("A", "B,C")
    assert found.retention == 5400
    assert found.limits.process_memory == 2 << 30
    assert found.slots.threads == 8


def test_paths_in_a_file_are_meant_from_its_folder(folder):
    (folder / "etc").mkdir()
    text = 'store = "sqlite:///jobs.db"\ndata_dir = "data"\nworkflows = ["flows/*.yaml", "/abs"]\n'
    (folder / "etc" / "headrace.toml").write_text(text)
    found = read(named="etc/headrace.toml").settings
    assert found.store == f"sqlite:///{folder}/etc/jobs.db"
    assert found.data_dir == f"{folder}/etc/data"
    assert found.workflows == (f"{folder}/etc/flows/*.yaml", "/abs")
    Path("headrace.toml").write_text(text)
    assert read().settings.store == "sqlite:///jobs.db"
    assert read(overrides=["data_dir=here"], named="etc/headrace.toml").settings.data_dir == "here"


# ---- what is refused, and where --------------------------------------------------------------------------------------


def test_every_mistake_is_told_at_once_at_its_line_and_column():
    Path("headrace.toml").write_text(
        "# a comment with [brackets] = and\n"
        'store = ""\n'
        "slot = 3\n"
        'workflows = ["a", # x = 1\n  "b]"]\n'
        "threads = 5\n"
        "[slots]\n"
        'threads = "many"\n'
        "proceses = 3\n"
        "[node]\n"
        '"lease" = "0s"\n'
        'name = """a\nb"""\n'
        "[log]\n"
        'level = "loud"\n'
        "[sllots]\n"
        "threads = 1\n"
    )
    assert refused() == [
        "the configuration has 9 problems:",
        "  headrace.toml:2:9: store: expected a text that is not empty, not ''",
        "  headrace.toml:3:1: unknown key 'slot'",
        "    did you mean 'slots'?",
        "  headrace.toml:6:1: unknown key 'threads'",
        "    did you mean 'slots.threads'?",
        "  headrace.toml:8:11: slots.threads: expected a whole number from 1 to 10,000, not 'many'",
        "  headrace.toml:9:1: unknown key 'proceses'",
        "    did you mean 'processes'?",
        "  headrace.toml:11:11: node.lease: expected a duration such as 30s, 5m or 2d from 1s to 1h, not '0s'",
        "  headrace.toml:12:8: node.name: expected a text of letters, digits and ._- (at most 100), not 'a\\nb'",
        "  headrace.toml:15:9: log.level: expected one of debug, info, warning, error, not 'loud'",
        "  headrace.toml:16:2: unknown key 'sllots'",
        "    did you mean 'slots'?",
    ]


def test_the_same_in_yaml():
    Path("headrace.yaml").write_text("slots:\n  threads: many\n  proceses: 3\nstor: x\nnode: 5\n")
    assert refused() == [
        "the configuration has 4 problems:",
        "  headrace.yaml:2:12: slots.threads: expected a whole number from 1 to 10,000, not 'many'",
        "  headrace.yaml:3:3: unknown key 'proceses'",
        "    did you mean 'processes'?",
        "  headrace.yaml:4:1: unknown key 'stor'",
        "    did you mean 'store'?",
        "  headrace.yaml:5:7: node: expected a section with keys, not 5",
    ]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("headrace.toml", b"store = \n", "headrace.toml:1:9: not TOML: "),
        ("headrace.toml", b"a = 1\na = 2\n", "headrace.toml:2:6: not TOML: "),
        ("headrace.toml", b"a = '''", "headrace.toml:1:"),
        ("headrace.toml", b"store = '\xff'\n", "headrace.toml:1:10: the file is not UTF-8"),
        ("headrace.yaml", b"store: [\n", "headrace.yaml:"),
        ("headrace.yaml", b"- store\n", "headrace.yaml:1:1: expected a mapping of keys to values, not list"),
        ("headrace.yaml", b"store: a\nstore: b\n", "headrace.yaml:2:1: "),
        ("headrace.toml", b"#" * (1 << 20) + b"\n\n", "more than 1,048,576 bytes"),
    ],
)
def test_a_file_that_cannot_be_read(name, text, said):
    Path(name).write_bytes(text)
    assert said in refused()[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"environment": {"HEADRACE_SLOTS__THREDS": "1"}},
            "HEADRACE_SLOTS__THREDS: unknown variable / did you mean 'HEADRACE_SLOTS__THREADS'?",
        ),
        (
            {"environment": {"HEADRACE_SLOTS__THREADS": "x"}},
            "HEADRACE_SLOTS__THREADS: expected a whole number from 1 to 10,000, not 'x'",
        ),
        ({"overrides": ["slots"]}, "--set slots: expected section.key=value / for example: --set slots.threads=8"),
        ({"overrides": ["slots.thread=1"]}, "--set: unknown key 'slots.thread' / did you mean 'threads'?"),
        (
            {"overrides": ["node.drain=soon"]},
            "--set node.drain: expected a duration such as 30s, 5m or 2d, not 'soon'",
        ),
        (
            {"overrides": ["limits.process_memory=1KiB"]},
            "--set limits.process_memory: expected a size such as 512MiB or 2GiB, at least 67,108,864 bytes, not '1KiB'",
        ),
    ],
)
def test_variables_and_options_that_are_wrong(options, said):
    assert " / ".join(line.strip() for line in refused(**options)[1:]) == said


def test_a_file_of_nothing_but_mistakes_is_told_with_an_end():
    Path("headrace.yaml").write_text("".join(f"k{number}: 1\n" for number in range(80)))
    lines = refused()
    assert lines[0] == "the configuration has 80 problems:"
    assert lines[-1] == "  and 30 more"


# ---- secrets ---------------------------------------------------------------------------------------------------------

SECRET = "postgresql://me:hunter2@db/jobs"


@pytest.mark.parametrize("source", ["env", "file", "plain", "variable"])
def test_a_secret_is_used_and_never_shown(folder, source):
    (folder / "secret").write_text(SECRET + "\n")
    environment = {"URL": SECRET}
    text = {
        "env": 'store = {env = "URL"}\n',
        "file": 'store = {file = "secret"}\n',
        "plain": f'store = "{SECRET}"\n',
        "variable": "",
    }[source]
    Path("headrace.toml").write_text(text)
    if source == "variable":
        environment["HEADRACE_STORE"] = SECRET
    found = read(environment=environment)
    assert found.settings.store == SECRET
    assert "hunter2" not in json.dumps(describe.entries(found))
    broker = read(environment={**environment, "HEADRACE_BROKER": "nats://a:hunter2@b"})
    assert "hunter2" not in json.dumps(describe.entries(broker))
    secret = [path for path, given in found.given.items() if given.secret is not None]
    Path("headrace.toml").unlink()
    before = json.dumps(describe.entries(read(), found.settings, secret))
    assert "hunter2" not in before
    assert "default needs a restart" in before
    assert (Path("secret") in found.watched) == (source == "file")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('store = {env = "NOPE"}', "headrace.toml:1:9: store: the environment variable NOPE is not set"),
        ('store = {file = "gone"}', "headrace.toml:1:9: store: the file gone cannot be read: No such file"),
        ('store = {file = "bytes"}', "store: the file bytes is not text"),
        ('store = {file = "empty"}', "store: what the file empty holds is not a text that is not empty"),
        ('store = {evn = "X"}', "store: expected a text that is not empty, not a mapping"),
        ('store = {env = "X", file = "y"}', "store: expected a text that is not empty, not a mapping"),
        ('[slots]\nthreads = {env = "X"}', "slots.threads: expected a whole number"),
        ("encryption_keys = 12", "encryption_keys: expected a text that is not empty, not a value that is not shown"),
    ],
)
def test_a_secret_that_is_not_there(folder, text, said):
    (folder / "bytes").write_bytes(b"\xff\xfe")
    (folder / "empty").write_text("\n")
    Path("headrace.toml").write_text(text)
    assert said in "\n".join(refused())


# ---- the table of keys -----------------------------------------------------------------------------------------------


def test_the_defaults_are_what_the_table_says():
    settings = Settings()
    for path, key in KEYS.items():
        assert value_of(settings, path) == key.default, key.name
        if key.default is not None:
            assert key.read(list(key.default) if isinstance(key.default, tuple) else key.default) == key.default
    assert settings_of({}) == settings


def test_the_schema_takes_what_is_right_and_refuses_what_is_wrong():
    schema = describe.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    good = {"store": {"env": "X"}, "workflows": "a.yaml", "node": {"drain": "5s", "lease": 30}, "slots": {"threads": 2}}
    assert not list(validator.iter_errors(good))
    for bad in ({"stor": "x"}, {"slots": {"threads": 0}}, {"log": {"level": "loud"}}, {"store": {"evn": "X"}}):
        assert list(validator.iter_errors(bad)), bad


def test_the_places_of_keys_in_toml():
    text = (
        "a.b = 1 # c = 2\n"
        '"quo.ted" = [ [1, 2], { x = "}", y = [3] } ]\n'
        "m = '''\n[not] = a\n''' \n"
        "[t]\n  k   = 1979-05-27 07:32:00\n"
        "[[list]]\nz = 1\n"
    )
    found = places(text)
    assert found["a", "b"] == ((1, 1), (1, 7))
    assert found["quo.ted",] == ((2, 1), (2, 13))
    assert found["quo.ted", "1", "y"] == ((2, 34), (2, 38))
    assert found["m",] == ((3, 1), (3, 5))
    assert ("not",) not in found
    assert found["t", "k"] == ((7, 3), (7, 9))
    assert found["list", "z"] == ((9, 1), (9, 5))


# ---- what can change -------------------------------------------------------------------------------------------------


def test_what_needs_a_restart_keeps_its_old_value():
    old = settings_of({("slots", "threads"): 2, ("store",): "sqlite:///a.db", ("log", "level"): "info"})
    new = settings_of({("slots", "threads"): 5, ("store",): "sqlite:///b.db", ("node", "name"): "x"})
    done = compare(old, new)
    assert done.changed == ("slots.threads", "log.level")
    assert done.needs_restart == ("store", "node.name")
    assert done.in_force == settings_of({("slots", "threads"): 5, ("store",): "sqlite:///a.db"})
    assert compare(done.in_force, new).changed == ()
    assert compare(done.in_force, done.in_force).needs_restart == ()


def test_every_key_says_when_it_changes():
    assert {key.change for key in KEYS.values()} == set(Change)


def test_a_node_that_stays_has_the_name_of_its_pod_unless_it_has_another(folder):
    pod = {"POD_NAME": "mill-7"}
    found = read(environment=pod, serving=True)
    assert (found.settings.node.name, found.origin(("node", "name"))) == ("mill-7", "POD_NAME")
    assert read(environment=pod).settings.node.name is None, "a command beside the node must not be taken for it"
    named = {**pod, "HEADRACE_NODE__NAME": "other"}
    assert read(environment=named, serving=True).settings.node.name == "other"
    (folder / "headrace.toml").write_text('[node]\nname = "file"\n')
    assert read(environment=pod, serving=True).settings.node.name == "file"


def test_a_pod_name_that_no_node_can_have_is_refused_by_its_variable():
    assert "POD_NAME" in "\n".join(refused(environment={"POD_NAME": "no name"}, serving=True))
