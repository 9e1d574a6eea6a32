# What failed and what did not run because of it runs again; what succeeded stays, the alert included.
tasks:
  a:
  b:
  c: [a, b]
  alert: {needs: [b], trigger: one_failed}
  end: {needs: [c], trigger: all_done}
====
start
    1 run.created
    owed: launch a#1, launch b#1
retry
    refused: run R cannot be retried: it has not ended (running)
a succeeds 1
    2 task.succeeded a #1 output=1
    owed: launch b#1
b fails ValueError
    3 task.failed b #1 failure=ValueError
    4 task.upstream_failed c
    owed: launch alert#1, launch end#1
alert succeeds
    5 task.succeeded alert #1
    owed: launch end#1
end succeeds
    6 task.succeeded end #1
    7 run.finished state="failed" failed_task="b" failure=ValueError
    owed: nothing
states
    run failed: a succeeded, b failed, c upstream_failed, alert succeeded, end succeeded
retry
    8 run.retried tasks=["b", "c"]
    owed: launch b#1
b succeeds 2
    9 task.succeeded b #1 output=2
    owed: launch c#1
c succeeds 3
    10 task.succeeded c #1 output=3
    11 run.finished state="succeeded" output={"alert": null, "end": null}
    owed: nothing
states
    run succeeded: a succeeded, b succeeded, c succeeded, alert succeeded, end succeeded
retry
    refused: run R cannot be retried: no task failed
