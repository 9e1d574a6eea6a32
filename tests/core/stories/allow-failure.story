# The task fails and is seen to; the run does not.
tasks:
  a: {allow_failure: true}
  b: {needs: [a], trigger: all_done}
  c: [a]
====
start
    1 run.created
    owed: launch a#1
a fails ValueError
    2 task.failed a #1 failure=ValueError
    3 task.upstream_failed c
    owed: launch b#1
b succeeds 2
    4 task.succeeded b #1 output=2
    5 run.finished state="succeeded" output={"b": 2}
    owed: nothing
states
    run succeeded: a failed, b succeeded, c upstream_failed
