"""The real command in processes of its own, each test with a folder and a store of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "backends" / "stores")]

COMMAND = [sys.executable, "-m", "headrace.cli"]


COLORS = ("NO_COLOR", "FORCE_COLOR", "CLICOLOR")
"""What a build server may have set; tests set them themselves."""


class Cli:
    """Runs ``headrace`` in a folder."""

    def __init__(self, folder: Path, bytecode: Path) -> None:
        self.folder = folder
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", *COLORS))}
        # A hundred processes share their compiled modules, also where nothing may be written beside the sources.
        inherited.pop("PYTHONDONTWRITEBYTECODE", None)
        self.env = {
            **inherited,
            "PYTHONPYCACHEPREFIX": str(bytecode),
            "TERM": "xterm-256color",
        }

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def __call__(self, *arguments: object, expect: int = 0, **options) -> subprocess.CompletedProcess[str]:
        """Run to the end; the exit code must be ``expect``, and no traceback of ours may be shown."""
        done = subprocess.run(
            [*COMMAND, *map(str, arguments)],
            cwd=options.pop("cwd", self.folder),
            env={**self.env, **options.pop("env", {})},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **options,
        )
        assert done.returncode == expect, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "headrace/cli" not in done.stderr, done.stderr
        return done

    def json(self, *arguments: object, expect: int = 0):
        """Run with ``-o json``; what is on standard output must be one document and nothing else."""
        return json.loads(self(*arguments, "-o", "json", expect=expect).stdout)

    def start(self, *arguments: object, **options) -> subprocess.Popen[str]:
        """Start, with pipes."""
        return subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            cwd=self.folder,
            env=self.env,
            stdout=options.pop("stdout", subprocess.PIPE),
            stderr=options.pop("stderr", subprocess.PIPE),
            text=True,
            **options,
        )


@pytest.fixture(scope="session")
def bytecode(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("bytecode")


@pytest.fixture
def cli(tmp_path, bytecode) -> Cli:
    return Cli(tmp_path, bytecode)
