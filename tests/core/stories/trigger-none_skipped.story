# Runs when all have ended and none was skipped; failures are fine.
tasks:
  one:
  two:
  three:
  t: {needs: [one, two, three], trigger: none_skipped}
====
start
    1 run.created
    owed: launch one#1, launch two#1, launch three#1
one fails ValueError
    2 task.failed one #1 failure=ValueError
    owed: launch two#1, launch three#1
two succeeds
    3 task.succeeded two #1
    owed: launch three#1
three succeeds
    4 task.succeeded three #1
    owed: launch t#1
t succeeds
    5 task.succeeded t #1
    6 run.finished state="failed" failed_task="one" failure=ValueError
    owed: nothing
states
    run failed: one failed, two succeeded, three succeeded, t succeeded
