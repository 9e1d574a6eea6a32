# Tasks that stay cancelled keep the run from counting as succeeded.
tasks:
  a:
  x:
====
start
    1 run.created
    owed: launch a#1, launch x#1
a succeeds
    2 task.succeeded a #1
    owed: launch x#1
cancel
    3 run.cancel_requested
    4 task.cancelled x
    5 run.finished state="cancelled"
    owed: nothing
retry a
    6 run.retried tasks=["a"]
    owed: launch a#1
a succeeds
    7 task.succeeded a #1
    8 run.finished state="cancelled"
    owed: nothing
states
    run cancelled: a succeeded, x cancelled
retry
    9 run.retried tasks=["x"]
    owed: launch x#1
x succeeds
    10 task.succeeded x #1
    11 run.finished state="succeeded" output={"a": null, "x": null}
    owed: nothing
states
    run succeeded: a succeeded, x succeeded
