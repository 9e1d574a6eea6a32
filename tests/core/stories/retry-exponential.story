# 1, 3, 9, then max_delay.
tasks:
  a: {retries: {attempts: 6, backoff: exponential, initial: 1, factor: 3, max_delay: 20, jitter: none}}
====
start
    1 run.created
    owed: launch a#1
a fails ValueError
    2 attempt.failed a #1 retry_at=1.0 failure=ValueError
    owed: launch a#2 at 1s
a fails ValueError
    3 attempt.failed a #2 retry_at=3.0 failure=ValueError
    owed: launch a#3 at 3s
a fails ValueError
    4 attempt.failed a #3 retry_at=9.0 failure=ValueError
    owed: launch a#4 at 9s
a fails ValueError
    5 attempt.failed a #4 retry_at=20.0 failure=ValueError
    owed: launch a#5 at 20s
a fails ValueError
    6 attempt.failed a #5 retry_at=20.0 failure=ValueError
    owed: launch a#6 at 20s
a fails ValueError
    7 task.failed a #6 failure=ValueError
    8 run.finished state="failed" failed_task="a" failure=ValueError
    owed: nothing
states
    run failed: a failed
