"""Graphs as text and Mermaid: complete when small, bounded when large, safe with any id."""

from __future__ import annotations

from typing import Any

from headrace.authoring.drawing import draw_mermaid, draw_text
from headrace.core.spec import TaskSpec, TriggerRule, WorkflowSpec


def workflow(**needs: tuple[str, ...]) -> WorkflowSpec:
    extra: dict[str, dict[str, Any]] = {
        "monthly": {"map": [1]},
        "alert": {"trigger": TriggerRule.ONE_FAILED},
        "publish": {"when": "{{ tasks.monthly.output }}"},
    }
    tasks = {id: TaskSpec(id=id, kind="run", needs=above, **extra.get(id, {})) for id, above in needs.items()}  # noqa: A001
    return WorkflowSpec(name="nightly", tasks=tasks)


NIGHTLY = workflow(
    months=(), monthly=("months",), publish=("monthly",), alert=("publish",), report=("publish", "months"), lone=()
)


def test_text() -> None:
    assert draw_text(NIGHTLY) == (
        "nightly (6 tasks)\n"
        "├─ months  [run]\n"
        "│  ↓  monthly  [run, map]\n"
        "│  ↓  publish  [run, when tasks.monthly.output]\n"
        "│  ├─ alert  [run, one_failed]\n"
        "│  └─ report  [run]  <- months\n"
        "└─ lone  [run]\n"
    )


def test_text_with_states() -> None:
    lines = draw_text(NIGHTLY, {"months": "succeeded", "monthly": "failed"}).splitlines()
    assert lines[1:4] == [
        "├─ ✓ months  [run]",
        "│  ↓  ✗ monthly  [run, map]",
        "│  ↓  · publish  [run, when tasks.monthly.output]",
    ]


def test_every_task_is_drawn_once_and_large_graphs_are_cut() -> None:
    chain = workflow(**{f"t{i}": (f"t{i - 1}",) if i else () for i in range(50_000)})
    lines = draw_text(chain).splitlines()
    assert len(lines) == 202 and lines[-1] == "... and 49,800 more tasks"
    assert max(map(len, lines)) < 40
    comb = workflow(
        **{
            name: above
            for i in range(60)
            for name, above in ((f"t{i}", (f"t{i - 1}",) if i else ()), (f"s{i}", (f"t{i}",)))
        }
    )
    drawn = draw_text(comb).splitlines()
    assert len(drawn) == 121 and max(map(len, drawn)) < 100


def test_mermaid() -> None:
    text = draw_mermaid(NIGHTLY, {"months": "succeeded"})
    assert text.startswith('flowchart TD\n  t0["months"]\n  t1[["monthly"]]\n  t2{{"publish"}}\n')
    assert "  t2 -->|one_failed| t3\n" in text and "  t0 --> t4\n" in text
    assert "  class t0 succeeded\n" in text


def test_mermaid_escapes_and_is_bounded() -> None:
    odd = WorkflowSpec(
        name="w", tasks={'a"]<b>': TaskSpec(id='a"]<b>', kind="run"), "end": TaskSpec(id="end", kind="run")}
    )
    text = draw_mermaid(odd)
    assert 't0["a#34;#93;#60;b#62;"]' in text and 't1["end"]' in text
    wide = workflow(**{f"t{i}": tuple(f"t{j}" for j in range(i)) for i in range(60)})
    drawn = draw_mermaid(wide)
    assert drawn.count("-->") == 500 and "not drawn: 0 tasks, 1,270 edges" in drawn
