# Details of heartbeats are kept for the next attempt, also across a crash; a bare one changes nothing.
tasks:
  a: {retries: {attempts: 3, backoff: fixed, initial: 1, jitter: none}}
====
start
    1 run.created
    owed: launch a#1
a launched
    nothing follows
a started
    2 task.started a #1
a beats {"row": 3}
    3 task.heartbeat a #1 details={"row": 3}
at +2s
    nothing follows
a beats
    4 task.heartbeat a #1
crash
    nothing follows
a launched
    nothing follows
a#1 fails heartbeat_timeout
    5 attempt.failed a #1 retry_at=3.0 details={"row": 3} failure=heartbeat_timeout
    owed: launch a#2 at 3s
a#1 beats 9
    nothing follows
at +1s
    nothing follows
a launched
    nothing follows
a fails ValueError
    6 attempt.failed a #2 retry_at=4.0 failure=ValueError
    owed: launch a#3 at 4s
at +1s
    nothing follows
a launched
    nothing follows
a beats 5
    7 task.heartbeat a #3 details=5
a succeeds
    8 task.succeeded a #3
    9 run.finished state="succeeded" output={"a": null}
    owed: nothing
states
    run succeeded: a succeeded
