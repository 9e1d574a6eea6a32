"""``headrace bench``: what the engine does on this machine, beside what the machine could do at best.

Absolute figures of two machines, or of one machine on two days, say little. So every workload is measured between two
measurements of the *raw limits* it lives under (a bare commit, a bare hop of the event loop, a bare process), in the same
process and on the same disk, and shown as a ratio to them. ``raw`` measures the limits (``raw_postgres`` and
``raw_mysql`` those of PostgreSQL and MySQL), ``tasks`` holds the functions the workloads run, ``workloads`` the
workloads, ``huge`` the one that has a process of its own; ``places`` keeps the databases, ``report`` makes the output.
"""
