"""The client over HTTP: what a program or the CLI asks of a server instead of a store.

:mod:`.client` is what can be asked, with the same names, handles and errors as in process; :mod:`.connecting` the door,
:mod:`.handle` one run, :mod:`.naming` what a request may name; :mod:`.link` the requests and what becomes of refusals;
:mod:`.stream` a run's events as they happen; :mod:`.parse` documents as the types that the client in process returns.
"""
