# Anything else than a list or a mapping fails the task, with what was found.
tasks:
  list:
  each: {map: "{{ tasks.list.output }}"}
====
start
    1 run.created
    owed: launch list#1
list succeeds "abc"
    2 task.succeeded list #1 output="abc"
    3 task.failed each failure=template (map needs a list, got str: {{ tasks.list.output }})
    4 run.finished state="failed" failed_task="each" failure=template (map needs a list, got str: {{ tasks.list.output }})
    owed: nothing
