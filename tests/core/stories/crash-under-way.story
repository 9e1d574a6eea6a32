# An attempt was under way when its process died: the same attempt is owed again, under the same name.
tasks:
  a:
  b: [a]
====
start
    1 run.created
    owed: launch a#1
a started
    2 task.started a #1
crash
    nothing follows
a succeeds 1
    3 task.succeeded a #1 output=1
    owed: launch b#1
crash
    nothing follows
b succeeds 2
    4 task.succeeded b #1 output=2
    5 run.finished state="succeeded" output={"b": 2}
    owed: nothing
