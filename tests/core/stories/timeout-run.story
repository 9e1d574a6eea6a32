# The run's bound counts from its creation. What is under way is stopped first; then the run has failed.
timeout: 60
tasks:
  a:
  b: [a]
  c:
====
start
    1 run.created
    owed: launch a#1, launch c#1, timer run 60s
a launched
    nothing follows
at +60s
    nothing follows
run timeout
    2 run.cancel_requested reason="the run took longer than its bound of 60 s" timed_out
    3 task.cancelled b
    4 task.cancelled c
    owed: nothing
a stopped
    5 task.cancelled a #1
    6 run.finished state="failed" failure=run_timeout (the run took longer than its bound of 60 s)
states
    run failed: a cancelled, b cancelled, c cancelled
at +40s
    nothing follows
retry
    7 run.retried tasks=["a", "b", "c"]
    owed: launch a#1, launch c#1, timer run 160s
