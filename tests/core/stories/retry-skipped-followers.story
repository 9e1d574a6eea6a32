# A follower that was skipped because of the failure is judged again.
tasks:
  a:
  b: {needs: [a], trigger: all_failed}
  c: {needs: [a], trigger: none_failed}
  d: [c]
====
start
    1 run.created
    owed: launch a#1
a fails ValueError
    2 task.failed a #1 failure=ValueError
    3 task.upstream_failed c
    4 task.upstream_failed d
    owed: launch b#1
b skips not needed
    5 task.skipped b #1 reason="not needed"
    6 run.finished state="failed" failed_task="a" failure=ValueError
    owed: nothing
states
    run failed: a failed, b skipped, c upstream_failed, d upstream_failed
retry
    7 run.retried tasks=["a", "b", "c", "d"]
    owed: launch a#1
a succeeds
    8 task.succeeded a #1
    9 task.skipped b reason="trigger rule all_failed cannot be met"
    owed: launch c#1
c succeeds
    10 task.succeeded c #1
    owed: launch d#1
d succeeds
    11 task.succeeded d #1
    12 run.finished state="succeeded" output={"d": null}
    owed: nothing
states
    run succeeded: a succeeded, b skipped, c succeeded, d succeeded
