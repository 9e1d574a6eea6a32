# Every item has its own attempts and its own delays.
tasks:
  each: {map: [1, 2], retries: {attempts: 2, backoff: fixed, initial: 10, jitter: none}}
====
start
    1 run.created
    2 task.mapped each items=[1, 2]
    owed: launch each[0]#1, launch each[1]#1
each[0] fails ValueError
    3 attempt.failed each[0] #1 retry_at=10.0 failure=ValueError
    owed: launch each[0]#2 at 10s, launch each[1]#1
at +3s
    nothing follows
each[1] fails ValueError
    4 attempt.failed each[1] #1 retry_at=13.0 failure=ValueError
    owed: launch each[0]#2 at 10s, launch each[1]#2 at 13s
at +7s
    nothing follows
each[0] succeeds "a"
    5 task.succeeded each[0] #2 output="a"
    owed: launch each[1]#2 at 13s
each[1] fails ValueError
    6 task.failed each[1] #2 failure=ValueError
    7 run.finished state="failed" failed_task="each" failure=ValueError
    owed: nothing
states
    run failed: each failed, each[0] succeeded, each[1] failed
