# Fires with the first success or failure; a skip does not count.
tasks:
  one:
  two:
  three:
  t: {needs: [one, two, three], trigger: one_done}
====
start
    1 run.created
    owed: launch one#1, launch two#1, launch three#1
one skips not today
    2 task.skipped one #1 reason="not today"
    owed: launch two#1, launch three#1
two fails ValueError
    3 task.failed two #1 failure=ValueError
    owed: launch three#1, launch t#1
t succeeds
    4 task.succeeded t #1
    owed: launch three#1
three succeeds
    5 task.succeeded three #1
    6 run.finished state="failed" failed_task="two" failure=ValueError
    owed: nothing
states
    run failed: one skipped, two failed, three succeeded, t succeeded
