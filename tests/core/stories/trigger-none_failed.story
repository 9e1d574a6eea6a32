# Waits for all and runs if none failed; skips are fine.
tasks:
  one:
  two:
  three:
  t: {needs: [one, two, three], trigger: none_failed}
====
start
    1 run.created
    owed: launch one#1, launch two#1, launch three#1
one skips not today
    2 task.skipped one #1 reason="not today"
    owed: launch two#1, launch three#1
two succeeds
    3 task.succeeded two #1
    owed: launch three#1
three succeeds
    4 task.succeeded three #1
    owed: launch t#1
t succeeds
    5 task.succeeded t #1
    6 run.finished state="succeeded" output={"t": null}
    owed: nothing
states
    run succeeded: one skipped, two succeeded, three succeeded, t succeeded
