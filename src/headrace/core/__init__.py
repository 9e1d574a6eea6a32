"""The pure core: what a run is, and what happens next. No I/O, no clock, no event loop.

Reading order: :mod:`~headrace.core.spec` (what users define), :mod:`~headrace.core.states` (the transition
tables), :mod:`~headrace.core.events` (the stored facts), :mod:`~headrace.core.fold` (facts to state),
:mod:`~headrace.core.decide` (input to facts), :mod:`~headrace.core.effects` (what is still owed).
"""
