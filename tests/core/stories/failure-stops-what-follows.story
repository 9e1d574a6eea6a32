# A failure makes what needs it upstream_failed, all the way down; what does not need it goes on.
tasks:
  a:
  b: [a]
  c: [b]
  d:
  e: [d]
====
start
    1 run.created
    owed: launch a#1, launch d#1
a fails ValueError
    2 task.failed a #1 failure=ValueError
    3 task.upstream_failed b
    4 task.upstream_failed c
    owed: launch d#1
d succeeds
    5 task.succeeded d #1
    owed: launch e#1
e succeeds
    6 task.succeeded e #1
    7 run.finished state="failed" failed_task="a" failure=ValueError
    owed: nothing
states
    run failed: a failed, b upstream_failed, c upstream_failed, d succeeded, e succeeded
