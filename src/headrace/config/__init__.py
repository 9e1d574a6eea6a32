"""What a node goes by: one file, the environment and the command line, typed and checked.

- :mod:`.settings` declares every key; :mod:`.keys` makes a table of them and reads values.
- :mod:`.load` puts file, environment and command line together; :mod:`.toml_places` finds lines and columns.
- :mod:`.describe` makes the reference page, the JSON Schema and ``headrace config show`` of the same declaration.
- :mod:`.changes` says what differs between two configurations, and what of it can change while a node is up.
"""
