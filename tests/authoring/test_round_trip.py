"""YAML and Python are two spellings of one specification, and the writer is the reader's inverse."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.authoring import Dag, dag, task
from headrace.authoring.convert import canonical
from headrace.authoring.kinds import Kinds
from headrace.authoring.yaml.load import load_yaml
from headrace.authoring.yaml.writer import to_yaml
from headrace.core.spec import (
    Backoff,
    Jitter,
    ParamSpec,
    RetryPolicy,
    TaskSpec,
    Timeouts,
    TriggerRule,
    WorkflowSpec,
    decode_spec,
    encode_spec,
)
from headrace.core.validate import validate

_names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,6}", fullmatch=True)
_tricky = st.sampled_from(
    ["no", "yes", "on", "1:30", "012", "0o17", "0x1F", "1e5", "1.5", ".5", "-", "~", "null", "Null", "true", "", " a", "a ", "a: b",
     "# a", "a #b", "2013-01-31", "line\nline\n", "line\n\n", "\n", " \n a", "\ttab", "{a", "[a", "'", '"', "%a", "@a", "*a", "&a", "!a",
     "|", ">", "? a", "- a", "a\r\nb", "\x85", "\u2028", "\U0001f600", "<<", "=", "1_000", "+1", ".inf", "0b1", "\\n", "100\n", "\ufeff"]
)  # fmt: skip
_text = (_tricky | st.text(max_size=8)).filter(lambda text: "{{" not in text and "{%" not in text and "{#" not in text)
_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _text,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(_text, children, max_size=3),
    max_leaves=8,
)
_args = st.dictionaries(_text, _json, max_size=3)
_seconds = st.floats(0.001, 1e6, allow_nan=False) | st.integers(1, 10**6).map(float)
_retries = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 5),
    backoff=st.sampled_from(Backoff),
    initial=_seconds,
    factor=st.floats(1, 10),
    max_delay=_seconds,
    jitter=st.sampled_from(Jitter),
    elapsed=st.none() | _seconds,
    retry_on=st.lists(st.sampled_from(["OSError", "exit:1", "http:5xx"]), max_size=2).map(tuple),
).map(canonical)
_timeouts = st.builds(
    Timeouts, attempt=st.none() | _seconds, queue=st.none() | _seconds, task=st.none() | _seconds
).map(canonical)
_params = st.dictionaries(
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,5}", fullmatch=True),
    st.builds(lambda default, words: ParamSpec(default=default, description=words), _json, _text),
    max_size=2,
)


@st.composite
def workflows(draw: st.DrawFn) -> WorkflowSpec:
    """Valid workflows: every task may need any of those before it."""
    ids = draw(st.lists(_names, min_size=1, max_size=5, unique=True))
    tasks: dict[str, TaskSpec] = {}
    for position, id in enumerate(ids):  # noqa: A001
        earlier = ids[:position]
        needs = draw(st.lists(st.sampled_from(earlier), unique=True, max_size=3)) if earlier else []
        kind, config = draw(
            st.sampled_from(
                [("run", {"command": "x"}), ("python", {"function": "m:f"}), ("run", {"command": ["a"], "env": {"no": "on"}}),
                 ("http", {"url": "http://x", "json": {"a": [1]}})]
            )
        )  # fmt: skip
        is_mapped = draw(st.booleans())
        args = draw(_args)
        if needs:
            args["from"] = f"{{{{ tasks[{needs[0]!r}].output }}}}"
        tasks[id] = TaskSpec(
            id=id,
            kind=kind,
            config=config,
            args=args,
            needs=tuple(needs),
            trigger=draw(st.sampled_from(TriggerRule)),
            when=draw(st.sampled_from([None, "true", "{{ run.id == 'x' }}", "1 == 1\n"])),
            retries=draw(_retries),
            timeouts=draw(_timeouts),
            executor=draw(st.sampled_from([None, "thread"])) if kind == "python" else None,
            priority=draw(st.integers(-5, 5)),
            **(
                {"sticky": True, "prefer_labels": {"zone": "a"}, "prefer_for": draw(st.none() | st.floats(0.001, 3600))}
                if draw(st.booleans())
                else {}
            ),
            allow_failure=draw(st.booleans()),
            tags=tuple(draw(st.lists(_text, max_size=2))),
            description=draw(_text),
            **({"map": draw(st.lists(_json, max_size=3)), "max_parallel": draw(st.none() | st.integers(1, 3))} if is_mapped else {}),
        )  # fmt: skip
    spec = WorkflowSpec(
        name=draw(_names),
        tasks=tasks,
        params=draw(_params),
        description=draw(_text),
        tags=tuple(draw(st.lists(_text, max_size=2))),
        max_parallel=draw(st.none() | st.integers(1, 9)),
        timeout=draw(st.none() | _seconds),
        output=draw(_json | st.just(f"{{{{ tasks[{ids[0]!r}].output }}}}")),
    )
    return validate(spec)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spec=workflows())
def test_what_is_written_reads_back_the_same(spec: WorkflowSpec, kinds: Kinds) -> None:
    text = to_yaml(spec)
    assert load_yaml(text, kinds=kinds).spec == spec, text
    assert encode_spec(load_yaml(text, kinds=kinds).spec) == encode_spec(spec)
    assert decode_spec(encode_spec(spec)) == spec


@settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spec=workflows())
def test_the_builder_makes_the_same_from_the_same_parts(spec: WorkflowSpec) -> None:
    built = dag(spec.name, params=spec.params, description=spec.description, tags=spec.tags, max_parallel=spec.max_parallel,
                timeout=spec.timeout)  # fmt: skip
    built.output = spec.output
    for each in spec.tasks.values():
        options: dict[str, Any] = {
            name: getattr(each, name)
            for name in (
                "needs",
                "trigger",
                "when",
                "max_parallel",
                "executor",
                "priority",
                "sticky",
                "prefer_labels",
                "prefer_for",
                "allow_failure",
                "tags",
                "description",
            )
        }
        built.task(
            each.id,
            each.kind,
            each.config,
            each.args,
            map=each.map,
            retries=each.retries,
            timeout=each.timeouts,
            **options,
        )
    assert built.spec == spec
    assert encode_spec(built.spec) == encode_spec(spec)


# ---- one workflow, three times --------------------------------------------------------------------------------------


@task
def months(year: int) -> list[int]:
    return list(range(1, 13))


@task(retries=5, executor="thread")
def aggregate(month: int, unit: str) -> dict[str, int]:
    return {"rows": month}


def nightly() -> Dag:
    with dag("nightly", params={"year": 2013, "city": str}, defaults={"timeout": "10m"}, max_parallel=8) as d:
        all_months = months(year=d.params.year)
        monthly = aggregate.options(id="monthly", max_parallel=4).map(month=all_months, unit="h")
        publish = d.run(
            "publish", f"./publish.sh {d.params.year}", needs=monthly, when="{{ tasks.monthly.output | length == 12 }}"
        )
        archive = d.run("archive", f"tar {monthly[0]['rows']}")
        alert = d.http("alert", "http://localhost/alert", method="POST", trigger="one_failed", timeout={"queue": 60})
        [publish, archive] >> alert
        d.output = {"months": monthly}
    return d


NIGHTLY = """
name: nightly
params: {year: 2013, city: str}
defaults: {timeout: 10m}
max_parallel: 8
output: {months: "{{ tasks.monthly.output }}"}
tasks:
  months: {python: "%(module)s:months", with: {year: "{{ params.year }}"}}
  monthly:
    map: "{{ tasks.months.output }}"
    max_parallel: 4
    python: "%(module)s:aggregate"
    with: {month: "{{ item }}", unit: h}
    retries: 5
    executor: thread
  publish:
    needs: monthly
    when: "{{ tasks.monthly.output | length == 12 }}"
    run: "./publish.sh {{ params.year }}"
  archive: {run: "tar {{ tasks.monthly.output[0].rows }}"}
  alert:
    needs: [publish, archive]
    trigger: one_failed
    http: {url: "http://localhost/alert", method: POST}
    timeout: {queue: 60}
"""


def test_both_styles_give_the_same_specification(kinds: Kinds) -> None:
    built = nightly()
    written = load_yaml(NIGHTLY % {"module": __name__}, kinds=kinds).spec
    assert built.spec == written
    assert load_yaml(built.to_yaml(), kinds=kinds).spec == written
    assert set(built.functions) == {f"{__name__}:months", f"{__name__}:aggregate"}


def test_what_is_left_at_its_default_is_not_written() -> None:
    spec = WorkflowSpec(name="w", tasks={"a": TaskSpec(id="a", kind="run", config={"command": "x"})})
    assert to_yaml(spec) == "name: w\ntasks:\n  a:\n    run: x\n"
