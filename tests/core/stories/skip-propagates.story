# A skipped task skips what needs it (all_success), but not what asks for none_failed or all_done.
tasks:
  a: {when: "{{ params.go }}"}
  b: [a]
  c: {needs: [a, x], trigger: none_failed}
  d: {needs: [a], trigger: all_done}
  e: {needs: [a, x], trigger: none_failed_min_one_success}
  x:
params: {go: {type: bool}}
====
start {"go": false}
    1 run.created
    2 task.skipped a reason="condition is false: {{ params.go }}"
    3 task.skipped b reason="trigger rule all_success cannot be met"
    owed: launch d#1, launch x#1
x succeeds
    4 task.succeeded x #1
    owed: launch c#1, launch d#1, launch e#1
d succeeds
    5 task.succeeded d #1
    owed: launch c#1, launch e#1
c succeeds
    6 task.succeeded c #1
    owed: launch e#1
e succeeds
    7 task.succeeded e #1
    8 run.finished state="succeeded" output={"c": null, "d": null, "e": null}
    owed: nothing
states
    run succeeded: a skipped, b skipped, c succeeded, d succeeded, e succeeded, x succeeded
