"""Sums of months must equal the sum of everything: that is what lets the pipeline fan out."""

import json
import statistics
from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallies import BANDS, Pairs, Tallies, correlation

delays = st.one_of(st.none(), st.integers(-60, 1500))
flights = st.lists(st.tuples(st.sampled_from("abc"), delays, delays, st.booleans()))


def tally(rows):
    tallies = Tallies()
    for key, departure, arrival, on_time in rows:
        tallies.add([("all", "all"), ("key", key)], departure, arrival, on_time and arrival is not None)
        if departure is not None:
            tallies.pair("wind", len(key), departure)
    return tallies


@given(flights, flights)
def test_merging_two_halves_equals_tallying_the_whole(first, second):
    merged = tally(first)
    merged.merge(tally(second))
    assert merged.to_json() == tally(first + second).to_json()


@given(flights)
def test_json_and_back_is_the_same(rows):
    tallies = tally(rows)
    assert Tallies.from_json(json.loads(json.dumps(tallies.to_json()))) == tallies


def test_merging_leaves_the_other_side_alone():
    mine, other = tally([]), tally([("a", 1, 2, True)])
    mine.merge(other)
    mine.add([("key", "a")], 100, 100, False)
    assert astuple(other.groups["key"]["a"]) == (1, 1, 1, 1, 1, 2)


def test_cancelled_and_diverted_flights_count_as_flights_only():
    tallies = tally([("a", None, None, False), ("a", 10, None, False), ("a", 20, 30, True)])
    group = tallies.groups["key"]["a"]
    assert astuple(group) == (3, 2, 1, 1, 30, 30)
    assert (group.mean_departure_delay, group.mean_arrival_delay, group.on_time_rate) == (15, 30, 1)


def test_correlation_agrees_with_the_standard_library():
    xs, ys = [1.0, 2.5, 3.0, 7.0, 9.5], [3.0, -1.0, 8.0, 2.0, 20.0]
    tallies = Tallies()
    for x, y in zip(xs, ys, strict=True):
        tallies.pair("wind", x, y)
    assert correlation(tallies.pairs["wind"]) == pytest.approx(statistics.correlation(xs, ys))


def test_correlation_without_variation_is_zero():
    assert correlation(Pairs()) == 0
    assert correlation(Pairs(n=3, x=6, y=9, xx=12, yy=27, xy=18)) == 0


@pytest.mark.parametrize("bands", BANDS.values(), ids=BANDS.keys())
def test_bands_rise(bands):
    bounds = [bound for bound, _ in bands]
    assert bounds == sorted(set(bounds))
