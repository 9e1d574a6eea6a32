"""An administrator's way to a node that is up: its configuration over real HTTP, read again and looked at."""

import itertools
import json

import httpx
import pytest
from worker_stage import Stage, wait_until

WORKER, ADMIN = "w" * 32, "a" * 32
BAD = "[slots]\nthreads = 9\nthreds = 4\n"


class Administered(Stage):
    """The stage, with a token for administrators."""

    def configure(self, lease: str = "60s", more: str = "") -> None:
        self.cli.write("token", WORKER)
        self.cli.write("admin", ADMIN)
        self.cli.write(
            "headrace.toml",
            f'workflows = ["held.yaml"]\n[server]\nlisten = "127.0.0.1:{self.port}"\n'
            f'worker_tokens = {{file = "token"}}\nadmin_tokens = {{file = "admin"}}\n{more}',
        )

    def ask(self, method: str, what: str, token: str | None = ADMIN) -> httpx.Response:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.request(method, f"{self.url}/api/v1/admin/{what}", headers=headers, trust_env=False)

    def settings(self) -> dict[str, dict]:
        return {entry["key"]: entry for entry in self.ask("GET", "config").json()["settings"]}


@pytest.fixture
def stage(cli):
    made = Administered(cli)
    yield made
    made.end()


def test_what_a_node_goes_by_is_told_with_its_origin_and_without_secrets(stage):
    stage.configure(more="[slots]\nthreads = 3\n")
    stage.up()
    answer = stage.ask("GET", "config")
    settings = stage.settings()
    assert (settings["slots.threads"]["value"], settings["slots.threads"]["origin"]) == (3, "headrace.toml:7:11")
    assert settings["slots.http"]["origin"] == "default"
    assert settings["server.admin_tokens"]["value"] == "***"
    assert answer.json()["slots"]["thread"] == 3
    shown = stage.cli("config", "show", "--server", stage.url, "--token-file", "admin", "--origin").stdout
    assert "headrace.toml:7:11" in shown
    for text in (answer.text, shown, stage.said("up")):
        assert ADMIN not in text
        assert WORKER not in text


def test_a_reload_answers_with_what_changed_and_what_needs_a_restart(stage):
    stage.configure(more="[slots]\nthreads = 3\n")
    stage.up()
    stage.configure(more='[slots]\nthreads = 11\n[node]\nname = "other"\n')
    done = stage.ask("POST", "reload")
    assert done.status_code == 200, done.text
    told = done.json()
    assert told["needs_restart"] == ["node.name"]
    assert told["workflows"] == [{"file": "held.yaml", "workflows": ["held"], "problem": None}]
    settings = stage.settings()
    assert settings["slots.threads"]["value"] == 11
    assert settings["node.name"]["origin"] == "before; headrace.toml:9:8 needs a restart"
    numbers = itertools.count(20)

    def changed() -> list[str]:
        stage.configure(more=f"[slots]\nthreads = {next(numbers)}\n")
        return stage.ask("POST", "reload").json()["changed"]

    # The look at the file, once a second, may come first; then there is nothing left to change.
    wait_until(lambda: changed() == ["slots.threads"], "a change by request")


def test_a_bad_configuration_is_refused_with_its_place_and_the_old_one_stays(stage):
    stage.configure(more="[slots]\nthreads = 3\n")
    stage.up()
    stage.configure(more=BAD)
    refused = stage.ask("POST", "reload")
    assert refused.status_code == 422
    assert refused.headers["content-type"] == "application/problem+json"
    told = refused.json()
    assert told["type"] == "urn:headrace:problem:invalid-configuration"
    [problem] = told["problems"]
    assert problem["where"] == "headrace.toml:8:1"
    assert "unknown key 'threds'" in problem["message"]
    assert "did you mean 'threads'?" in problem["hint"]
    assert stage.settings()["slots.threads"]["value"] == 3
    done = stage.cli("config", "reload", "--server", stage.url, "--token-file", "admin", expect=2)
    assert "headrace.toml:8:1: unknown key 'threds'" in done.stderr
    stage.configure(more="[slots]\nthreads = 4\n")
    done = stage.cli("config", "reload", "--server", stage.url, "--token-file", "admin", "-o", "json")
    assert json.loads(done.stdout)["needs_restart"] == []
    assert stage.settings()["slots.threads"]["value"] == 4


def test_tokens_that_cannot_be_used_are_refused_and_the_old_ones_stay(stage):
    stage.up()
    for text, said in (("short", "token 1 cannot be used"), (WORKER, "share a token")):
        stage.cli.write("admin", text)
        refused = stage.ask("POST", "reload")
        assert refused.status_code == 422
        assert said in refused.json()["detail"]
        assert text not in refused.text
    stage.cli.write("admin", "b" * 32)
    assert stage.ask("POST", "reload").status_code in (200, 401)  # 401: the look at the file came first
    wait_until(lambda: stage.ask("GET", "config", "b" * 32).status_code == 200, "the new token")
    assert stage.ask("GET", "config").status_code == 401


@pytest.mark.parametrize(
    ("token", "status", "kind"), [(None, 401, "not-authorized"), ("x" * 32, 401, "not-authorized")]
)
def test_strangers_are_refused(stage, token, status, kind):
    stage.up()
    for method, what in (("POST", "reload"), ("GET", "config")):
        refused = stage.ask(method, what, token)
        assert (refused.status_code, refused.json()["type"]) == (status, f"urn:headrace:problem:{kind}")
        assert refused.headers["www-authenticate"] == "Bearer"


def test_a_token_is_for_workers_or_for_administrators(stage):
    stage.up()
    refused = stage.ask("GET", "config", WORKER)
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:headrace:problem:forbidden")
    assert "server.admin_tokens" in refused.json()["detail"]
    joining = {"queues": ["gpu"]}
    headers = {"Authorization": f"Bearer {ADMIN}"}
    refused = httpx.post(f"{stage.url}/api/v1/workers/join", json=joining, headers=headers, trust_env=False)
    assert refused.status_code == 403
    stage.cli.write("wrong", WORKER)
    done = stage.cli("config", "reload", "--server", stage.url, "--token-file", "wrong", expect=2)
    assert "refused the token" in done.stderr


def test_administrators_alone_can_be_served_and_workers_alone(stage):
    text = (stage.cli.folder / "headrace.toml").read_text()
    (stage.cli.folder / "headrace.toml").write_text(text.replace('worker_tokens = {file = "token"}\n', ""))
    process = stage.up()
    assert stage.ask("GET", "config").status_code == 200
    headers = {"Authorization": f"Bearer {WORKER}"}
    join = f"{stage.url}/api/v1/workers/join"
    assert httpx.post(join, json={"queues": ["gpu"]}, headers=headers, trust_env=False).status_code == 401
    process.terminate()
    assert process.wait(60) == 0
    (stage.cli.folder / "headrace.toml").write_text(text.replace('admin_tokens = {file = "admin"}\n', ""))
    (stage.cli.folder / "ready").unlink(missing_ok=True)
    stage.up()
    assert stage.ask("GET", "config").status_code == 401
    assert httpx.post(join, json={"queues": ["gpu"]}, headers=headers, trust_env=False).status_code == 200


def test_all_nodes_under_a_supervisor_are_told(stage):
    ready = stage.cli.folder / "ready"
    process = stage.start("up", "up", "--nodes", "2", "--ready-file", ready)
    wait_until(lambda: ready.exists() or process.poll() is not None, "being ready")
    assert process.poll() is None, stage.said("up")
    # Nothing has changed, so that no look at a file makes a node read: only being told does.
    assert stage.ask("POST", "reload").json()["changed"] == []
    wait_until(lambda: stage.said("up").count("the configuration was read again") == 2, "both reading again")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--server", "http://127.0.0.1:1"], "--server needs a token"),
        (["--server", "ftp://x", "--token-file", "admin"], "is no server's address"),
        (["--server", "http://127.0.0.1:1", "--token-file", "admin"], "does not answer"),
        (["--token-file", "admin"], "--server"),
    ],
)
def test_a_command_that_cannot_be_meant(stage, arguments, said):
    assert said in stage.cli("config", "reload", *arguments, expect=2).stderr
