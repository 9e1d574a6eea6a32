"""``schedules:`` of a workflow file: what is read, and every mistake at its place."""

from __future__ import annotations

import pytest

from headrace.assembly import Headrace
from headrace.authoring.yaml.load import load_yaml
from headrace.core.errors import InvalidDefinition
from headrace.core.spec import encode_spec

KINDS = Headrace("memory://").kinds
FLOW = """name: etl
params: {day: {type: date}}
tasks: {load: {run: "echo {{ params.day }}"}}
"""


def read(text: str):
    return load_yaml(FLOW + text, kinds=KINDS, name="etl.yaml")


def test_schedules_are_read_beside_the_definition() -> None:
    loaded = read("""
schedules:
  nightly: {cron: ["0 3 * * *", "@weekly"], zone: Europe/Berlin, params: {day: "{{ schedule.date }}"}, catch_up: 3d}
  once: {at: "2026-12-01T08:00", params: {day: "2026-12-01"}, tags: {who: me}, overlap: allow}
  plain: "@hourly"
""")
    nightly, once, plain = loaded.schedules
    assert (nightly.name, nightly.workflow, nightly.zone) == ("etl.nightly", "etl", "Europe/Berlin")
    assert (nightly.timing, nightly.catch_up) == (("0 3 * * *", "@weekly"), 3 * 86_400)
    assert (once.timing, once.tags, once.overlap) == (("@at 2026-12-01T08:00",), {"who": "me"}, "allow")
    assert plain.timing == ("@hourly",)
    assert encode_spec(loaded.spec) == encode_spec(read("").spec), "no other version for other schedules"
    assert read("schedules:\n").schedules == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("schedules: daily", "4:12: expected a mapping from a name to a schedule"),
        ("schedules: {a: 5}", "4:16: expected a cron expression or a mapping"),
        ('schedules: {a: "61 * * * *"}', "4:16: '61 * * * *', character 1: the minute is 0 to 59"),
        ("schedules: {a: {timezone: UTC}}", "4:17: a schedule has no key 'timezone'\n    did you mean 'zone'?"),
        ("schedules: {a: {cron: '@daily', overlap: skipp}}", "4:42: 'skipp' is no overlap policy"),
        ("schedules: {a: {cron: '@daily', limit: many}}", "4:40: expected `int | null`"),
        ("schedules: {a: {cron: '@daily', params: {dya: 1}}}", "unknown parameter\n    did you mean 'day'?"),
        ("schedules: {a b: '@daily'}", "'etl.a b' is not a schedule's name"),
        ("schedules: {a: {zone: UTC}}", "a schedule needs a time"),
    ],
)
def test_mistakes_have_line_and_column(text: str, says: str) -> None:
    with pytest.raises(InvalidDefinition) as wrong:
        read(text)
    assert says in str(wrong.value)
