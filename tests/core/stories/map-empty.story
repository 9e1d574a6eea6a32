# An empty list is no failure: the task succeeds with an empty output in the commit that learns of it.
tasks:
  list:
  each: {map: "{{ tasks.list.output }}"}
  join: [each]
====
start
    1 run.created
    owed: launch list#1
list succeeds []
    2 task.succeeded list #1 output=[]
    3 task.mapped each items=[]
    owed: launch join#1
join succeeds
    4 task.succeeded join #1
    5 run.finished state="succeeded" output={"join": null}
    owed: nothing
states
    run succeeded: list succeeded, each succeeded, join succeeded
