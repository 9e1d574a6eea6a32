"""What a server and the users of its HTTP API say to each other about runs and workflows.

:mod:`.requests` is what they ask, :mod:`.answers` what they hear, :mod:`.bounds` how much of it there may be. The server
checks requests with these types, the client over HTTP reads answers with them, and ``docs/reference/openapi.json`` is
made from them.
"""
