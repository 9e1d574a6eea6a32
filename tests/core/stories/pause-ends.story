# If what was under way was the last, a paused run ends.
tasks:
  a:
====
start
    1 run.created
    owed: launch a#1
a launched
    nothing follows
pause
    2 run.paused
    owed: nothing
a succeeds 1
    3 task.succeeded a #1 output=1
    4 run.finished state="succeeded" output={"a": 1}
states
    run succeeded: a succeeded
