# An output that cannot be evaluated fails the run: it is never silently empty.
tasks:
  a:
output: "{{ tasks.a.output.rows }}"
====
start
    1 run.created
    owed: launch a#1
a succeeds {"row": 1}
    2 task.succeeded a #1 output={"row": 1}
    3 run.finished state="failed" failure=template (the workflow's output: cannot evaluate '{{ tasks.a.output.rows }}': 'rows' is not in tasks.a.output, which has: row; did you mean 'row'?)
    owed: nothing
