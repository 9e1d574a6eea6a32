# All have ended, none succeeded: upstream_failed.
tasks:
  one:
  two:
  three:
  t: {needs: [one, two, three], trigger: one_success}
====
start
    1 run.created
    owed: launch one#1, launch two#1, launch three#1
one fails ValueError
    2 task.failed one #1 failure=ValueError
    owed: launch two#1, launch three#1
two skips not today
    3 task.skipped two #1 reason="not today"
    owed: launch three#1
three fails ValueError
    4 task.failed three #1 failure=ValueError
    5 task.upstream_failed t
    6 run.finished state="failed" failed_task="one" failure=ValueError
    owed: nothing
states
    run failed: one failed, two skipped, three failed, t upstream_failed
