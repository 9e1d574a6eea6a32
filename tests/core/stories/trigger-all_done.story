# Waits for all, however they end.
tasks:
  one:
  two:
  three:
  t: {needs: [one, two, three], trigger: all_done}
====
start
    1 run.created
    owed: launch one#1, launch two#1, launch three#1
one fails ValueError
    2 task.failed one #1 failure=ValueError
    owed: launch two#1, launch three#1
two skips nothing to do
    3 task.skipped two #1 reason="nothing to do"
    owed: launch three#1
three succeeds
    4 task.succeeded three #1
    owed: launch t#1
t succeeds
    5 task.succeeded t #1
    6 run.finished state="failed" failed_task="one" failure=ValueError
    owed: nothing
states
    run failed: one failed, two skipped, three succeeded, t succeeded
