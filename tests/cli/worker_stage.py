"""A node that serves workers over real HTTP, and workers, in processes of their own in a test's folder."""

import contextlib
import signal
import subprocess
import time

from server_ports import free_port

TOKEN = "0123456789abcdef0123456789abcdef"
BOUND = 90.0

HELD = """\
name: held
tasks:
  far:
    queue: gpu
    run: |
      echo began >> TRACE
      number=$(grep -c began TRACE)
      while ! test -e GATE; do sleep 0.02; done
      echo ended >> TRACE
      echo $number
"""
"""Its output says which delivery it was."""


def wait_until(condition, what: str = "it", seconds: float = BOUND):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen in time"
        time.sleep(0.02)
    return found


class Stage:
    """A node that serves workers, and workers, in the test's folder."""

    def __init__(self, cli) -> None:
        self.cli = cli
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.trace, self.gate = cli.folder / "trace", cli.folder / "gate"
        self.processes: list[subprocess.Popen] = []
        cli.write("held.yaml", HELD.replace("TRACE", str(self.trace)).replace("GATE", str(self.gate)))
        cli.write("token", TOKEN + "\n")
        (cli.folder / "token").chmod(0o600)
        self.configure()

    def configure(self, lease: str = "60s") -> None:
        self.cli.write(
            "headrace.toml",
            'workflows = ["held.yaml"]\n[node]\nname = "mill"\ndrain = "0s"\n[server]\n'
            f'worker_lease = "{lease}"\n'
            f'listen = "127.0.0.1:{self.port}"\nworker_tokens = {{file = "token"}}\n',
        )

    def start(self, name: str, *arguments: object) -> subprocess.Popen:
        with (self.cli.folder / f"{name}.log").open("ab") as log:
            self.processes.append(self.cli.start(*arguments, stdout=log, stderr=log))
        return self.processes[-1]

    def up(self) -> subprocess.Popen:
        ready = self.cli.folder / "ready"
        process = self.start("up", "up", "--ready-file", ready)
        wait_until(lambda: ready.exists() or process.poll() is not None, "being ready")
        assert process.poll() is None, self.said("up")
        return process

    def worker(self, name: str, *urls: str) -> subprocess.Popen:
        (self.cli.folder / name).mkdir(exist_ok=True)
        servers = [part for url in urls or (self.url,) for part in ("--server", url)]
        process = self.start(
            name, "worker", *servers, "--token-file", "token", "--name", name, "--queue", "gpu",
            "--data-dir", name, "-v",
        )  # fmt: skip
        wait_until(lambda: f"worker remote:{name} serves" in self.said(name) or process.poll() is not None, "serving")
        assert process.poll() is None, self.said(name)
        return process

    def cli_with(self, token_file: str) -> int:
        """Start a worker with a token and stop it once it serves; its exit code."""
        (self.cli.folder / "probe.log").write_text("")
        process = self.start("probe", "worker", "--server", self.url, "--token-file", token_file)
        wait_until(lambda: "serves default" in self.said("probe") or process.poll() is not None, "serving")
        process.terminate()
        return process.wait(BOUND)

    def said(self, name: str) -> str:
        return (self.cli.folder / f"{name}.log").read_text()

    def marks(self) -> list[str]:
        return self.trace.read_text().split() if self.trace.exists() else []

    def run(self) -> str:
        return self.cli("run", "held", "--no-wait").stdout.strip()

    def show(self, run_id: str) -> dict:
        return self.cli.json("runs", "show", run_id)

    def until_ended(self, run_id: str) -> dict:
        return wait_until(lambda: (found := self.show(run_id))["state"] in ("succeeded", "failed") and found, "the end")

    def end(self) -> None:
        self.gate.touch()
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            if process.poll() is None:
                process.kill()
                process.wait(30)
