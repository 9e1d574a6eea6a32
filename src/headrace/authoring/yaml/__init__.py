"""Workflows in YAML or JSON.

- :mod:`~headrace.authoring.yaml.reader`: text to plain data, bounded, without YAML 1.1's surprises.
- :mod:`~headrace.authoring.yaml.locate`: from a path in that data back to line and column.
- :mod:`~headrace.authoring.yaml.fields`: every key there is, its type, its meaning; the editor schema comes from it.
- :mod:`~headrace.authoring.yaml.shape`: plain data to a workflow specification, all problems at once.
- :mod:`~headrace.authoring.yaml.load`: all of it together.
- :mod:`~headrace.authoring.yaml.writer`: a specification back to readable YAML.
"""
