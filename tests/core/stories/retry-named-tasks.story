# A named task runs again even if it succeeded, and everything below it that rests on it. Others stay as they are: a
# failure that was not named still fails the run.
tasks:
  a:
  b: [a]
  x:
====
start
    1 run.created
    owed: launch a#1, launch x#1
a succeeds 1
    2 task.succeeded a #1 output=1
    owed: launch b#1, launch x#1
b succeeds 2
    3 task.succeeded b #1 output=2
    owed: launch x#1
x fails ValueError
    4 task.failed x #1 failure=ValueError
    5 run.finished state="failed" failed_task="x" failure=ValueError
    owed: nothing
retry nothing_like_that
    refused: run R cannot be retried: its workflow has no task 'nothing_like_that'
retry a
    6 run.retried tasks=["a", "b"]
    owed: launch a#1
a succeeds 3
    7 task.succeeded a #1 output=3
    owed: launch b#1
b succeeds 4
    8 task.succeeded b #1 output=4
    9 run.finished state="failed" failed_task="x" failure=ValueError
    owed: nothing
states
    run failed: a succeeded, b succeeded, x failed
