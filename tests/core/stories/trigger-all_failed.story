# Runs when all failed; the first success decides against it at once.
tasks:
  one:
  two:
  three:
  t: {needs: [one, two, three], trigger: all_failed}
====
start
    1 run.created
    owed: launch one#1, launch two#1, launch three#1
one fails ValueError
    2 task.failed one #1 failure=ValueError
    owed: launch two#1, launch three#1
two fails ValueError
    3 task.failed two #1 failure=ValueError
    owed: launch three#1
three fails ValueError
    4 task.failed three #1 failure=ValueError
    owed: launch t#1
t succeeds
    5 task.succeeded t #1
    6 run.finished state="failed" failed_task="one" failure=ValueError
    owed: nothing
states
    run failed: one failed, two failed, three failed, t succeeded
