"""A node that stays: what ``headrace up`` is made of, for programs too.

- :mod:`.host` serves one configuration with one engine, takes over changes, and stops in order.
- :mod:`.files` finds the workflow files; :mod:`.watch` sees them change.
- :mod:`.status` says beside the data what a running node goes by; :mod:`.notify` tells the service manager.
- :mod:`.supervisor` keeps several such processes up on one host; :mod:`.lifeline` ties them to it.
"""
