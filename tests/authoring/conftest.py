"""The task kinds every installation has, through their entry points."""

from __future__ import annotations

import pytest

from headrace.authoring.kinds import Kinds
from headrace.backends.executors.kinds import load_task_kinds


@pytest.fixture(scope="session")
def kinds() -> Kinds:
    return load_task_kinds()
