# As none_failed, but skipped when everything was skipped.
tasks:
  one:
  two:
  three:
  t: {needs: [one, two, three], trigger: none_failed_min_one_success}
====
start
    1 run.created
    owed: launch one#1, launch two#1, launch three#1
one skips not today
    2 task.skipped one #1 reason="not today"
    owed: launch two#1, launch three#1
two skips not today
    3 task.skipped two #1 reason="not today"
    owed: launch three#1
three skips not today
    4 task.skipped three #1 reason="not today"
    5 task.skipped t reason="trigger rule none_failed_min_one_success cannot be met"
    6 run.finished state="succeeded" output={}
    owed: nothing
states
    run succeeded: one skipped, two skipped, three skipped, t skipped
