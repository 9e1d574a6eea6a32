"""TLS between a node that serves and those who ask: with certificates made for the test, over real sockets."""

import shutil
import socket
import ssl
import subprocess

import httpx
import pytest
from certificates import make_certificates
from cryptography.hazmat.primitives import serialization
from worker_stage import TOKEN, Stage, wait_until

ADMIN = "a" * 32


class Secured(Stage):
    """The stage, with a certificate for 127.0.0.1; ``make`` puts another one in its place."""

    def __init__(self, cli) -> None:
        self.tls = 'tls_certificate = "certificate.pem"\ntls_key = "key.pem"\n'
        super().__init__(cli)
        self.url = f"https://127.0.0.1:{self.port}"
        self.make()

    def make(self, folder: str = ".") -> None:
        (self.cli.folder / folder).mkdir(exist_ok=True)
        make_certificates(self.cli.folder / folder, "127.0.0.1")

    def configure(self, lease: str = "60s") -> None:
        self.cli.write("admin", ADMIN)
        self.cli.write("token", TOKEN)
        self.cli.write(
            "headrace.toml",
            f'workflows = ["held.yaml"]\n[server]\nlisten = "127.0.0.1:{self.port}"\nworker_tokens = {{file = "token"}}\n'
            f'admin_tokens = {{file = "admin"}}\n{self.tls}',
        )

    def administer(self, *arguments: str, expect: int = 0) -> subprocess.CompletedProcess:
        return self.cli(
            "config", *arguments, "--server", self.url, "--token-file", "admin", "--ca", "authority.pem", expect=expect
        )

    def served(self) -> str:
        """The certificate that is served now."""
        return ssl.get_server_certificate(("127.0.0.1", self.port))

    def certificate(self, folder: str = ".") -> str:
        return (self.cli.folder / folder / "certificate.pem").read_text()


@pytest.fixture
def stage(cli):
    made = Secured(cli)
    yield made
    made.end()


def test_a_worker_and_an_administrator_trust_the_authority_they_are_given(stage):
    stage.up()
    assert "there is no TLS here" not in stage.said("up")
    stage.cli.env["HEADRACE_CA"] = "authority.pem"
    worker = stage.worker("w1")
    run_id = stage.run()
    stage.gate.touch()
    assert stage.until_ended(run_id)["output"] == {"far": 1}
    worker.terminate()
    assert worker.wait(60) == 0, stage.said("w1")
    assert "held" in stage.administer("reload").stdout


def test_nobody_else_is_trusted(stage):
    stage.make("other")
    stage.up()
    for environment, arguments in (({}, ["--ca", "other/authority.pem"]), ({"HEADRACE_CA": ""}, [])):
        done = stage.cli(
            "config", "reload", "--server", stage.url, "--token-file", "admin", *arguments, expect=2, env=environment
        )
        assert "certificate verify failed" in done.stderr
        assert "see --ca" in done.stderr
    stage.cli.env["HEADRACE_CA"] = "other/authority.pem"
    refused = stage.start("w1", "worker", "--server", stage.url, "--token-file", "token", "-v")
    wait_until(lambda: "certificate verify failed" in stage.said("w1"), "saying so")
    refused.terminate()
    assert refused.wait(60) == 0
    assert "has joined" not in stage.said("up")


def test_a_renewed_certificate_is_served_at_once_and_open_connections_stay(stage):
    stage.up()
    assert stage.served() == stage.certificate()
    context = ssl.create_default_context(cafile=stage.cli.folder / "authority.pem")
    with socket.create_connection(("127.0.0.1", stage.port)) as plain, context.wrap_socket(
        plain, server_hostname="127.0.0.1"
    ) as kept:  # fmt: skip
        kept.settimeout(60)
        stage.make()  # the file is watched: nobody asks
        wait_until(lambda: stage.served() == stage.certificate(), "the renewed one")
        kept.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert kept.recv(1000).startswith(b"HTTP/1.1 200")
    assert stage.administer("show").stdout
    wait_until(lambda: "another certificate is served" in stage.said("up"), "saying so")


def test_a_reload_by_request_says_that_the_certificate_is_another(stage):
    stage.up()

    def renew() -> bool:
        stage.make()
        # Whichever is served by now: the look at the files may come first, and then nothing is left to change.
        done = httpx.post(
            f"{stage.url}/api/v1/admin/reload",
            headers={"Authorization": f"Bearer {ADMIN}"},
            trust_env=False,
            verify=False,
        )
        assert stage.served() == stage.certificate()
        return done.json()["changed"] == ["server.tls_certificate", "server.tls_key"]

    wait_until(renew, "a change by request")


def test_a_certificate_that_cannot_be_used_is_refused_and_the_old_one_is_served(stage):
    stage.up()
    before = stage.served()
    shutil.copy(stage.cli.folder / "authority.pem", stage.cli.folder / "certificate.pem")
    done = stage.administer("reload", expect=2)
    assert "the private key in key.pem is not that of the certificate in certificate.pem" in done.stderr
    assert stage.served() == before


def encrypt(stage) -> None:
    key = serialization.load_pem_private_key((stage.cli.folder / "key.pem").read_bytes(), None)
    form = serialization.PrivateFormat.PKCS8
    data = key.private_bytes(serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"secret"))
    (stage.cli.folder / "key.pem").write_bytes(data)


def exchange(stage) -> None:
    stage.make("other")
    (stage.cli.folder / "other" / "key.pem").replace(stage.cli.folder / "key.pem")


def spoil(stage) -> None:
    text = stage.certificate()
    (stage.cli.folder / "certificate.pem").write_text(text[:100] + "!" + text[101:])


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (lambda stage: (stage.cli.folder / "key.pem").unlink(), "server.tls_key: key.pem cannot be read: No such file"),
        (lambda stage: (stage.cli.folder / "certificate.pem").unlink(), "certificate.pem cannot be read: No such file"),
        (lambda stage: stage.cli.write("certificate.pem", "x"), "certificate.pem holds no certificate"),
        (lambda stage: stage.cli.write("key.pem", "x"), "server.tls_key: key.pem holds no private key"),
        (exchange, "the private key in key.pem is not that of the certificate in certificate.pem"),
        (encrypt, "the private key in key.pem is encrypted"),
        (spoil, "certificate.pem and key.pem cannot be used"),
    ],
)
def test_a_node_does_not_start_with_what_cannot_be_used(stage, spoilt, said):
    spoilt(stage)
    done = stage.cli("up", expect=2, stdin=subprocess.DEVNULL)
    assert said in done.stderr


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        ('tls_key = "key.pem"\n', "server.tls_key is given, and server.tls_certificate is not"),
        ('tls_certificate = "certificate.pem"\n', "certificate.pem holds no private key"),
    ],
)
def test_a_certificate_needs_its_key(stage, tls, said):
    stage.tls = tls
    stage.configure()
    assert said in stage.cli("up", expect=2).stderr


def test_certificate_and_key_may_be_in_one_file(stage):
    stage.tls = 'tls_certificate = "both.pem"\n'
    stage.configure()
    stage.cli.write("both.pem", stage.certificate() + (stage.cli.folder / "key.pem").read_text())
    stage.up()
    assert stage.served() == stage.certificate()


def test_to_end_tls_takes_a_restart(stage):
    stage.up()
    stage.tls = ""
    stage.configure()
    stage.administer("reload")
    shown = stage.administer("show").stdout
    assert "needs a restart: server.tls_certificate, server.tls_key" in shown


@pytest.mark.parametrize(
    ("url", "ca", "said"),
    [
        ("http://127.0.0.1:1", "authority.pem", "is for servers with TLS"),
        ("https://127.0.0.1:1", "nowhere", "--ca nowhere: cannot be read"),
        ("https://127.0.0.1:1", "key.pem", "--ca key.pem: holds no certificate"),
    ],
)
def test_an_authority_that_cannot_be_meant(stage, url, ca, said):
    for command in (["config", "reload"], ["worker"]):
        done = stage.cli(*command, "--server", url, "--token-file", "token", "--ca", ca, expect=2)
        assert said in done.stderr
