# A wait for a retry is not lost with its process.
tasks:
  a: {retries: {attempts: 2, backoff: fixed, initial: 60, jitter: none}}
====
start
    1 run.created
    owed: launch a#1
a fails ValueError
    2 attempt.failed a #1 retry_at=60.0 failure=ValueError
    owed: launch a#2 at 60s
at +30s
    nothing follows
crash
    nothing follows
at +30s
    nothing follows
a succeeds
    3 task.succeeded a #2
    4 run.finished state="succeeded" output={"a": null}
    owed: nothing
