# The same delay each time; the last failure is final.
tasks:
  a: {retries: {attempts: 4, backoff: fixed, initial: 5, jitter: none}}
====
start
    1 run.created
    owed: launch a#1
a fails ValueError
    2 attempt.failed a #1 retry_at=5.0 failure=ValueError
    owed: launch a#2 at 5s
a fails ValueError
    3 attempt.failed a #2 retry_at=5.0 failure=ValueError
    owed: launch a#3 at 5s
a fails ValueError
    4 attempt.failed a #3 retry_at=5.0 failure=ValueError
    owed: launch a#4 at 5s
a fails ValueError
    5 task.failed a #4 failure=ValueError
    6 run.finished state="failed" failed_task="a" failure=ValueError
    owed: nothing
states
    run failed: a failed
