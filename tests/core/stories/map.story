# Items are launched in order and may end in any; the outputs come together in the order of the list.
tasks:
  list:
  each: {map: "{{ tasks.list.output }}", args: {x: "{{ item }}"}}
  join: {args: {all: "{{ tasks.each.output }}"}}
output: "{{ tasks.each.output }}"
====
start
    1 run.created
    owed: launch list#1
list succeeds ["x", "y", "z"]
    2 task.succeeded list #1 output=["x", "y", "z"]
    3 task.mapped each items=["x", "y", "z"]
    owed: launch each[0]#1, launch each[1]#1, launch each[2]#1
each[2] succeeds 30
    4 task.succeeded each[2] #1 output=30
    owed: launch each[0]#1, launch each[1]#1
each[0] succeeds 10
    5 task.succeeded each[0] #1 output=10
    owed: launch each[1]#1
each[1] succeeds 20
    6 task.succeeded each[1] #1 output=20
    owed: launch join#1
join succeeds
    7 task.succeeded join #1
    8 run.finished state="succeeded" output=[10, 20, 30]
    owed: nothing
states
    run succeeded: list succeeded, each succeeded, each[0] succeeded, each[1] succeeded, each[2] succeeded, join succeeded
