# The run's end waits as well, also in a process that took the run over.
tasks:
  a:
output: "{{ tasks.a.output[0] }}"
====
start
    1 run.created
    owed: launch a#1
a succeeds {"$ref": "d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1", "bytes": 99999}
    2 task.succeeded a #1 output={"$ref": "d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1", "bytes": 99999}
    owed: load d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1
states
    run running: a succeeded
crash
    nothing follows
loaded d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1 [42]
    3 run.finished state="succeeded" output=42
    owed: nothing
