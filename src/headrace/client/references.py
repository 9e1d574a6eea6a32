"""Large values that are kept in the artifact store: finding and loading them in what is shown."""

from __future__ import annotations

from typing import Any

from headrace.contracts.artifacts import ArtifactStore
from headrace.core.run import reference_of
from headrace.engine.outcomes import load_value


def resolve_references(value: Any, artifacts: ArtifactStore, depth: int = 0) -> Any:
    """Load every reference inside a value (nested at most 100 deep)."""
    digest = reference_of(value)
    if digest is not None:
        return load_value(artifacts, digest)
    if depth < 100:
        if type(value) is dict:
            return {key: resolve_references(part, artifacts, depth + 1) for key, part in value.items()}
        if type(value) is list:
            return [resolve_references(part, artifacts, depth + 1) for part in value]
    return value
