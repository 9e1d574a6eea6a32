# The process died before the start was recorded: it has not run, so it may.
tasks:
  a: {at_most_once: true}
====
start
    1 run.created
    owed: launch a#1
crash
    nothing follows
a started
    2 task.started a #1
a succeeds
    3 task.succeeded a #1
    4 run.finished state="succeeded" output={"a": null}
    owed: nothing
