# Its start is recorded before it happens. If the process dies then, nobody knows how far it came: it is not run again.
tasks:
  a: {at_most_once: true}
  b: {needs: [a], trigger: all_done}
====
start
    1 run.created
    owed: launch a#1
a started
    2 task.started a #1
crash
    3 task.failed a #1 failure=lost (the process ended before the outcome was known, and an at-most-once task is never run again)
    owed: launch b#1
b succeeds
    4 task.succeeded b #1
    5 run.finished state="failed" failed_task="a" failure=lost (the process ended before the outcome was known, and an at-most-once task is never run again)
    owed: nothing
states
    run failed: a failed, b succeeded
