# All have ended, none failed: skipped.
tasks:
  one:
  two:
  three:
  t: {needs: [one, two, three], trigger: one_failed}
====
start
    1 run.created
    owed: launch one#1, launch two#1, launch three#1
one succeeds
    2 task.succeeded one #1
    owed: launch two#1, launch three#1
two succeeds
    3 task.succeeded two #1
    owed: launch three#1
three skips no
    4 task.skipped three #1 reason="no"
    5 task.skipped t reason="trigger rule one_failed cannot be met"
    6 run.finished state="succeeded" output={}
    owed: nothing
states
    run succeeded: one succeeded, two succeeded, three skipped, t skipped
