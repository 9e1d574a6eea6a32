"""The parts of a node that stays: files, their changes, the status, the service manager."""

import os
import socket
from pathlib import Path

import pytest

from headrace.backends.executors.kinds import load_task_kinds
from headrace.core.errors import InvalidDefinition, NotFound
from headrace.service import files
from headrace.service.files import Source, definitions, find
from headrace.service.notify import Notifier
from headrace.service.status import StatusFile, running
from headrace.service.watch import Watch

GRAPH = "tasks: {a: {run: 'true'}}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- files -----------------------------------------------------------------------------------------------------------


def test_files_folders_and_patterns(folder):
    for name in ("b.yaml", "a.yml", "c.txt", ".hidden.yaml", "_helper.py", "deep/d.json"):
        (folder / "flows" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "flows" / name).touch()

    def found(*patterns):
        return [(str(source.path), source.name, source.named) for source in find(patterns)]

    assert found("flows") == [("flows/a.yml", None, False), ("flows/b.yaml", None, False)]
    assert [name for name, _, _ in found("flows/**/*.*")] == ["flows/a.yml", "flows/b.yaml", "flows/deep/d.json"]
    assert found("flows/b.yaml", "flows", "gone.yaml", "jobs.py:one") == [
        ("flows/b.yaml", None, True),
        ("flows/a.yml", None, False),
        ("gone.yaml", None, True),
        ("jobs.py", "one", True),
    ]
    assert found("nothing/*.yaml") == []


def test_a_python_file_serves_all_its_workflows_and_a_helper_none():
    Path("several.py").write_text(
        "from headrace import dag, task\n@task\ndef t() -> int: return 1\n"
        "with dag('one') as one: t()\nwith dag('two') as two: t()\nagain = two\n"
    )
    Path("helper.py").write_text("x = 1\n")
    kinds = load_task_kinds()
    assert [found.spec.name for found in definitions(Source(Path("several.py")), kinds)] == ["one", "two"]
    assert [found.spec.name for found in definitions(Source(Path("several.py"), "two"), kinds)] == ["two"]
    assert definitions(Source(Path("helper.py"), named=False), kinds) == []
    with pytest.raises(InvalidDefinition, match="defines no workflow"):
        definitions(Source(Path("helper.py")), kinds)
    with pytest.raises(NotFound):
        definitions(Source(Path("gone.yaml")), kinds)


def test_a_forgotten_module_is_read_again():
    kinds = load_task_kinds()
    text = "from headrace import dag, task\n@task\ndef t() -> int: return 1\nwith dag('NAME') as one: t()\n"
    source = Source(Path("changing_file_of_a_test.py"))
    for name in ("first", "second"):
        source.path.write_text(text.replace("NAME", name))
        os.utime(source.path, (1, 1 if name == "first" else 2))  # the interpreter tells files apart by their time
        files.forget_modules([source.path])
        assert definitions(source, kinds)[0].spec.name == name


# ---- changes ---------------------------------------------------------------------------------------------------------


def edit_in_place(path: Path) -> None:
    path.write_text("changed, and of another length")


def rename_over(path: Path) -> None:
    path.with_suffix(".new").write_text("changed")
    path.with_suffix(".new").rename(path)


@pytest.mark.parametrize("change", [edit_in_place, rename_over, Path.unlink])
def test_a_change_is_seen_once_it_has_come_to_rest(folder, change):
    path = folder / "file"
    path.write_text("before")
    watch = Watch([path])
    assert not watch.look([path])
    change(path)
    assert [watch.look([path]) for _ in range(4)] == [False, True, False, False]


def test_a_file_that_is_being_written_is_not_read_half_way(folder):
    path = folder / "file"
    path.write_text("")
    watch = Watch([path])
    for length in range(1, 4):
        path.write_text("x" * length)
        assert not watch.look([path])
    assert watch.look([path])


def test_a_mounted_config_map_that_is_exchanged_is_seen(folder):
    """Kubernetes writes a new folder and renames a link over ``..data``; the files themselves are links through it."""
    (folder / "..one").mkdir()
    (folder / "..one" / "headrace.toml").write_text("a")
    (folder / "..data").symlink_to("..one")
    path = folder / "headrace.toml"
    path.symlink_to("..data/headrace.toml")
    watch = Watch([path])
    (folder / "..two").mkdir()
    (folder / "..two" / "headrace.toml").write_text("b")
    (folder / "..tmp").symlink_to("..two")
    (folder / "..tmp").rename(folder / "..data")
    assert [watch.look([path]) for _ in range(3)] == [False, True, False]


# ---- the status ------------------------------------------------------------------------------------------------------


def test_the_status_of_a_process_that_is_gone_is_removed(folder):
    living, dead = StatusFile(folder, "living"), StatusFile(folder, "dead")
    living.write({"node": "living"})
    living.write({"node": "living", "again": True})
    dead.write({"node": "dead"})
    assert [one["node"] for one in running(folder)] == ["dead", "living"]
    os.close(dead._lock)  # what the kernel does when a process ends, however it ends
    dead._lock = None
    assert running(folder) == [{"node": "living", "again": True}]
    assert sorted(path.name for path in (folder / "nodes").iterdir()) == ["living.json", "living.lock"]
    living.remove()
    living.remove()
    assert running(folder) == []


def test_a_status_that_cannot_be_written_is_only_told(folder):
    (folder / "nodes").write_text("in the way")
    status = StatusFile(folder, "n")
    status.write({})
    assert "nodes" in status.problem


# ---- the service manager ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told(folder, monkeypatch, abstract):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        name = f"@headrace-test-{os.getpid()}-{id(folder)}" if abstract else str(folder / "s")
        listener.bind("\0" + name[1:] if abstract else name)
        listener.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        notifier = Notifier(folder / "ready")
        assert "NOTIFY_SOCKET" not in os.environ  # what tasks start must not speak in our name
        notifier.ready("all is well")
        assert listener.recv(1000).decode().splitlines() == [
            "READY=1",
            f"MAINPID={os.getpid()}",
            "STATUS=all is well",
        ]
        assert (folder / "ready").read_text() == f"{os.getpid()}\n"
        notifier.reloading()
        assert listener.recv(1000).decode().startswith("RELOADING=1\nMONOTONIC_USEC=")
        notifier.stopping()
        assert listener.recv(1000) == b"STOPPING=1"
        assert not (folder / "ready").exists()
    notifier.ready("nobody listens")  # is no reason to stop
