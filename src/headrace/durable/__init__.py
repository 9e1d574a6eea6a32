"""Workflows as durable code: ordinary ``async`` functions whose progress survives crashes.

The function runs on a deterministic event loop (:mod:`~headrace.durable.loop`). What it asks for (a task, a timer, a
child) becomes a command; what happens becomes an event. After a crash the function runs again from its start, and every
command is answered from the history until the point is reached where the process died: *replay*. The idea is
Temporal's and Cadence's; the event loop, the history and the engine are Headrace's own.

- :func:`workflow`: the decorator (:mod:`~headrace.durable.workflow`).
- :func:`wait_for_signal`, :func:`start_child`, :func:`patched`, ...: what code can ask for
  (:mod:`~headrace.durable.context`).
- :func:`saga`: steps with compensation (:mod:`~headrace.durable.saga`).
- :mod:`~headrace.durable.run`, :mod:`~headrace.durable.brain`: state, and the decisions of the second brain.
"""
