# Anything from 0 to the delay, the same whoever computes it.
tasks:
  a: {retries: {attempts: 4, backoff: fixed, initial: 100, jitter: full}}
====
start
    1 run.created
    owed: launch a#1
a fails ValueError
    2 attempt.failed a #1 retry_at=44.83382645801365 failure=ValueError
    owed: launch a#2 at 44.8338s
a fails ValueError
    3 attempt.failed a #2 retry_at=15.033074068789121 failure=ValueError
    owed: launch a#3 at 15.0331s
a fails ValueError
    4 attempt.failed a #3 retry_at=28.632808300650847 failure=ValueError
    owed: launch a#4 at 28.6328s
a fails ValueError
    5 task.failed a #4 failure=ValueError
    6 run.finished state="failed" failed_task="a" failure=ValueError
    owed: nothing
states
    run failed: a failed
