# Anything from half the delay to all of it, the same whoever computes it.
tasks:
  a: {retries: {attempts: 4, backoff: fixed, initial: 100, jitter: equal}}
====
start
    1 run.created
    owed: launch a#1
a fails ValueError
    2 attempt.failed a #1 retry_at=72.41691322900682 failure=ValueError
    owed: launch a#2 at 72.4169s
a fails ValueError
    3 attempt.failed a #2 retry_at=57.51653703439457 failure=ValueError
    owed: launch a#3 at 57.5165s
a fails ValueError
    4 attempt.failed a #3 retry_at=64.31640415032543 failure=ValueError
    owed: launch a#4 at 64.3164s
a fails ValueError
    5 task.failed a #4 failure=ValueError
    6 run.finished state="failed" failed_task="a" failure=ValueError
    owed: nothing
states
    run failed: a failed
