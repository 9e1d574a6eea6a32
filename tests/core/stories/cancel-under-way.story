# Attempts under way are stopped first; one that ends by itself keeps its outcome, and nothing new starts.
tasks:
  a:
  b:
  c: [a]
  d: {needs: [b], trigger: always}
====
start
    1 run.created
    owed: launch a#1, launch b#1, launch d#1
a launched
    nothing follows
b launched
    nothing follows
cancel
    2 run.cancel_requested
    3 task.cancelled c
    4 task.cancelled d
    owed: nothing
a succeeds 1
    5 task.succeeded a #1 output=1
cancel again
    nothing follows
b stopped
    6 task.cancelled b #1
    7 run.finished state="cancelled"
states
    run cancelled: a succeeded, b cancelled, c cancelled, d cancelled
