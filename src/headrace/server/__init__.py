"""What a node serves over HTTP: workers without database access, administrators, and whether it is healthy.

:mod:`.desk` is what it does for workers, :mod:`.admin` what for administrators, :mod:`.app` the HTTP around both,
:mod:`.problems` its refusals, :mod:`.door` and :mod:`.tokens` who may come in, and :mod:`.listener` the socket.
"""
