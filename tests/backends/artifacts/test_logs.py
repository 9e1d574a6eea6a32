"""Attempt logs: bounded, live, whole after a crash."""

import logging
import threading
from pathlib import Path

import pytest

from headrace.backends.artifacts.logs import FileLogs


@pytest.fixture
def logs(tmp_path: Path) -> FileLogs:
    return FileLogs(tmp_path / "logs", bytes_max=8_000)


def texts(logs: FileLogs, run: str = "R", task: str | None = None) -> list[str]:
    return [entry.text for entry in logs.read_logs(run, task)]


def test_nothing_is_created_before_something_is_written(logs):
    log = logs.open_log("R", "t", None, 1)
    log.write("stdout", b"")
    log.close()
    log.close()
    assert not logs.folder.exists()
    assert logs.read_logs("R") == []


def test_what_is_written_can_be_read_at_once_and_in_order(logs):
    log = logs.open_log("R", "t", None, 1)
    log.write("stdout", b"one\n")
    log.write("stderr", b"two\n")
    assert texts(logs) == ["one\ntwo\n"]
    log.close()
    log.write("stdout", b"too late")
    assert texts(logs) == ["one\ntwo\n"]
    assert (logs.folder / "R" / "t.1.log").read_text() == "one\ntwo\n"


def test_entries_are_sorted_by_task_item_and_attempt_and_names_survive(logs):
    places = [
        ("a", None, 1),
        ("a", None, 2),
        ("a", None, 10),
        ("a.1", None, 2),
        ("a", 1, 2),
        ("a", 10, 1),
        ("b_-x", 2, 1),
        ("odd /%+é", None, 1),
    ]
    for task, item, attempt in places:
        log = logs.open_log("R", task, item, attempt)
        log.write("log", f"{task}|{item}|{attempt}".encode())
        log.close()
    entries = logs.read_logs("R")
    assert [(entry.task, entry.item, entry.attempt) for entry in entries] == sorted(
        places, key=lambda place: (place[0], -1 if place[1] is None else place[1], place[2])
    )
    assert all(entry.text == f"{entry.task}|{entry.item}|{entry.attempt}" for entry in entries)
    assert [entry.task for entry in logs.read_logs("R", "a.1")] == ["a.1"]
    assert logs.read_logs("R", "zzz") == []
    assert logs.read_logs("other") == []


def test_ids_cannot_lead_out_of_the_folder(logs):
    log = logs.open_log("../../up", "../../x", None, 1)
    log.write("log", b"x")
    log.close()
    [file] = [path for path in logs.folder.parent.rglob("*") if path.is_file()]
    assert file.is_relative_to(logs.folder)


def test_undecodable_bytes_are_replaced_when_read_and_kept_on_disk(logs):
    log = logs.open_log("R", "t", None, 1)
    log.write("stdout", b"a\xff\x00b")
    log.close()
    assert texts(logs) == ["a\ufffd\x00b"]
    assert (logs.folder / "R/t.1.log").read_bytes() == b"a\xff\x00b"


@pytest.mark.parametrize("chunk", [1, 7, 100, 999, 5_000, 30_000])
@pytest.mark.parametrize("closed", [True, False])
def test_past_the_bound_the_middle_is_dropped_and_counted(logs, chunk, closed):
    data = b"".join(b"%06d\n" % n for n in range(5_000))  # 35,000 bytes
    log = logs.open_log("R", "t", None, 1)
    for start in range(0, len(data), chunk):
        log.write("stdout", data[start : start + chunk])
        if start % 5_000 == 0:
            assert sum(path.stat().st_size for path in (logs.folder / "R").iterdir()) <= 8_000
    if closed:
        log.close()
        assert [path.name for path in (logs.folder / "R").iterdir()] == ["t.1.log"]
    [text] = texts(logs)
    head, marker, tail = text.partition("\n... ")
    assert marker
    assert head.encode() == data[:4_000]
    count, _, tail = tail.partition(" bytes dropped ...\n")
    dropped = int(count.replace(",", ""))
    assert data[4_000 + dropped :] == tail.encode()
    assert 2_000 <= len(tail) <= 4_000
    log.close()


def test_exactly_the_bound_is_kept_whole(logs):
    log = logs.open_log("R", "t", None, 1)
    log.write("stdout", b"x" * 8_000)
    log.close()
    assert texts(logs) == ["x" * 8_000]


@pytest.mark.parametrize("first", [10, 3_999, 4_000, 4_001, 20_000])
def test_a_second_launch_appends_after_a_crash(logs, first):
    crashed = logs.open_log("R", "t", None, 1)
    crashed.write("stdout", b"a" * first)
    again = FileLogs(logs.folder, bytes_max=8_000).open_log("R", "t", None, 1)
    again.write("stdout", b"b" * 1_000)
    again.close()
    [text] = texts(logs)
    assert text.startswith("a" * min(first, 4_000))
    assert text.endswith("b" * 1_000)
    assert ("dropped" in text) == (first + 1_000 > 8_000)
    assert (logs.folder / "R/t.1.log").stat().st_size <= 8_100


def test_a_second_launch_after_a_clean_end_stays_within_the_bound(logs):
    for letter in b"abcdef":
        log = logs.open_log("R", "t", None, 1)
        log.write("stdout", bytes([letter]) * 20_000)
        log.close()
    [text] = texts(logs)
    assert len(text) <= 8_100
    assert text.startswith("a" * 4_000)
    assert text.endswith("f" * 2_000)


def test_many_threads_may_write(logs):
    big = FileLogs(logs.folder)
    log = big.open_log("R", "t", None, 1)

    def write(n: int) -> None:
        for _ in range(200):
            log.write("stdout", b"%d" % n * 50 + b"\n")

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    lines = texts(big)[0].splitlines()
    assert sorted(lines) == sorted(str(n) * 50 for n in range(8) for _ in range(200))


def test_trouble_with_the_disk_is_reported_once_and_fails_nothing(logs, caplog):
    logs.folder.parent.mkdir(exist_ok=True)
    logs.folder.write_text("a file where the folder should be")
    log = logs.open_log("R", "t", None, 1)
    with caplog.at_level(logging.WARNING):
        log.write("stdout", b"lost")
        log.write("stdout", b"lost")
        log.close()
    assert caplog.text.count("cannot be written any more") == 1
    assert logs.read_logs("R") == []


def test_deleting_forgets_a_run_and_only_that_one(logs):
    for run in ("R", "S"):
        log = logs.open_log(run, "t", None, 1)
        log.write("stdout", run.encode())
        log.close()
    logs.delete_logs("R")
    logs.delete_logs("R")
    assert (texts(logs, "R"), texts(logs, "S")) == ([], ["S"])


def test_a_run_with_too_much_text_is_named_not_read(logs, monkeypatch):
    monkeypatch.setattr("headrace.backends.artifacts.logs.READ_BYTES_MAX", 100)
    for attempt in (1, 2):
        log = logs.open_log("R", "t", None, attempt)
        log.write("stdout", b"x" * 80)
        log.close()
    first, second = texts(logs)
    assert first == "x" * 80
    assert second.startswith("... 80 bytes not shown; they are in ")


def test_a_bound_too_small_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 4096"):
        FileLogs(tmp_path, bytes_max=10)
