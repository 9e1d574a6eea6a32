# All skipped: skipped.
tasks:
  one:
  two:
  three:
  t: {needs: [one, two, three], trigger: one_success}
====
start
    1 run.created
    owed: launch one#1, launch two#1, launch three#1
one skips no
    2 task.skipped one #1 reason="no"
    owed: launch two#1, launch three#1
two skips no
    3 task.skipped two #1 reason="no"
    owed: launch three#1
three skips no
    4 task.skipped three #1 reason="no"
    5 task.skipped t reason="trigger rule one_success cannot be met"
    6 run.finished state="succeeded" output={}
    owed: nothing
states
    run succeeded: one skipped, two skipped, three skipped, t skipped
