# The bound of a whole task counts from first ready, retries and waits included, and is not retried.
tasks:
  first:
  a: {needs: [first], timeouts: {task: 10}, retries: {attempts: 3, backoff: fixed, initial: 4, jitter: none}}
  b: [a]
====
start
    1 run.created
    owed: launch first#1
at +100s
    nothing follows
first succeeds
    2 task.succeeded first #1
    owed: launch a#1, timer task a 110s
a fails ValueError
    3 attempt.failed a #1 retry_at=104.0 failure=ValueError
    owed: launch a#2 at 104s, timer task a 110s
at +10s
    nothing follows
task timeout a
    4 task.failed a #1 failure=task_timeout (the task took longer than its bound of 10 s)
    5 task.upstream_failed b
    6 run.finished state="failed" failed_task="a" failure=task_timeout (the task took longer than its bound of 10 s)
    owed: nothing
# What the attempt under way says now is late.
a#2 succeeds
    nothing follows
states
    run failed: first succeeded, a failed, b upstream_failed
