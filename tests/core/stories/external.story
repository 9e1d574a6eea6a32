# An attempt whose outcome comes from outside: nobody launches it again, word of an attempt that is over is refused.
tasks:
  a: {retries: {attempts: 2, backoff: fixed, initial: 1, jitter: none}}
  b: {needs: [a]}
  m: {map: [1, 2], at_most_once: true}
====
start
    1 run.created
    2 task.mapped m items=[1, 2]
    owed: launch a#1, launch m[0]#1, launch m[1]#1
a launched
    nothing follows
a handed-over
    3 task.started a #1 external
    owed: launch m[0]#1, launch m[1]#1
m[0] started
    4 task.started m[0] #1
m[0] handed-over
    5 task.started m[0] #1 external
    owed: launch m[1]#1
m[1] started
    6 task.started m[1] #1
crash
    7 task.failed m[1] #1 failure=lost (the process ended before the outcome was known, and an at-most-once task is never run again)
    owed: nothing
a told-beat 4
    8 task.heartbeat a #1 details=4
a#2 told 1
    refused: attempt 2 of task a in run R takes no more word from outside: attempt 1 is under way by now
a told-failure ConnectionError
    9 attempt.failed a #1 retry_at=1.0 failure=ConnectionError
    owed: launch a#2 at 1s
a#1 told 1
    refused: attempt 1 of task a in run R takes no more word from outside: attempt 2 is under way by now
a#1 told-beat 5
    refused: attempt 1 of task a in run R takes no more word from outside: attempt 2 is under way by now
at +1s
    nothing follows
a launched
    nothing follows
a handed-over
    10 task.started a #2 external
    owed: nothing
a told [1]
    11 task.succeeded a #2 output=[1]
    owed: launch b#1
a#2 told [2]
    refused: attempt 2 of task a in run R takes no more word from outside: the task is succeeded
m told 1
    refused: attempt 1 of task m in run R takes no more word from outside: attempt 1 is under way by now
m[0] told "yes"
    12 task.succeeded m[0] #1 output="yes"
b told-failure ValueError permanent
    13 task.failed b #1 failure=ValueError
    14 run.finished state="failed" failed_task="m" failure=lost (the process ended before the outcome was known, and an at-most-once task is never run again)
    owed: nothing
b told 1
    refused: attempt 2 of task b in run R takes no more word from outside: the task is failed
states
    run failed: a succeeded, b failed, m failed, m[0] succeeded, m[1] failed
