"""What holds for the repository as a whole: floors, links, languages in step, nothing of the machine it was made on."""

import re
import subprocess
import sys
import tomllib
import typing
from pathlib import Path

import pytest

import headrace
from headrace.cli.exits import ExitCode
from headrace.core import events, states

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("httpx", "yaml", "jinja2", "rich", "typer", "zstandard")
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")


def tracked(*patterns: str) -> list[Path]:
    """Files that git knows or would add. Outside a checkout (an unpacked source archive) there is nothing to ask."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def outside_code(text: str) -> str:
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.M | re.S)


def anchor(heading: str) -> str:
    """The fragment GitHub gives a heading."""
    plain = re.sub(r"[`*_]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def broken_links(page: Path) -> list[str]:
    broken = []
    for target in LINK.findall(outside_code(page.read_text(encoding="utf-8"))):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, fragment = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or not file.is_relative_to(ROOT):
            broken.append(f"{page.relative_to(ROOT)}: {target}: no such file")
        elif fragment and fragment not in [
            anchor(line.lstrip("#")) for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("#")
        ]:
            broken.append(f"{page.relative_to(ROOT)}: {target}: no such heading")
    return broken


def test_floors_hold():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_every_link_in_the_docs_leads_somewhere():
    pages = tracked("*.md")
    assert len(pages) > 20
    assert not [problem for page in pages for problem in broken_links(page)]


def test_the_link_check_sees_broken_links(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "there.md").write_text("## What `runs show` says, in short\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](there.md#what-runs-show-says-in-short) [b](there.md#no) [c](gone.md) [d](../out.md) `[e](code.md)` [f](https://x.y)"
    )
    assert broken_links(page) == [
        "page.md: there.md#no: no such heading",
        "page.md: gone.md: no such file",
        "page.md: ../out.md: no such file",
    ]


def test_every_page_of_the_docs_can_be_reached_from_the_readme():
    seen, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in seen or page.suffix != ".md" or not page.is_file():
            continue
        seen.add(page)
        for target in LINK.findall(outside_code(page.read_text(encoding="utf-8"))):
            if "://" not in target:
                todo.append((page.parent / target.partition("#")[0]).resolve())
    assert not [str(page.relative_to(ROOT)) for page in tracked("docs/*.md", "docs/**/*.md") if page not in seen]


def test_generated_parts_of_the_docs_are_up_to_date():
    done = subprocess.run(
        [sys.executable, ROOT / "docs/generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", [states.RunState, states.TaskState])
def test_every_state_is_documented(kind):
    section = (ROOT / "docs/reference/states.md").read_text(encoding="utf-8").split("\n## ")
    rows = section[1 if kind is states.RunState else 2]
    final = states.FINAL_RUN_STATES if kind is states.RunState else states.FINAL_TASK_STATES
    documented = {state: "yes" in end for state, end in re.findall(r"^\| `(\w+)` \|([^|]*)\|", rows, flags=re.M)}
    assert documented == {str(state): state in final for state in kind}


def test_every_event_is_documented():
    page = (ROOT / "docs/reference/events.md").read_text(encoding="utf-8").partition("## Failures")[0]
    tags = {event.__struct_config__.tag for event in typing.get_args(events.Event)}
    assert set(re.findall(r"`(\w+\.\w+|patched)`", page.replace("core/events.py", ""))) == tags


def test_every_exit_code_is_documented():
    page = (ROOT / "docs/reference/exit-codes.md").read_text(encoding="utf-8")
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", page, flags=re.M)} == {int(code) for code in ExitCode}


def test_every_command_is_documented():
    page = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `headrace ((?:[a-z]+ )?[a-z]+)", page, flags=re.M))
    groups = {name.split()[0] for name in documented if " " in name}

    def commands(*group: str) -> set[str]:
        command = [Path(sys.executable).with_name("headrace"), *group, "--help"]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout.partition("Commands:\n")[2]
        return {" ".join([*group, name]) for name in re.findall(r"^  (\w+)  ", text.partition("\n\n")[0], flags=re.M)}

    assert documented == (commands() - groups).union(*(commands(group) for group in groups))


def test_change_fragments_follow_their_format():
    kinds = re.findall(r"^\| `(\w+)` \|", (ROOT / "changes/README.md").read_text(encoding="utf-8"), flags=re.M)
    assert len(kinds) == 5
    for file in tracked("changes"):
        if file.name != "README.md":
            assert re.fullmatch(rf"[a-z0-9-]+\.(?:{'|'.join(kinds)})\.md", file.name), file.name


def test_both_readmes_are_in_step():
    def shape(name: str) -> tuple[list[int], list[str], list[str]]:
        text = (ROOT / name).read_text(encoding="utf-8")
        code = re.findall(r"^```.*?^```", text, flags=re.M | re.S)
        prose = outside_code(text)
        levels = [len(level) for level in re.findall(r"^(#+) ", prose, flags=re.M)]
        return levels, code, [link for link in LINK.findall(prose) if not link.startswith("README")]

    assert shape("README.md") == shape("README.zh-CN.md")


# Spelled in two parts, so that this file does not find itself. A folder *below* something (``data/work/``) is fine.
MACHINE = re.compile(
    r"(?<![\w.>})*\]])(?:"
    + "|".join(["/wo" + "rk/", "/ro" + "ot/", "/ho" + r"me/\w+/", "/op" + "t/", "/Use" + "rs/"])
    + ")"
)


@pytest.mark.parametrize("line", ["cd /wo" + "rk/main", "file:///op" + "t/wheels", "~=/ro" + "ot/x"])
def test_a_machine_path_would_be_noticed(line):
    assert MACHINE.search(line)


def test_no_file_speaks_of_the_machine_it_was_written_on():
    found = []
    for file in tracked():
        if file.name in {"LICENSE", "uv.lock"}:
            continue
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [
            f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
            for number, line in enumerate(text.splitlines(), start=1)
            if MACHINE.search(line)
        ]
    assert not found


def test_the_lock_file_comes_from_the_public_index_only():
    sources = set(re.findall(r'(?:registry|url) = "([a-z]+://[^/"]*)', (ROOT / "uv.lock").read_text(encoding="utf-8")))
    assert sources <= {"https://pypi.org", "https://files.pythonhosted.org"}


def test_the_package_says_the_version_it_is_published_under():
    with (ROOT / "pyproject.toml").open("rb") as stream:
        assert headrace.__version__ == tomllib.load(stream)["project"]["version"]


def test_importing_headrace_is_lean():
    """Heavy modules are imported where they are used: the import stays under 100 ms."""
    code = f"import sys, headrace; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_shell_scripts_are_executable_and_parse():
    scripts = tracked(".ci/run", "*.sh")
    assert scripts
    for script in scripts:
        assert script.stat().st_mode & 0o111, script
        shell = "bash" if "bash" in script.read_text(encoding="utf-8").splitlines()[0] else "sh"
        done = subprocess.run([shell, "-n", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
