"""Every workload runs, goes through the engine and gives figures that make sense. Nothing here depends on speed."""

import asyncio
import json
import math

import msgspec
import pytest

from headrace.bench.huge import layered
from headrace.bench.main import bench, choose, run_bench
from headrace.bench.places import MemoryPlace, SqlitePlace, folder_beside
from headrace.bench.report import as_json, extra_rows, row
from headrace.bench.tasks import nothing
from headrace.bench.workloads import WORKLOADS
from headrace.core.errors import HeadraceError
from headrace.core.validate import validate


def small(workload):
    return msgspec.structs.replace(workload, repetitions=1)


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_reports_its_figure_beside_its_limit(name, tmp_path):
    workload = small(WORKLOADS[name])
    found = asyncio.run(bench(SqlitePlace(tmp_path), {name: workload}, scale=0.01))
    result = found["workloads"][name]
    assert result[workload.figure] > 0
    assert result["min"] <= result[workload.figure] <= result["max"]
    assert math.isclose(result["ratio"], result[workload.figure] / result["raw_limit"], rel_tol=0.01)
    assert found["raw"]["commit_ms"] > 0
    assert found["versions"]["event_loop"]
    cells = row(name, workload, result)
    assert cells[0] == name
    for line in [cells, *extra_rows(name, result)]:
        assert all(isinstance(cell, str) for cell in line)


def test_json_has_the_promised_shape(tmp_path):
    chosen = {name: small(workload) for name, workload in choose(["W2", "W3", "W4"]).items()}
    found = json.loads(as_json(asyncio.run(bench(SqlitePlace(tmp_path), chosen, scale=0.01))))
    assert set(found) == {"store", "versions", "raw", "workloads"}
    assert {"hop_ms", "raw_commit_ms", "ratio"} <= set(found["workloads"]["W2"])
    assert {"plain_commit_ms", "plain_ratio"} <= set(found["workloads"]["W2"])
    assert "runs_per_second" in found["workloads"]["W3"]
    assert {"p50_ms", "p95_ms"} <= set(found["workloads"]["W4"])
    assert {"commits_per_second", "rows_per_second", "loop_hops_per_second"} <= set(found["raw"])


def test_the_memory_store_has_no_limit_of_a_commit():
    found = asyncio.run(bench(MemoryPlace(), {"W2": small(WORKLOADS["W2"])}, scale=0.01))
    assert found["store"] == "memory"
    assert found["workloads"]["W2"]["ratio"] is None
    assert row("W2", WORKLOADS["W2"], found["workloads"]["W2"])[-1] == ""  # no ratio: neither reached nor missed


@pytest.mark.parametrize(
    ("ratios", "mark"),
    [
        ({"ratio": 1.7, "plain_ratio": 1.5}, "reached"),
        ({"ratio": 1.7, "plain_ratio": 1.7}, "missed"),
        ({"ratio": 1.5}, "reached"),  # a store on a server
        ({"ratio": 1.7}, "missed"),
    ],
)
def test_a_hop_is_judged_by_plain_commits_where_there_are_any(ratios, mark):
    result = {"hop_ms": 0.2, "min": 0.1, "max": 0.3, "raw_limit": 0.1, **ratios}
    assert row("D1", WORKLOADS["D1"], result)[-1] == mark


def test_workloads_are_chosen_by_name_or_beginning():
    assert list(choose(["w1-1000"])) == ["W1-1000"]
    assert list(choose(["W1"])) == [name for name in WORKLOADS if name.startswith("W1-")]
    assert choose([]) == WORKLOADS
    with pytest.raises(HeadraceError, match="no workload 'W9'"):
        choose(["W2", "W9"])


def test_the_bench_leaves_nothing_behind_and_no_database_untouched(tmp_path):
    store = tmp_path / "mine.db"
    store.write_bytes(b"not to be opened")
    with folder_beside(f"sqlite:///{store}") as folder:
        assert folder.parent == tmp_path
    assert list(tmp_path.iterdir()) == [store]
    assert store.read_bytes() == b"not to be opened"


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HeadraceError, match="cannot write to"):
        run_bench(f"sqlite:///{tmp_path}/file/x.db", ["W2"], as_json=True)


@pytest.mark.parametrize("count", [10, 25, 100])
def test_the_huge_graph_is_layered(count):
    spec = validate(layered(count, nothing.target))
    assert len(spec.tasks) == count
    ids = {id(name) for name in spec.tasks}
    assert all(id(need) in ids for task in spec.tasks.values() for need in task.needs)  # a name is one text
    width = count // 10
    depth = {}
    for id_, task in spec.tasks.items():
        depth[id_] = 1 + max((depth[need] for need in task.needs), default=0)
    assert max(depth.values()) == -(-count // width)
