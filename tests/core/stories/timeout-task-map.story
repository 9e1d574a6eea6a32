# The bound of a mapped task holds for all items together: those still open are cancelled.
tasks:
  each: {map: [1, 2, 3], timeouts: {task: 10}}
====
start
    1 run.created
    2 task.mapped each items=[1, 2, 3]
    owed: launch each[0]#1, launch each[1]#1, launch each[2]#1, timer task each 10s
each[0] succeeds
    3 task.succeeded each[0] #1
    owed: launch each[1]#1, launch each[2]#1, timer task each 10s
each[1] launched
    nothing follows
at +10s
    nothing follows
task timeout each
    4 task.failed each failure=task_timeout (the task took longer than its bound of 10 s)
    5 task.cancelled each[1]
    6 task.cancelled each[2]
    7 run.finished state="failed" failed_task="each" failure=task_timeout (the task took longer than its bound of 10 s)
    owed: nothing
each[1]#1 succeeds
    nothing follows
states
    run failed: each failed, each[0] succeeded, each[1] cancelled, each[2] cancelled
# A retry starts the clock again.
at +90s
    nothing follows
retry
    8 run.retried tasks=["each"]
    owed: launch each[1]#1, launch each[2]#1, timer task each 110s
each[1] succeeds
    9 task.succeeded each[1] #1
    owed: launch each[2]#1, timer task each 110s
each[2] succeeds
    10 task.succeeded each[2] #1
    11 run.finished state="succeeded" output={}
    owed: nothing
states
    run succeeded: each succeeded, each[0] succeeded, each[1] succeeded, each[2] succeeded
