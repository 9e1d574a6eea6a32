"""The commands of docs/how-to/use-the-http-api.md do what the page says, in their order, with curl and jq as a reader has
them."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from test_server_option import GREET
from worker_stage import Stage

PAGE = Path(__file__).parents[2] / "docs/how-to/use-the-http-api.md"
FLOW = """\
from headrace import query, signal, update, wait_for_signal, workflow


@workflow
async def order() -> dict:
    items = []

    @query
    def status() -> dict:
        return {"items": items}

    @update
    async def add(item: str) -> int:
        items.append(item)
        return len(items)

    return await wait_for_signal("shipped")
"""


def commands(section: str) -> list[str]:
    text = PAGE.read_text(encoding="utf-8").partition(f"## {section}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```console\n(.*?)^```", text, flags=re.M | re.S)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


class Reader(Stage):
    """Does what the page says, in a folder of its own."""

    def configure(self, lease: str = "60s") -> None:
        self.shell(commands("Let users in"))
        (self.cli.folder / "flows").mkdir()
        self.cli.write("flows/greet.yaml", GREET)
        self.cli.write("flows/order.py", FLOW)
        self.cli.write("flow.yaml", GREET)
        text = PAGE.read_text(encoding="utf-8")
        self.cli.write(
            "headrace.toml", text.partition("```toml\n")[2].partition("```")[0].replace("7233", str(self.port))
        )
        users = dict(line.split(":") for line in (self.cli.folder / "users").read_text().split())
        self.env = {"TOKEN": users["author"]}

    def shell(self, lines: list[str], **env: str) -> list[str]:
        """What each line prints. The first ones set variables."""
        printed = []
        before: list[str] = []
        for line in lines:
            script = "\n".join(["set -euo pipefail", *before, line])
            done = subprocess.run(
                ["bash", "-c", script],
                cwd=self.cli.folder,
                env={**self.cli.env, **getattr(self, "env", {}), **env},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            printed.append(done.stdout)
            if re.match(r"\w+=", line):
                before.append(line.replace("7233", str(self.port)))
        return printed


@pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "curl", "jq", "openssl"))), reason="takes bash, curl, jq and openssl"
)
def test_the_commands_of_the_page_do_what_it_says(cli):
    reader = Reader(cli)
    try:
        reader.up()
        run = cli("run", "order", "--no-wait").stdout.split()[0]
        printed = [text for text in reader.shell(commands("From a shell"), RUN=run) if text]
        listed, workflow, once, paused, resumed, status, added, signalled, events, valid, own = map(str, printed)
        assert json.loads((cli.folder / "run.json").read_text())["state"] == "succeeded"
        assert len(json.loads(listed)["runs"]) == 1
        assert json.loads(workflow)["params"]["properties"]["who"]["default"] == "world"
        assert json.loads(once)["key"] == "request:order-17"
        assert json.loads(paused)["run"]["id"] == json.loads(resumed)["run"]["id"] == run
        assert json.loads(signalled)["run"]["id"] == run
        assert json.loads(status) == {"value": {"items": []}}
        assert json.loads(added)["id"] == "add-1"
        assert "event: end" in events
        assert json.loads(valid)["ok"]
        assert json.loads(own)["state"] == "succeeded"
    finally:
        reader.end()
