# A paused run can be cancelled.
tasks:
  a:
====
start
    1 run.created
    owed: launch a#1
pause
    2 run.paused
    owed: nothing
cancel
    3 run.cancel_requested
    4 task.cancelled a
    5 run.finished state="cancelled"
states
    run cancelled: a cancelled
