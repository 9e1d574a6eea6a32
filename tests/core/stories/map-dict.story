# The items of a mapping are {key, value}.
tasks:
  list:
  each: {map: "{{ tasks.list.output }}"}
====
start
    1 run.created
    owed: launch list#1
list succeeds {"b": 1, "a": 2}
    2 task.succeeded list #1 output={"b": 1, "a": 2}
    3 task.mapped each items=[{"key": "b", "value": 1}, {"key": "a", "value": 2}]
    owed: launch each[0]#1, launch each[1]#1
each[1] succeeds
    4 task.succeeded each[1] #1
    owed: launch each[0]#1
each[0] succeeds
    5 task.succeeded each[0] #1
    6 run.finished state="succeeded" output={}
    owed: nothing
