# The run's output is what the template says, its native type kept.
params: {n: {type: int}}
tasks:
  a:
  b: [a]
output: {total: "{{ tasks.b.output.sum + params.n }}", text: "n={{ params.n }}"}
====
start {"n": 5}
    1 run.created
    owed: launch a#1
a succeeds
    2 task.succeeded a #1
    owed: launch b#1
b succeeds {"sum": 37}
    3 task.succeeded b #1 output={"sum": 37}
    4 run.finished state="succeeded" output={"total": 42, "text": "n=5"}
    owed: nothing
