"""The report of the flights example: well-formed, self-contained, and safe against what stands in the data."""

import re
import xml.etree.ElementTree as ET

import charts
import pytest
import report
from tallies import Tallies

import flights


def svg(text):
    return ET.fromstring(text)


def test_lines_draw_one_polyline_per_series():
    drawn = svg(charts.lines(["Jan", "Feb"], {"EWR": [1, 2], "JFK": [3, -4]}, "minutes"))
    assert [len(line.get("points").split()) for line in drawn.iter("polyline")] == [2, 2]
    assert "JFK, Feb: -4.0 minutes" in [title.text for title in drawn.iter("title")]


def test_names_at_the_ends_of_lines_do_not_overlap():
    assert charts._spread([100, 101, 50], gap=15) == [100, 115, 50]


@pytest.mark.parametrize(("low", "high"), [(0, 23), (-3, 7), (0, 0), (0, 0.013), (-250, -10)])
def test_ticks_enclose_the_values_and_stay_few(low, high):
    ticks = charts._ticks(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert len(ticks) <= 7


def test_bars_are_as_long_as_their_values_and_negative_ones_go_left():
    drawn = svg(charts.bars([("a", 10, "10"), ("b", 5, "5"), ("c", -5, "-5")]))
    a, b, c = drawn.iter("rect")
    assert float(a.get("width")) == pytest.approx(2 * float(b.get("width")), abs=0.2)
    assert float(c.get("x")) + float(c.get("width")) == pytest.approx(float(a.get("x")), abs=0.2)


def test_heat_leaves_unknown_cells_empty_and_shades_by_value():
    drawn = svg(charts.heat(["Mon", "Tue"], ["05", "06"], {("Mon", "05"): 0, ("Tue", "06"): 8}, "minutes"))
    assert [float(cell.get("fill-opacity")) for cell in drawn.iter("rect")] == [0.06, 1.0]


@pytest.mark.parametrize(
    "draw",
    [
        lambda text: charts.bars([(text, 1, text)]),
        lambda text: charts.lines([text], {text: [1]}, text),
        lambda text: charts.heat([text], [text], {(text, text): 1}, text),
    ],
    ids=["bars", "lines", "heat"],
)
def test_text_from_the_data_cannot_break_out_of_the_drawing(draw):
    drawn = svg(draw("<script>\"&'</script>"))
    assert not list(drawn.iter("script"))


@pytest.fixture
def page(tmp_path):
    """A report over three flights of one month."""
    tallies = Tallies()
    for carrier, day, delay in (("UA", 1, 20), ("UA", 2, -3), ("<b>", 2, None)):
        keys = [("month", "2013-06"), ("day", f"2013-06-{day:02}"), ("carrier", carrier), ("origin", "EWR")]
        keys += [("month origin", "2013-06 EWR"), ("route", "EWR-IAH"), ("hour", "5 07"), ("wind", "under 5 mph")]
        tallies.add(keys, delay, delay, delay is not None and delay < 15)
    tallies.pair("wind", 3, 20)
    for name in ("airlines", "airports"):
        (tmp_path / f"{name}.csv").write_text("carrier,faa,name\nUA,IAH,United & <Sons>\n")
    flights._write(tmp_path / "totals.json", tallies.to_json())
    checks = [{"name": "a < b", "value": 0.0245, "expected": "<= 0.05", "passed": True}]
    done = report.write(str(tmp_path / "totals.json"), checks, str(tmp_path), str(tmp_path))
    text = (tmp_path / "report.html").read_text()
    assert done == {"file": str(tmp_path / "report.html"), "bytes": len(text.encode())}
    return text


def test_the_report_needs_nothing_from_elsewhere(page):
    assert not re.findall(r"""(?:src|href)\s*=|@import|url\(|https?://""", page)


def test_every_mark_of_the_template_is_filled_in(page):
    assert not re.findall(r"\{(?:period|tiles|sections)\}", page)
    assert "2013-06," in page
    assert "<b>3</b><span>flights</span>" in page
    assert "<b>50.0%</b><span>arrived on time</span>" in page
    assert "<b>33.3%</b><span>cancelled</span>" in page


def test_names_from_the_data_are_escaped(page):
    assert "United &amp; &lt;Sons&gt;" in page
    assert "<Sons>" not in page


def test_every_drawing_is_well_formed(page):
    drawings = re.findall(r"<svg.*?</svg>", page, re.S)
    assert len(drawings) >= 5
    for drawing in drawings:
        svg(drawing)


def test_a_gap_in_the_routes_is_said_not_drawn(page):
    assert "No route has that many arrivals." in page
