"""The living node: one file per duty.

:mod:`~headrace.engine.node` ties them together; :mod:`~headrace.engine.journal` makes events durable in groups;
:mod:`~headrace.engine.planner` lets ready attempts through their limits; :mod:`~headrace.engine.launcher` carries them
out; :mod:`~headrace.engine.adopter` takes runs over; :mod:`~headrace.engine.commander` applies what arrives in the inbox;
:mod:`~headrace.engine.keeper` keeps the node's lease; :mod:`~headrace.engine.janitor` enforces retention.
"""
