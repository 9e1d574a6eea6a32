# Without a template: the outputs of the tasks nobody needs, as far as they succeeded.
tasks:
  a:
  b: [a]
  c: [a]
  d: {needs: [a], when: "{{ false }}"}
====
start
    1 run.created
    owed: launch a#1
a succeeds 1
    2 task.succeeded a #1 output=1
    3 task.skipped d reason="condition is false: {{ false }}"
    owed: launch b#1, launch c#1
c succeeds 3
    4 task.succeeded c #1 output=3
    owed: launch b#1
b succeeds 2
    5 task.succeeded b #1 output=2
    6 run.finished state="succeeded" output={"b": 2, "c": 3}
    owed: nothing
