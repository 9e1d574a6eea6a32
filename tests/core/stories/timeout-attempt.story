# An attempt that runs too long is a failure like others: tried again if attempts are left.
tasks:
  a: {timeouts: {attempt: 5}, retries: {attempts: 2, backoff: fixed, initial: 1, jitter: none}}
====
start
    1 run.created
    owed: launch a#1
at +5s
    nothing follows
a fails timeout
    2 attempt.failed a #1 retry_at=6.0 failure=timeout
    owed: launch a#2 at 6s
at +1s
    nothing follows
a fails timeout
    3 task.failed a #2 failure=timeout
    4 run.finished state="failed" failed_task="a" failure=timeout
    owed: nothing
