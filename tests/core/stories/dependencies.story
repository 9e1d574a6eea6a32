# A task becomes ready when the last of what it needs has succeeded; the run ends in the commit of its last task.
tasks:
  a:
  b:
  c: [a, b]
====
start
    1 run.created
    owed: launch a#1, launch b#1
b succeeds 2
    2 task.succeeded b #1 output=2
    owed: launch a#1
a succeeds 1
    3 task.succeeded a #1 output=1
    owed: launch c#1
# An outcome of an attempt that is over comes too late.
a#1 succeeds 9
    nothing follows
c succeeds {"sum": 3}
    4 task.succeeded c #1 output={"sum": 3}
    5 run.finished state="succeeded" output={"c": {"sum": 3}}
    owed: nothing
c#1 fails ValueError
    nothing follows
states
    run succeeded: a succeeded, b succeeded, c succeeded
