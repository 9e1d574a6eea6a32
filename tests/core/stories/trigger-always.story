# Needs nothing but to be there: runs at once.
tasks:
  one:
  two:
  three:
  t: {needs: [one, two, three], trigger: always}
====
start
    1 run.created
    owed: launch one#1, launch two#1, launch three#1, launch t#1
t succeeds
    2 task.succeeded t #1
    owed: launch one#1, launch two#1, launch three#1
one succeeds
    3 task.succeeded one #1
    owed: launch two#1, launch three#1
two fails ValueError
    4 task.failed two #1 failure=ValueError
    owed: launch three#1
three succeeds
    5 task.succeeded three #1
    6 run.finished state="failed" failed_task="two" failure=ValueError
    owed: nothing
states
    run failed: one succeeded, two failed, three succeeded, t succeeded
