# Nothing is under way: the run is cancelled in one commit.
tasks:
  a: {retries: {attempts: 2, backoff: fixed, initial: 9, jitter: none}}
  b: [a]
  c: {map: [1, 2]}
====
start
    1 run.created
    2 task.mapped c items=[1, 2]
    owed: launch a#1, launch c[0]#1, launch c[1]#1
a fails ValueError
    3 attempt.failed a #1 retry_at=9.0 failure=ValueError
    owed: launch a#2 at 9s, launch c[0]#1, launch c[1]#1
c[0] succeeds
    4 task.succeeded c[0] #1
    owed: launch a#2 at 9s, launch c[1]#1
cancel no longer needed
    5 run.cancel_requested reason="no longer needed"
    6 task.cancelled a #1
    7 task.cancelled b
    8 task.cancelled c[1]
    9 run.finished state="cancelled"
    owed: nothing
states
    run cancelled: a cancelled, b cancelled, c cancelled, c[0] succeeded, c[1] cancelled
cancel
    refused: run R cannot be cancelled: it has ended (cancelled)
