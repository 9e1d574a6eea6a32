"""The living node: one file per duty.

:mod:`~headrace.engine.node` ties them together; :mod:`~headrace.engine.journal` makes events durable in groups;
:mod:`~headrace.engine.planner` lets ready attempts through their limits; :mod:`~headrace.engine.launcher` carries them
out; :mod:`~headrace.engine.adopter` takes runs over; :mod:`~headrace.engine.commander` applies what arrives in the inbox;
:mod:`~headrace.engine.keeper` keeps the node's lease and its locks (:mod:`~headrace.engine.holding`);
:mod:`~headrace.engine.leader` elects one node that alone looks for lost nodes (:mod:`~headrace.engine.watchdog`) and
enforces retention (:mod:`~headrace.engine.janitor`).
"""
