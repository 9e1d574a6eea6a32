# The condition of a mapped task is decided once, before the list.
params: {go: {type: bool}}
tasks:
  each: {map: [1, 2], when: "{{ params.go }}"}
====
start {"go": false}
    1 run.created
    2 task.skipped each reason="condition is false: {{ params.go }}"
    3 run.finished state="succeeded" output={}
start {"go": true}
    1 run.created
    2 task.mapped each items=[1, 2]
    owed: launch each[0]#1, launch each[1]#1
