# While a run is paused, attempts under way go on and decisions are made, but nothing is launched.
tasks:
  a:
  b: [a]
  c: {needs: [a], when: "{{ true }}"}
====
start
    1 run.created
    owed: launch a#1
a launched
    nothing follows
pause for a look
    2 run.paused reason="for a look"
    owed: nothing
a succeeds
    3 task.succeeded a #1
    4 task.ready c
pause
    nothing follows
resume
    5 run.resumed
    owed: launch b#1, launch c#1
resume
    nothing follows
b succeeds
    6 task.succeeded b #1
    owed: launch c#1
c succeeds
    7 task.succeeded c #1
    8 run.finished state="succeeded" output={"b": null, "c": null}
    owed: nothing
resume
    refused: run R cannot be resumed: it has ended (succeeded)
pause
    refused: run R cannot be paused: it is succeeded
