# A cancel that arrives between two serial tasks wins: the second never starts.
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
states
    run cancelled: a succeeded, b cancelled
