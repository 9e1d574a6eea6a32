"""What a node serves over HTTP: workers without database access, and whether it is healthy.

:mod:`.desk` is what it does for workers, :mod:`.app` the HTTP around it, :mod:`.tokens` who may come in, and
:mod:`.listener` the socket.
"""
