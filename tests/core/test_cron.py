"""Cron expressions: the table, a model that looks at every minute, and what is said of mistakes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cron_table import TABLE
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.core.cron import Cron, parse_cron
from headrace.core.timing import make_next, parse_instant
from headrace.core.zones import next_instant, zone_of


def following(expression: str, zone: ZoneInfo, after: float, count: int) -> list[str]:
    cron, found = parse_cron(expression), list[str]()
    for _ in range(count):
        due = next_instant(cron, zone, after)
        assert due is not None
        assert due > after
        found.append(datetime.fromtimestamp(due, UTC).astimezone(zone).isoformat())
        after = due
    return found


@pytest.mark.parametrize(("expression", "zone", "after", "expected"), TABLE, ids=lambda value: str(value)[:40])
def test_the_table(expression: str, zone: str, after: str, expected: list[str]) -> None:
    where = zone_of(zone)
    begin = datetime.fromisoformat(after).replace(tzinfo=where).timestamp()
    assert following(expression, where, begin, len(expected)) == expected


# ---- the model -------------------------------------------------------------------------------------------------------


def model(cron: Cron, zone: ZoneInfo, begin: datetime, minutes: int) -> list[float]:
    """Slow and obviously right: walk through every minute of real time and look at the wall."""
    found: list[float] = []
    seen = {wall(begin - timedelta(minutes=back), zone) for back in range(1, 26 * 60)}
    before = wall(begin - timedelta(minutes=1), zone)
    for number in range(minutes):
        now = begin + timedelta(minutes=number)
        shown = wall(now, zone)
        if cron.any_hour:
            due = cron.matches(shown)
        else:
            jumped: list[datetime] = []
            skipped = before + timedelta(minutes=1)
            while skipped < shown:
                jumped.append(skipped)
                skipped += timedelta(minutes=1)
            due = (cron.matches(shown) and shown not in seen) or any(cron.matches(one) for one in jumped)
        if due:
            found.append(now.timestamp())
        seen.add(shown)
        before = shown
    return found


def wall(now: datetime, zone: ZoneInfo) -> datetime:
    return now.astimezone(zone).replace(tzinfo=None, fold=0)


CHANGES = [
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-04-05"),
    ("Australia/Lord_Howe", "2026-10-04"),
    ("America/Sao_Paulo", "2018-11-04"),
    ("America/St_Johns", "2011-03-13"),
    ("Asia/Beirut", "2026-03-29"),
    ("Europe/Dublin", "2026-10-25"),
    ("Pacific/Apia", "2011-12-30"),
    ("America/Juneau", "1867-10-18"),
    ("Africa/Casablanca", "2026-02-15"),
    ("UTC", "2026-05-05"),
]


def field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    step = st.integers(1, max(2, (high - low) // 2))
    part = st.one_of(
        st.just("*"),
        number.map(str),
        st.builds("*/{}".format, step),
        st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}"),
        st.builds("{}/{}".format, number, step),
    )
    return st.one_of(part, st.lists(part, min_size=1, max_size=3).map(",".join))


@st.composite
def expressions(draw: st.DrawFn) -> str:
    days = draw(st.one_of(st.just("*"), field(1, 28), st.sampled_from(["L", "L-1", "1,L"])))
    weekdays = draw(st.one_of(st.just("*"), field(0, 7), st.sampled_from(["sun#1", "0L", "mon-fri", "6,7"])))
    return f"{draw(field(0, 59))} {draw(field(0, 23))} {days} * {weekdays}"


@settings(deadline=None, max_examples=60)
@given(expressions(), st.sampled_from(CHANGES), st.integers(0, 36 * 60), st.floats(0, 59.9))
@example("30 2 * * *", CHANGES[0], 0, 0.0)
@example("*/30 * * * *", CHANGES[3], 0, 0.5)
@example("* * * * *", CHANGES[10], 0, 0.0)
@example("15 1 * * *", CHANGES[5], 500, 3.0)
def test_it_agrees_with_a_look_at_every_minute(
    expression: str, change: tuple[str, str], offset: int, seconds: float
) -> None:
    zone, day = zone_of(change[0]), datetime.fromisoformat(change[1]).replace(tzinfo=UTC)
    begin = day - timedelta(hours=30) + timedelta(minutes=offset)
    try:
        cron = parse_cron(expression)
    except ValueError as error:
        assert "never comes" in str(error)
        return
    if zone_of(change[0]).utcoffset(begin).total_seconds() % 60:  # type: ignore[union-attr]
        return  # local mean time: no wall shows whole minutes then
    expected = model(cron, zone, begin + timedelta(minutes=1), 40 * 60)
    found: list[float] = []
    cursor = begin.timestamp() + seconds
    while (due := next_instant(cron, zone, cursor)) is not None and due <= begin.timestamp() + 40 * 3600:
        found.append(due)
        cursor = due
    assert found == expected


@given(st.integers(1, 100_000), st.floats(0, 4e9), st.floats(0, 4e9))
def test_an_interval_goes_on_from_its_anchor(seconds: int, anchor: float, after: float) -> None:
    find = make_next([f"@every {seconds}"], "UTC", anchor)
    due = find(after)
    assert due is not None
    assert after < due <= after + seconds + 1e-3
    again = find(due)
    assert again is not None
    assert again == pytest.approx(due + seconds)


def test_several_timings_are_one() -> None:
    find = make_next(["0 3 * * *", "@every 6h", "@at 2026-01-01T04:30"], "UTC")
    found, cursor = list[str](), datetime(2025, 12, 31, 23, tzinfo=UTC).timestamp()
    for _ in range(6):
        due = find(cursor)
        assert due is not None
        found.append(datetime.fromtimestamp(due, UTC).strftime("%H:%M"))
        cursor = due
    assert found == ["00:00", "03:00", "04:30", "06:00", "12:00", "18:00"]


def test_a_single_time_comes_once() -> None:
    find = make_next(["@at 2026-07-01T08:00"], "Europe/Berlin")
    due = datetime(2026, 7, 1, 6, tzinfo=UTC).timestamp()
    assert find(0) == due
    assert find(due - 1) == due
    assert find(due) is None
    assert parse_instant("2026-07-01T08:00:00+01:00", "Europe/Berlin") == due + 3600


WRONG = [
    ("61 * * * *", "character 1: the minute is 0 to 59, not 61"),
    ("  0   24 * * *", "character 7: the hour is 0 to 23, not 24"),
    ("0 0 0 * *", "character 5: the day of month is 1 to 31, not 0"),
    ("* * * * mno", "character 9: the day of week is 0 to 7, or a name such as sun, not 'mno'; did you mean 'mon'?"),
    ("0 0 * july *", "did you mean 'jul'?"),
    ("* * *", "has 3 fields"),
    ("", "has 0 fields"),
    ("0 0 31 2,4,6 *", "never comes"),
    ("@dayly", "did you mean '@daily'?"),
    ("5-1 * * * *", "character 1: the range 5-1 ends before it begins; write 5-59,0-1"),
    ("* */0 * * *", "character 5: a step of the hour is a number from 1 to 23, not '0'"),
    ("0 0 L-40 * *", "character 5: expected L or L-1 to L-27"),
    ("* * * * fri#9", "character 13: after # stands 1 to 5, as in fri#2 for the second Friday, not '9'"),
    ("1,,2 * * * *", "character 3: the minute is missing before or after a comma"),
    ("0 0 * * L", "5L is the last Friday"),
    ("٣ * * * *", "the minute is 0 to 59, not '٣'"),
    ("99999999999999999999 * * * *", "the minute is 0 to 59"),
    ("* " * 300, "at most 500 characters"),
    ("@every", "not an empty text"),
    ("@every 5 minutes", "expected a duration"),
    ("@every 250ms", "once a second at most"),
    ("@at noon", "expected a time such as 2026-12-01T08:00"),
]


@pytest.mark.parametrize(("text", "says"), WRONG, ids=[repr(text[:20]) for text, _ in WRONG])
def test_mistakes_are_named_with_their_place(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=r".") as wrong:
        make_next([text], "UTC")
    assert says in str(wrong.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Berlin", "did you mean 'Europe/Berlin'?"),
        ("europe/berln", "did you mean 'Europe/Berlin'?"),
        ("../../etc/passwd", "not known"),
        ("", "expected an IANA name"),
    ],
)
def test_unknown_zones_are_refused(name: str, says: str) -> None:
    with pytest.raises(ValueError, match="time zone") as wrong:
        zone_of(name)
    assert says in str(wrong.value)
