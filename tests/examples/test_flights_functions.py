"""The task functions of the flights example on small hand-made files, where every figure can be checked by eye."""

import datetime as dt
import hashlib
import json
import os
import subprocess
import tarfile
from collections import Counter

import pytest
from tallies import Tallies

import flights

FLIGHTS = """\
year,month,day,carrier,flight,tailnum,origin,dest,hour,time_hour,dep_delay,arr_delay
2013,1,1,UA,1,N1,EWR,IAH,5,2013-01-01T10:00:00Z,10,20
2013,1,1,UA,2,N1,EWR,IAH,5,2013-01-01T10:00:00Z,-5,14
2013,1,2,AA,3,NA,JFK,MIA,6,2013-01-02T11:00:00Z,NA,NA
2013,1,2,ZZ,4,N9,JFK,XXX,6,2013-01-02T12:00:00Z,7,NA
2013,1,2,ZZ,4,N9,JFK,XXX,6,2013-01-02T12:00:00Z,7,NA
"""
OTHERS = {
    "planes": "tailnum,year\nN1,1999\n",
    "airports": "faa,name\nIAH,Houston\nMIA,Miami\n",
    "airlines": "carrier,name\nUA,United\nAA,American\n",
    "weather": """\
origin,year,month,day,hour,visib,precip,wind_speed,time_hour
EWR,2013,1,1,5,0.5,0.2,NA,2013-01-01T10:00:00Z
JFK,2013,1,2,6,10,0,4,2013-01-02T11:00:00Z
JFK,2013,2,2,6,10,0,4,2013-01-02T12:00:00Z
""",
}


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    (folder / "months").mkdir(parents=True)
    (tmp_path / "months").mkdir()
    for name, text in {**OTHERS, "flights": FLIGHTS, "months/2013-01": FLIGHTS}.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


def run_script(script, **values):
    env = {"PATH": os.environ["PATH"], **{f"HEADRACE_ARG_{name.upper()}": str(value) for name, value in values.items()}}
    done = subprocess.run([script], env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_validate_counts_rows_nulls_orphans_and_duplicates(data):
    assert flights.validate(str(data)) == {
        "rows": {"flights": 5, "planes": 1, "airports": 2, "weather": 3},
        "nulls": {"arr_delay": 3, "dep_delay": 1, "tailnum": 1},
        "orphans": {"plane": 3, "airport": 2, "airline": 2, "weather": 0},
        "duplicates": 1,
        "months": {"2013-01": 5},
    }


def test_validate_refuses_an_empty_file(data):
    (data / "flights.csv").write_text(FLIGHTS.splitlines()[0] + "\n")
    with pytest.raises(ValueError, match=r"flights\.csv has no rows"):
        flights.validate(str(data))


def test_a_short_row_is_reported_with_file_and_line(data):
    (data / "planes.csv").write_text("tailnum,year\nN1,1999\nN2\n")
    with pytest.raises(ValueError, match=r"planes\.csv:3: the row has 1 values, expected 2"):
        flights.validate(str(data))


def test_a_missing_column_is_named(data):
    (data / "airports.csv").write_text("code,name\nIAH,Houston\n")
    with pytest.raises(ValueError, match=r"airports\.csv has no column 'faa'"):
        flights.validate(str(data))


def test_aggregate_writes_tallies_that_can_be_checked_by_hand(data, tmp_path):
    part = flights.aggregate("2013-01", str(data), str(tmp_path))
    assert part == {
        "month": "2013-01",
        "file": str(tmp_path / "months" / "2013-01.json"),
        "flights": 5,
        "cancelled": 1,
        # The observation of February does not count for January, although its hour would fit.
        "weather": 3,
    }
    groups = json.loads((tmp_path / "months" / "2013-01.json").read_text())["groups"]
    # flights, departed, arrived, on time, departure delay, arrival delay
    assert groups["carrier"] == {"UA": [2, 2, 2, 1, 5, 34], "AA": [1, 0, 0, 0, 0, 0], "ZZ": [2, 2, 0, 0, 14, 0]}
    assert groups["route"]["EWR-IAH"] == [2, 2, 2, 1, 5, 34]
    assert groups["hour"] == {"1 05": [2, 2, 2, 1, 5, 34], "2 06": [3, 2, 0, 0, 14, 0]}
    assert groups["visibility"] == {"under 1 mi": [2, 2, 2, 1, 5, 34], "10 mi": [1, 0, 0, 0, 0, 0]}
    assert groups["precipitation"] == {"heavy": [2, 2, 2, 1, 5, 34], "dry": [1, 0, 0, 0, 0, 0]}
    assert groups["wind"] == {"under 5 mph": [1, 0, 0, 0, 0, 0]}


def test_on_time_means_less_delay_than_asked_for(data, tmp_path):
    def on_time(minutes):
        file = flights.aggregate("2013-01", str(data), str(tmp_path), minutes)["file"]
        return json.loads(flights.Path(file).read_text())["groups"]["month"]["2013-01"][3]

    assert [on_time(minutes) for minutes in (14, 15, 20, 21)] == [0, 1, 1, 2]


def test_join_adds_up_in_the_order_of_the_list(data, tmp_path):
    (data / "months" / "2013-02.csv").write_text(FLIGHTS.replace("2013,1,", "2013,2,"))
    parts = [flights.aggregate(month, str(data), str(tmp_path)) for month in ("2013-01", "2013-02")]
    totals = flights.join(parts, str(tmp_path))
    assert (totals["months"], totals["flights"], totals["cancelled"]) == (["2013-01", "2013-02"], 10, 2)
    assert (totals["on_time_rate"], totals["mean_arrival_delay"]) == (0.5, 17)
    whole = Tallies.from_json(json.loads(flights.Path(totals["file"]).read_text()))
    assert whole.groups["carrier"]["UA"].flights == 4


def test_months_are_those_of_the_data_or_those_wanted():
    found = {"2013-02": 1, "2013-01": 1, "2013-11": 1}
    assert flights.months(found, []) == ["2013-01", "2013-02", "2013-11"]
    assert flights.months(found, [11, 1]) == ["2013-01", "2013-11"]
    with pytest.raises(ValueError, match=r"no flights in month 3; the data has months \[1, 2, 11\]"):
        flights.months(found, [3])


GOOD = {
    "facts": {
        "months": {"2013-01": 100, "2013-02": 900},
        "rows": {"flights": 1000},
        "orphans": {"airport": 20, "airline": 0},
        "duplicates": 0,
    },
    "totals": {"months": ["2013-01"], "flights": 100, "cancelled": 3, "weather": 99},
    "months": ["2013-01"],
    "max_cancel_rate": 0.05,
    "max_unknown_airports": 0.05,
    "min_weather_match": 0.95,
}


def test_good_data_passes_the_gate():
    judged = flights.gate(**GOOD)
    assert judged["passed"]
    assert len(judged["checks"]) == 7


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({"months": ["2013-02"], "facts": {**GOOD["facts"], "months": {"2013-02": 100}}}, "all months joined"),
        ({"totals": {**GOOD["totals"], "flights": 99}}, "no flight lost on the way"),
        ({"facts": {**GOOD["facts"], "duplicates": 1}}, "no duplicate flights"),
        ({"facts": {**GOOD["facts"], "orphans": {"airport": 0, "airline": 1}}}, "every airline known"),
        ({"max_cancel_rate": 0.029}, "share of cancelled flights"),
        ({"max_unknown_airports": 0.019}, "share to unknown airports"),
        ({"min_weather_match": 0.991}, "share with weather"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_check_of_the_gate_fails_alone(change, failed):
    judged = flights.gate(**{**GOOD, **change})
    assert [check["name"] for check in judged["checks"] if not check["passed"]] == [failed]
    assert not judged["passed"]


def test_quarantine_leaves_a_reason_that_a_program_can_read(tmp_path):
    checks = flights.gate(**{**GOOD, "max_cancel_rate": 0.01})["checks"]
    outcome = flights.quarantine(checks, str(tmp_path))
    assert outcome["reasons"] == ["share of cancelled flights: 0.03, expected <= 0.01"]
    written = json.loads((tmp_path / "quarantine.json").read_text())
    assert written["reasons"] == outcome["reasons"]
    assert [check["name"] for check in written["failed"]] == ["share of cancelled flights"]
    assert written["checks"] == checks


def test_result_insists_on_the_files_it_announces(tmp_path):
    totals = {"flights": 1, "cancelled": 0, "on_time_rate": 1.0, "mean_arrival_delay": 0.0}
    with pytest.raises(FileNotFoundError, match=r"quarantine\.json should have been written"):
        flights.result(False, totals, str(tmp_path))
    (tmp_path / "quarantine.json").write_text("{}")
    assert flights.result(False, totals, str(tmp_path))["decision"] == "quarantined"
    assert json.loads((tmp_path / "result.json").read_text())["quarantine"] == str(tmp_path / "quarantine.json")


def test_weekdays_agree_with_the_calendar():
    first = dt.date(2011, 12, 31)
    for offset in range(1500):
        day = first + dt.timedelta(days=offset)
        assert flights._weekday(day.isoformat()) == day.weekday(), day


def test_prepare_removes_old_results_and_nothing_else(tmp_path):
    (tmp_path / "data" / "months").mkdir(parents=True)
    old = [tmp_path / "report.html", tmp_path / "result.json", tmp_path / "data" / "months" / "2012-12.csv"]
    mine = [tmp_path / "notes.txt", tmp_path / "data" / "notes.txt"]
    for file in (*old, *mine):
        file.write_text("x")
    places = flights.prepare(str(tmp_path))
    assert not [file for file in old if file.exists()]
    assert all(file.exists() for file in mine)
    assert (places["out"], places["data"]) == (str(tmp_path), str(tmp_path / "data"))


def test_unpack_splits_the_real_data_without_losing_a_row(flights_folder, tmp_path):
    places = flights.prepare(str(tmp_path))
    values = {name: places[name] for name in ("source", "data", "python")}
    for _ in range(2):  # an attempt may be run again after a crash
        unpacked = run_script(flights_folder / "unpack.sh", **values)
    assert unpacked == {"data": places["data"], "bytes": 31053850, "month_files": 12}
    lines = Counter()
    for file in (tmp_path / "data" / "months").iterdir():
        with file.open() as stream:
            assert next(stream).startswith("year,month,day")
            lines[file.stem] = sum(1 for _ in stream)
    assert (lines.total(), lines["2013-01"], lines["2013-12"]) == (336_776, 27_004, 28_135)


def test_publish_packs_the_results_with_a_matching_checksum(flights_folder, tmp_path):
    (tmp_path / "months").mkdir()
    for name in ("report.html", "totals.json", "months/2013-01.json"):
        (tmp_path / name).write_text(name)
    published = run_script(flights_folder / "publish.sh", out=tmp_path)
    archive = tmp_path / "flights.tar.gz"
    assert published["archive"] == str(archive)
    assert published["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    with tarfile.open(archive) as packed:
        assert {"report.html", "totals.json", "months/2013-01.json"} <= set(packed.getnames())
