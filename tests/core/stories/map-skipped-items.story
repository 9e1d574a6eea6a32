# An item may skip itself; a task whose items were all skipped is skipped.
tasks:
  some: {map: [1, 2]}
  none: {map: [1, 2]}
  after: [none]
output: "{{ tasks.some.output }}"
====
start
    1 run.created
    2 task.mapped some items=[1, 2]
    3 task.mapped none items=[1, 2]
    owed: launch some[0]#1, launch some[1]#1, launch none[0]#1, launch none[1]#1
some[0] skips not today
    4 task.skipped some[0] #1 reason="not today"
    owed: launch some[1]#1, launch none[0]#1, launch none[1]#1
some[1] succeeds 2
    5 task.succeeded some[1] #1 output=2
    owed: launch none[0]#1, launch none[1]#1
none[0] skips not today
    6 task.skipped none[0] #1 reason="not today"
    owed: launch none[1]#1
none[1] skips not today
    7 task.skipped none[1] #1 reason="not today"
    8 task.skipped after reason="trigger rule all_success cannot be met"
    9 run.finished state="succeeded" output=[null, 2]
    owed: nothing
states
    run succeeded: some succeeded, some[0] skipped, some[1] succeeded, none skipped, none[0] skipped, none[1] skipped, after skipped
