# Fires with the first success, without waiting for the rest.
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
two succeeds
    3 task.succeeded two #1
    owed: launch three#1, launch t#1
t succeeds
    4 task.succeeded t #1
    owed: launch three#1
three fails ValueError
    5 task.failed three #1 failure=ValueError
    6 run.finished state="failed" failed_task="one" failure=ValueError
    owed: nothing
states
    run failed: one failed, two succeeded, three failed, t succeeded
