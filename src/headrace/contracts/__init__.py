"""What the engine asks of the world, as protocols. Backends implement them; ``headrace.testing`` holds the
conformance suites that every implementation passes.

- :mod:`~headrace.contracts.store`: history (the truth), leases, inbox, catalog.
- :mod:`~headrace.contracts.execution`: task kinds, bound tasks, executors, attempt logs.
- :mod:`~headrace.contracts.artifacts`: large values and files, content-addressed.
"""
