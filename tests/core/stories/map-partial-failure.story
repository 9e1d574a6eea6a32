# One item fails: the others go on, the task fails when the last has ended, and only then what needs it is told.
tasks:
  each: {map: [1, 2, 3]}
  join: [each]
  clean: {needs: [each], trigger: all_done}
====
start
    1 run.created
    2 task.mapped each items=[1, 2, 3]
    owed: launch each[0]#1, launch each[1]#1, launch each[2]#1
each[1] fails ValueError
    3 task.failed each[1] #1 failure=ValueError
    owed: launch each[0]#1, launch each[2]#1
each[0] succeeds 1
    4 task.succeeded each[0] #1 output=1
    owed: launch each[2]#1
each[2] succeeds 3
    5 task.succeeded each[2] #1 output=3
    6 task.upstream_failed join
    owed: launch clean#1
clean succeeds
    7 task.succeeded clean #1
    8 run.finished state="failed" failed_task="each" failure=ValueError
    owed: nothing
states
    run failed: each failed, each[0] succeeded, each[1] failed, each[2] succeeded, join upstream_failed, clean succeeded
