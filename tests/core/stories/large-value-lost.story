# A large value that cannot be read fails what needs it, with the reason.
tasks:
  a:
  b: {needs: [a], when: "{{ tasks.a.output | length > 1 }}"}
====
start
    1 run.created
    owed: launch a#1
a succeeds {"$ref": "d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1", "bytes": 99999}
    2 task.succeeded a #1 output={"$ref": "d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1", "bytes": 99999}
    owed: load d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1
lost d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1 the artifact d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1 is not in the store
    3 task.failed b failure=template (an output cannot be read: the artifact d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1 is not in the store)
    4 run.finished state="failed" failed_task="b" failure=template (an output cannot be read: the artifact d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1 is not in the store)
    owed: nothing
states
    run failed: a succeeded, b failed
