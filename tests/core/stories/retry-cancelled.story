# A cancelled run can go on.
tasks:
  a:
  b: [a]
====
start
    1 run.created
    owed: launch a#1
a succeeds
    2 task.succeeded a #1
    owed: launch b#1
cancel
    3 run.cancel_requested
    4 task.cancelled b
    5 run.finished state="cancelled"
    owed: nothing
retry
    6 run.retried tasks=["b"]
    owed: launch b#1
b succeeds
    7 task.succeeded b #1
    8 run.finished state="succeeded" output={"b": null}
    owed: nothing
states
    run succeeded: a succeeded, b succeeded
