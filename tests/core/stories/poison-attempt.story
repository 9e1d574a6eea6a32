# An attempt that kills its process each time is given up after five recorded starts.
tasks:
  a: {retries: {attempts: 3}}
  b:
====
start
    1 run.created
    owed: launch a#1, launch b#1
a started
    2 task.started a #1
crash
    nothing follows
a started
    3 task.started a #1
crash
    nothing follows
a started
    4 task.started a #1
crash
    nothing follows
a started
    5 task.started a #1
crash
    nothing follows
a started
    6 task.started a #1
crash
    7 task.failed a #1 failure=lost (the process ended 5 times while this attempt was under way; it is not tried again)
    owed: launch b#1
b succeeds
    8 task.succeeded b #1
    9 run.finished state="failed" failed_task="a" failure=lost (the process ended 5 times while this attempt was under way; it is not tried again)
    owed: nothing
states
    run failed: a failed, b succeeded
