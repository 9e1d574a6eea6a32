# 2 x 1, 1, 2, 3, 5, 8.
tasks:
  a: {retries: {attempts: 7, backoff: fibonacci, initial: 2, jitter: none}}
====
start
    1 run.created
    owed: launch a#1
a fails ValueError
    2 attempt.failed a #1 retry_at=2.0 failure=ValueError
    owed: launch a#2 at 2s
a fails ValueError
    3 attempt.failed a #2 retry_at=2.0 failure=ValueError
    owed: launch a#3 at 2s
a fails ValueError
    4 attempt.failed a #3 retry_at=4.0 failure=ValueError
    owed: launch a#4 at 4s
a fails ValueError
    5 attempt.failed a #4 retry_at=6.0 failure=ValueError
    owed: launch a#5 at 6s
a fails ValueError
    6 attempt.failed a #5 retry_at=10.0 failure=ValueError
    owed: launch a#6 at 10s
a fails ValueError
    7 attempt.failed a #6 retry_at=16.0 failure=ValueError
    owed: launch a#7 at 16s
a fails ValueError
    8 task.failed a #7 failure=ValueError
    9 run.finished state="failed" failed_task="a" failure=ValueError
    owed: nothing
states
    run failed: a failed
