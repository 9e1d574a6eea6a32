# Waiting too long for a slot fails the task for good: a retry would wait as well. It never started.
tasks:
  a: {timeouts: {queue: 5}, retries: {attempts: 3}}
====
start
    1 run.created
    owed: launch a#1
at +5s
    nothing follows
a fails queue_timeout
    2 task.failed a #1 failure=queue_timeout
    3 run.finished state="failed" failed_task="a" failure=queue_timeout
    owed: nothing
