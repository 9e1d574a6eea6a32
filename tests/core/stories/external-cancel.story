# Cancelling the run closes an attempt that somebody else would have completed.
tasks:
  a:
====
start
    1 run.created
    owed: launch a#1
a launched
    nothing follows
a handed-over
    2 task.started a #1 external
    owed: nothing
pause
    3 run.paused
crash
    nothing follows
resume
    4 run.resumed
cancel
    5 run.cancel_requested
    6 task.cancelled a
    7 run.finished state="cancelled"
a told 1
    refused: attempt 1 of task a in run R takes no more word from outside: the task is cancelled
