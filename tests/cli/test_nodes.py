"""``headrace nodes`` and ``headrace locks``: who works here, who leads, who holds what."""

import json

import yaml

from headrace.sync import Headrace

OUTSIDE = {"node": "b", "queues": ("gpu", "default"), "labels": {"zone": "x"}}


def test_nodes_and_locks_are_shown(cli):
    url = f"sqlite:///{cli.folder / 'x.db'}"
    with (
        Headrace(url, node="a", lease_seconds=3600.0) as a,
        Headrace(url, adopt=False, pull=True, **OUTSIDE),
        a.lock("reports/nightly") as held,
    ):
        shown = json.loads(cli("nodes", "--store", url, "-o", "json").stdout)
        assert [(node["id"], node["role"], node["live"], node["leader"]) for node in shown] == [
            ("a", "node", True, True),
            ("b", "worker", True, False),
        ]
        assert 0 < shown[0]["term"] < held.token
        assert shown[1]["term"] is None
        assert (shown[1]["queues"], shown[1]["labels"]) == (["default", "gpu"], {"zone": "x"})
        assert shown[0]["lease_expires_at"].endswith("Z")
        locks = yaml.safe_load(cli("locks", "--store", url, "-o", "yaml").stdout)
        assert [(lock["name"], lock["node"], lock["token"], lock["waiting"]) for lock in locks] == [
            ("headrace.leader", "a", shown[0]["term"], 0),
            ("reports/nightly", "a", held.token, 0),
        ]
        text = cli("nodes", "--store", url).stdout.splitlines()
        assert text[0].split() == ["NODE", "ROLE", "STATE", "LEADER", "QUEUES", "LABELS"]
        assert text[1].split() == ["a", "node", "live", "term", str(shown[0]["term"]), "default"]
        assert text[2].split() == ["b", "worker", "live", "default,", "gpu", "zone=x"]
        text = cli("locks", "--store", url).stdout.splitlines()
        assert text[0].split() == ["LOCK", "NODE", "TOKEN", "HELD", "FOR", "WAITING"]
        assert text[2].split()[:3] == ["reports/nightly", "a", str(held.token)]


def test_where_nobody_is(cli):
    url = f"sqlite:///{cli.folder / 'x.db'}"
    with Headrace(url):
        pass
    assert cli("nodes", "--store", url).stdout == "no node has been here\n"
    assert cli("locks", "--store", url).stdout == "no lock is held\n"
    assert cli("locks", "--store", url, "-o", "json").stdout == "[]\n"


def test_no_store_is_made_by_looking(cli):
    for command in ("nodes", "locks"):
        assert "there is no database" in cli(command, "--store", "sqlite:///missing.db", expect=2).stderr
    assert list(cli.folder.iterdir()) == []
