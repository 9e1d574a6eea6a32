"""What executor tests share: a folder of user code, a binding over real logs, processes that must be gone."""

import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("headrace.testing.executor_conformance")

from headrace.backends.artifacts.logs import FileLogs  # noqa: E402
from headrace.backends.executors.binding import Binding  # noqa: E402
from headrace.backends.executors.inline import InlineExecutor  # noqa: E402
from headrace.backends.executors.process import ProcessExecutor  # noqa: E402
from headrace.backends.executors.thread import ThreadExecutor  # noqa: E402


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "flow"
    folder.mkdir()
    return folder


@pytest.fixture
def logs(tmp_path: Path) -> FileLogs:
    return FileLogs(tmp_path / "logs")


@pytest.fixture
def binding(tmp_path: Path, source: Path, logs: FileLogs) -> Binding:
    executors = {"inline": InlineExecutor(), "thread": ThreadExecutor(2), "process": ProcessExecutor(1)}
    return Binding(data_dir=tmp_path / "data", logs=logs, executors=executors, source_dir=str(source))


def state_of(pid: int) -> str:
    """The kernel's letter for a process, "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def gone(pid: int) -> bool:
    return state_of(pid) in ("", "Z", "X")


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Wait for something another process does; there is no event to await for the death of a stranger."""

    def wait(condition: Callable[[], bool], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.01)

    return wait


@pytest.fixture
def is_gone() -> Callable[[int], bool]:
    return gone


@pytest.fixture
def is_stopped() -> Callable[[int], bool]:
    """Whether a process stands still, as by SIGSTOP."""
    return lambda pid: state_of(pid) == "T"


def open_descriptors() -> dict[str, str]:
    """This process's pipes, sockets and pidfds."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that was opened to list them
            target = str(entry.readlink())
            if target.startswith(("pipe:", "socket:", "anon_inode:[pidfd")):
                found[entry.name] = target
    return found


@pytest.fixture(autouse=True)
def no_descriptor_leaks() -> Iterator[None]:
    """Every test gives back the descriptors it took: pipes, sockets, pidfds."""
    before = open_descriptors()
    yield
    deadline = time.monotonic() + 60
    while True:  # an abandoned thread may need another moment to close its own event loop
        gc.collect()
        left = open_descriptors().items() - before.items()
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    assert not left
