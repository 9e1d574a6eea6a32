# The first skip decides against it at once.
tasks:
  one:
  two:
  three:
  t: {needs: [one, two, three], trigger: none_skipped}
====
start
    1 run.created
    owed: launch one#1, launch two#1, launch three#1
one skips no
    2 task.skipped one #1 reason="no"
    3 task.skipped t reason="trigger rule none_skipped cannot be met"
    owed: launch two#1, launch three#1
two succeeds
    4 task.succeeded two #1
    owed: launch three#1
three succeeds
    5 task.succeeded three #1
    6 run.finished state="succeeded" output={}
    owed: nothing
states
    run succeeded: one skipped, two succeeded, three succeeded, t skipped
