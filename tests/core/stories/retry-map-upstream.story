# The list itself is made again: the mapped task begins from nothing.
tasks:
  list:
  each: {map: "{{ tasks.list.output }}"}
====
start
    1 run.created
    owed: launch list#1
list succeeds [1, 2]
    2 task.succeeded list #1 output=[1, 2]
    3 task.mapped each items=[1, 2]
    owed: launch each[0]#1, launch each[1]#1
each[0] succeeds
    4 task.succeeded each[0] #1
    owed: launch each[1]#1
each[1] fails ValueError
    5 task.failed each[1] #1 failure=ValueError
    6 run.finished state="failed" failed_task="each" failure=ValueError
    owed: nothing
retry list
    7 run.retried tasks=["list", "each"]
    owed: launch list#1
list succeeds [7]
    8 task.succeeded list #1 output=[7]
    9 task.mapped each items=[7]
    owed: launch each[0]#1
each[0] succeeds
    10 task.succeeded each[0] #1
    11 run.finished state="succeeded" output={}
    owed: nothing
states
    run succeeded: list succeeded, each succeeded, each[0] succeeded
