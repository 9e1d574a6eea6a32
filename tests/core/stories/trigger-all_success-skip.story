# A skip skips it at once.
tasks:
  one:
  two:
  three:
  t: {needs: [one, two, three], trigger: all_success}
====
start
    1 run.created
    owed: launch one#1, launch two#1, launch three#1
two skips not today
    2 task.skipped two #1 reason="not today"
    3 task.skipped t reason="trigger rule all_success cannot be met"
    owed: launch one#1, launch three#1
one succeeds
    4 task.succeeded one #1
    owed: launch three#1
three succeeds
    5 task.succeeded three #1
    6 run.finished state="succeeded" output={}
    owed: nothing
states
    run succeeded: one succeeded, two skipped, three succeeded, t skipped
