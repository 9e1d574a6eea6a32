"""The HTTP API for runs and workflows.

:mod:`.endpoint` is what one path is: who may ask, what with, and what is answered. :mod:`.runs_read`, :mod:`.runs_start`,
:mod:`.runs_command`, :mod:`.messages`, :mod:`.attempts`, :mod:`.workflows` and :mod:`.cluster` are the paths,
:mod:`.table` all of them; :mod:`.routes` serves the table and :mod:`.openapi` describes it. :mod:`.service` is what the
paths share: the client, and how many may ask at once. :mod:`.events` is the one path that is a stream, :mod:`.refusals`
what everybody hears whose request cannot be done.

Nothing is remembered here: a run is started, commanded and watched through the node's client, which reaches runs of other
nodes through the store, so any node answers for any run.
"""
