# Of a mapped task only the items run again that did not succeed.
tasks:
  each: {map: [1, 2, 3]}
  join: [each]
====
start
    1 run.created
    2 task.mapped each items=[1, 2, 3]
    owed: launch each[0]#1, launch each[1]#1, launch each[2]#1
each[0] succeeds 10
    3 task.succeeded each[0] #1 output=10
    owed: launch each[1]#1, launch each[2]#1
each[1] fails ValueError
    4 task.failed each[1] #1 failure=ValueError
    owed: launch each[2]#1
each[2] skips not today
    5 task.skipped each[2] #1 reason="not today"
    6 task.upstream_failed join
    7 run.finished state="failed" failed_task="each" failure=ValueError
    owed: nothing
states
    run failed: each failed, each[0] succeeded, each[1] failed, each[2] skipped, join upstream_failed
retry
    8 run.retried tasks=["each", "join"]
    owed: launch each[1]#1, launch each[2]#1
each[1] succeeds 20
    9 task.succeeded each[1] #1 output=20
    owed: launch each[2]#1
each[2] succeeds 30
    10 task.succeeded each[2] #1 output=30
    owed: launch join#1
join succeeds
    11 task.succeeded join #1
    12 run.finished state="succeeded" output={"join": null}
    owed: nothing
states
    run succeeded: each succeeded, each[0] succeeded, each[1] succeeded, each[2] succeeded, join succeeded
