# A large output is in the history by reference. A decision that looks into it waits until it is loaded.
tasks:
  a:
  each: {map: "{{ tasks.a.output }}"}
  b: {needs: [a], when: "{{ tasks.a.output | length > 1 }}"}
  c: [a]
====
start
    1 run.created
    owed: launch a#1
a succeeds {"$ref": "d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1", "bytes": 99999}
    2 task.succeeded a #1 output={"$ref": "d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1", "bytes": 99999}
    owed: launch c#1, load d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1
c succeeds
    3 task.succeeded c #1
    owed: load d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1
loaded d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1 [1, 2]
    4 task.mapped each items=[1, 2]
    5 task.ready b
    owed: launch each[0]#1, launch each[1]#1, launch b#1
b succeeds
    6 task.succeeded b #1
    owed: launch each[0]#1, launch each[1]#1
each[0] succeeds
    7 task.succeeded each[0] #1
    owed: launch each[1]#1
each[1] succeeds
    8 task.succeeded each[1] #1
    9 run.finished state="succeeded" output={"b": null, "c": null}
    owed: nothing
states
    run succeeded: a succeeded, each succeeded, each[0] succeeded, each[1] succeeded, b succeeded, c succeeded
