# Runs when all were skipped.
tasks:
  one:
  two:
  three:
  t: {needs: [one, two, three], trigger: all_skipped}
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
    owed: launch t#1
t succeeds
    5 task.succeeded t #1
    6 run.finished state="succeeded" output={"t": null}
    owed: nothing
states
    run succeeded: one skipped, two skipped, three skipped, t succeeded
