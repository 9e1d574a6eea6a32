# The process died while attempts were being stopped: nobody can stop them now, they count as cancelled.
tasks:
  a:
  b: [a]
====
start
    1 run.created
    owed: launch a#1
a launched
    nothing follows
a started
    2 task.started a #1
cancel
    3 run.cancel_requested
    4 task.cancelled b
    owed: nothing
crash
    5 task.cancelled a
    6 run.finished state="cancelled"
states
    run cancelled: a cancelled, b cancelled
