"""Logs and work folders come and go with their attempts; failures read the same from everywhere."""

import dataclasses
import datetime
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headrace.backends.artifacts.files import FileArtifacts
from headrace.backends.executors.binding import work_folder_name
from headrace.contracts.current import current_attempt
from headrace.contracts.execution import AttemptError
from headrace.contracts.outcome import MESSAGE_CHARS_MAX, TRACEBACK_CHARS_MAX, encode_output, failure_of
from headrace.core.errors import StoreError, StoreFull
from headrace.testing.executor_conformance import make_attempt


def test_nothing_is_made_for_an_attempt_that_asks_for_nothing(binding, tmp_path):
    attempt = make_attempt()
    binding.log(attempt)
    binding.finish(attempt)
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / "logs").exists()


def test_an_attempt_has_one_log_and_one_folder(binding):
    attempt = make_attempt()
    assert binding.log(attempt) is binding.log(attempt)
    folder = binding.work_dir(attempt)
    assert binding.work_dir(attempt) == folder
    binding.finish(attempt)
    binding.finish(attempt)


def test_folder_names_are_unique_and_safe():
    def name(task: str, item: int | None = None, number: int = 1) -> str:
        return work_folder_name(make_attempt(number, task=task, item=item))

    tasks = ["a", "a.1", "a_1", "a/1", "a 1", "../../x", "x" * 300, "x" * 301]
    names = [name(task, item, number) for task in tasks for item in (None, 1) for number in (1, 2)]
    assert len(set(names)) == len(names)
    assert all("/" not in one and len(one.encode()) <= 200 for one in names)


def test_outside_an_attempt_there_is_no_current_one():
    with pytest.raises(RuntimeError, match="outside a task"):
        current_attempt()


def test_messages_and_tracebacks_are_bounded():
    def deep(depth: int) -> None:
        if depth:
            deep(depth - 1)
        raise ValueError("x" * 100_000)

    with pytest.raises(ValueError, match="x") as caught:
        deep(200)
    failure = failure_of(caught.value)
    assert len(failure.message) < MESSAGE_CHARS_MAX + 100
    assert len(failure.traceback) < TRACEBACK_CHARS_MAX + 100


def test_a_store_that_is_full_under_an_output_shows_no_traceback_of_ours(tmp_path: Path):
    (tmp_path / "file").touch()
    with ThreadPoolExecutor(1) as pool:  # as the engine calls it
        ours = pool.submit(FileArtifacts(tmp_path / "file" / "below").put, b"x").exception()
    assert isinstance(ours, StoreError)
    failure = failure_of(ours)
    assert failure.traceback == ""
    assert failure.message.startswith(ours.message)
    assert "\n" not in failure.message


def test_a_store_that_fails_under_the_users_own_call_shows_where():
    with pytest.raises(StoreFull) as caught:
        raise StoreFull("no space left")
    assert "raise StoreFull" in failure_of(caught.value).traceback


def test_notes_groups_and_causes_are_shown():
    group = ExceptionGroup("several", [ValueError("first"), KeyError("second")])
    group.add_note("look at the third shelf")
    text = failure_of(group).traceback
    assert "first" in text
    assert "second" in text
    assert "third shelf" in text


def test_a_group_names_its_members_and_what_says_nothing_is_its_type():
    inner = ExceptionGroup("inner", [KeyError("k"), TimeoutError()])
    failure = failure_of(ExceptionGroup("outer", [ValueError("bad"), inner, OSError("a"), OSError("b")]))
    assert failure.message == (
        "outer (4 sub-exceptions): ValueError: bad; "
        "ExceptionGroup: inner (2 sub-exceptions): KeyError: 'k'; TimeoutError; OSError: a; ..."
    )
    assert failure.text.startswith("ExceptionGroup: outer (4")
    assert failure_of(TimeoutError()).text == "TimeoutError"


def test_an_attempt_error_keeps_its_fields():
    failure = failure_of(AttemptError("http", "no", code=503, retryable=True, retry_after=4.5))
    assert (failure.type, failure.message, failure.code, failure.retryable, failure.retry_after) == (
        "http",
        "no",
        503,
        True,
        4.5,
    )


def test_outputs_become_json_or_say_why_not():
    @dataclasses.dataclass
    class Row:
        day: datetime.date

    assert encode_output([Row(datetime.date(2024, 1, 2)), {1: 2, "2": 3}]) == b'[{"day":"2024-01-02"},{"1":2,"2":3}]'
    for value, place in (
        ({"a": {"b": [0, object()]}}, r"object at \$\.a\.b\[1\]"),
        ({("x",): 1}, r"a dict key of type tuple at \$"),
        ("\ud800", r"str at \$"),
        ([{"a": {1: 2, "1": 3}}], r"the keys 1 and '1' at \$\[0\]\['a'\] become the same text"),
        ({datetime.date(2024, 1, 2): 1, "2024-01-02": 2}, "become the same text"),
    ):
        with pytest.raises(AttemptError, match=place) as caught:
            encode_output(value)
        assert (caught.value.type, caught.value.retryable) == ("bad_result", False)
