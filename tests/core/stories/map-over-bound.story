# A list over max_items fails the task; it is never cut.
tasks:
  list:
  each: {map: "{{ tasks.list.output }}", max_items: 2}
====
start
    1 run.created
    owed: launch list#1
list succeeds [1, 2, 3]
    2 task.succeeded list #1 output=[1, 2, 3]
    3 task.failed each failure=map_too_large (map has 3 items, more than the bound of 2; raise max_items to allow it)
    4 run.finished state="failed" failed_task="each" failure=map_too_large (map has 3 items, more than the bound of 2; raise max_items to allow it)
    owed: nothing
states
    run failed: list succeeded, each failed
