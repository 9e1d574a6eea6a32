"""Claims of runs on a server whose answer may get lost: they are numbered, and the next one says which is known."""

from __future__ import annotations

import asyncio


class Claims:
    """The claims of one node under one epoch: their numbers, and the last whose outcome is known. See ``claim_1``."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.last = 0
        self.known = 0
