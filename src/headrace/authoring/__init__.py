"""Ways to write a workflow. Every one of them ends in the same validated specification.

- :func:`task`, :func:`dag`, :func:`each`, :func:`chain`: Python graphs (:mod:`~headrace.authoring.builder`).
- :func:`headrace.authoring.sources.load`: a file, by its ending; :mod:`~headrace.authoring.yaml`,
  :mod:`~headrace.authoring.python_source`.
- :mod:`~headrace.authoring.schema`: the JSON Schema of the YAML format, for editors.
- :mod:`~headrace.authoring.drawing`: a graph as text or Mermaid.
"""

from headrace.authoring.builder import Dag, dag, each
from headrace.authoring.loaded import Loaded
from headrace.authoring.nodes import Node, chain
from headrace.authoring.references import Ref
from headrace.authoring.tasks import TaskFunction, TaskOptions, call_listener, task

__all__ = [
    "Dag",
    "Loaded",
    "Node",
    "Ref",
    "TaskFunction",
    "TaskOptions",
    "call_listener",
    "chain",
    "dag",
    "each",
    "task",
]
