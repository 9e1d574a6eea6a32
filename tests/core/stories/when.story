# A condition is decided when its task's turn comes: on parameters, outputs, states. False skips; a bad one fails.
params: {limit: {type: int, default: 3}}
tasks:
  a:
  enough: {when: "{{ tasks.a.output | length >= params.limit }}"}
  few: {when: "{{ tasks.a.output | length < params.limit }}"}
  state: {needs: [a], when: "{{ tasks.a.state == 'succeeded' }}"}
  odd: {needs: [a], when: "{{ tasks.a.output.nothing_here }}"}
====
start {"limit": 3}
    1 run.created
    owed: launch a#1
a succeeds [1, 2]
    2 task.succeeded a #1 output=[1, 2]
    3 task.skipped enough reason="condition is false: {{ tasks.a.output | length >= params.limit }}"
    4 task.ready few
    5 task.ready state
    6 task.failed odd failure=template (cannot evaluate '{{ tasks.a.output.nothing_here }}': tasks.a.output is of type list, which has no 'nothing_here')
    owed: launch few#1, launch state#1
few succeeds
    7 task.succeeded few #1
    owed: launch state#1
state succeeds
    8 task.succeeded state #1
    9 run.finished state="failed" failed_task="odd" failure=template (cannot evaluate '{{ tasks.a.output.nothing_here }}': tasks.a.output is of type list, which has no 'nothing_here')
    owed: nothing
states
    run failed: a succeeded, enough skipped, few succeeded, state succeeded, odd failed
