"""What must be true of a cluster once all its runs have ended, judged from the database and from what tasks noted."""

import bisect
import json
from collections import Counter, defaultdict

from cluster_flows import EXPECTED

from cluster import Cluster
from headrace.core import events as ev
from headrace.core.codec import decode_event

ENDS = (ev.TaskSucceeded, ev.TaskFailed, ev.TaskSkipped, ev.TaskCancelled, ev.TaskUpstreamFailed)
STATES = {ev.TaskSucceeded: "succeeded", ev.TaskFailed: "failed"}

HISTORY = """SELECT json_build_array(run_id, seq, data, extract(epoch FROM pg_xact_commit_timestamp(xmin)))
FROM {schema}.events ORDER BY run_id, seq"""
STALE = """SELECT json_build_array(run_id, seq, node, owner) FROM {schema}.witness
WHERE node IS NULL OR owner IS DISTINCT FROM node ORDER BY at"""
TAKEN_OVER = """SELECT json_build_array(before, at) FROM (
    SELECT lag(node) OVER run AS before, node, at, row_number() OVER run AS number
    FROM {schema}.witness WINDOW run AS (PARTITION BY run_id ORDER BY seq)
) AS steps WHERE before <> node"""


class Verdict:
    """Raises AssertionError for what is not as it must be; figures for the rest."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.runs: dict[str, str] = {}
        self.events = 0
        self.executions = 0
        self.repeated = 0
        """Attempts that were begun more than once, as a process died (or was fenced) before their outcome was durable."""
        self.takeovers: list[float] = []
        """Seconds until the next event of a run whose node had died: from its death or, if that was later, from the last
        time before that event at which a node died or was suspended, the database came back, or the only node up did."""
        self.fenced = 0

    def _rows(self, text: str) -> list[list]:
        return [json.loads(line) for line in self._cluster.sql(text).splitlines()]

    def judge(self) -> "Verdict":
        self._no_stale_writes()
        outcomes = self._histories()
        self._ledger(outcomes)
        self._takeovers()
        self.fenced = sum("headrace.node fenced" in line for line in self._cluster.lines("log"))
        return self

    def _no_stale_writes(self) -> None:
        stale = self._rows(STALE)
        assert not stale, f"written by others than the owner: {stale[:10]}"

    def _histories(self) -> dict[str, tuple[int, float]]:
        """Each run whole and right; returns when the outcome of each unit that succeeded was committed."""
        stored: defaultdict[str, list[tuple[ev.Event, float]]] = defaultdict(list)
        for run_id, seq, data, at in self._rows(HISTORY):
            assert seq == len(stored[run_id]) + 1, f"{run_id} has a gap before event {seq}"
            stored[run_id].append((decode_event(data.encode()), at))
            self.events += 1
        acknowledged = self._cluster.lines("acknowledged")
        lost = set(acknowledged) - set(stored)
        assert acknowledged
        assert not lost, f"acknowledged runs are lost: {lost}"
        outcomes: dict[str, tuple[int, float]] = {}
        for run_id, events in stored.items():
            self._run(run_id, [event for event, _ in events])
            for event, at in events:
                if isinstance(event, ev.TaskSucceeded | ev.TaskFailed):
                    outcomes[f"{run_id}/{_unit(event)}"] = (event.attempt, at)
                elif isinstance(event, ev.AttemptFailed):
                    outcomes[f"{run_id}/{_unit(event)}#{event.attempt}"] = (event.attempt, at)
        return outcomes

    def _run(self, run_id: str, events: list[ev.Event]) -> None:
        created = events[0]
        assert isinstance(created, ev.RunCreated), run_id
        ends: Counter[str] = Counter()
        states: dict[str, str] = {}
        for event in events:
            if isinstance(event, ENDS):
                ends[_unit(event)] += 1
                states[_unit(event)] = STATES.get(type(event), type(event).__name__)
            elif isinstance(event, ev.AttemptFailed):
                ends[f"{_unit(event)}#{event.attempt}"] += 1
        twice = [unit for unit, count in ends.items() if count > 1]
        assert not twice, f"{run_id}: recorded twice: {twice}"
        finished = [event for event in events if isinstance(event, ev.RunFinished)]
        assert len(finished) == 1, f"{run_id} ended {len(finished)} times"
        assert finished[0] is events[-1], f"{run_id} goes on after its end"
        state, units = EXPECTED[created.workflow]
        assert str(finished[0].state) == state, f"{run_id} ended {finished[0].state}, not {state}: {states}"
        if units is None:
            assert list(states.values()) == ["succeeded"] * 5, f"{run_id}: {states}"
        else:
            assert states == units, f"{run_id}: {states}"
        self.runs[run_id] = created.workflow

    def _ledger(self, outcomes: dict[str, tuple[int, float]]) -> None:
        """Nothing was begun by an engine that looked at its lease after the outcome had been committed."""
        begun: Counter[tuple[str, str]] = Counter()
        late: list[str] = []
        for line in self._cluster.lines("ledger"):
            key, attempt, at, node = line.split()
            self.executions += 1
            begun[key, attempt] += 1
            for outcome in (outcomes.get(key), outcomes.get(f"{key}#{attempt}")):
                if outcome is not None and float(at) > outcome[1]:
                    late.append(f"{key} attempt {attempt} on {node}, {float(at) - outcome[1]:.3f} s after its outcome")
        self.repeated = sum(count > 1 for count in begun.values())
        assert not late, f"completed tasks ran again ({len(late)}): {late[:10]}"

    def _takeovers(self) -> None:
        died = dict(self._cluster.killed)
        disturbed = sorted(self._cluster.disturbed)
        taken = [(died[before], at) for before, at in self._rows(TAKEN_OVER) if before in died]
        self.takeovers = sorted(
            at - disturbed[bisect.bisect(disturbed, at) - 1]
            for died_at, at in taken
            if at > died_at  # one that was fenced before had lost its runs
        )

    def __str__(self) -> str:
        kinds = Counter(self.runs.values())
        taken = self.takeovers
        waits = (
            f"{len(taken)} runs of killed nodes went on after {taken[len(taken) // 2]:.2f} s (median), {taken[-1]:.2f} s (last)"
            if taken
            else "no run had to be taken over"
        )
        return (
            f"{len(self.runs)} runs ({', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))}), "
            f"{self.events} events, {self.executions} executions, {self.repeated} of them repeated before an outcome was "
            f"durable; {waits}; {self.fenced} times a node was fenced; 0 lost, 0 stale, 0 completed run again"
        )


def _unit(event: ev.Event) -> str:
    task, item = event.task, getattr(event, "item", None)  # type: ignore[attr-defined]
    return task if item is None else f"{task}[{item}]"
