"""What the paths of the API share: the node's client, and how many may ask, wait and listen at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any, TypeVar

from headrace.contracts.api.bounds import REQUESTS_MAX, STREAMS_MAX, VALUES_BYTES_MAX, WAIT_SECONDS_MAX, WAITS_MAX
from headrace.core.durations import parse_duration
from headrace.core.errors import EngineStopped, ServerUnavailable
from headrace.core.ids import RunId
from headrace.core.run import reference_of

if TYPE_CHECKING:
    from headrace.client.client import Client
    from headrace.core.view import RunView
    from headrace.engine.node import Node

T = TypeVar("T")


class Late(Exception):
    """What was waited for has not come in time, or the node stops."""


class Api:
    """One node's."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.closing = asyncio.Event()
        self._working = 0
        self._streams = 0
        self._waits: set[asyncio.Future[Any]] = set()

    @property
    def node(self) -> Node:
        """The node that answers."""
        return self.client._node

    def close(self) -> None:
        """Send away everybody who waits or listens, with what is known now. Idempotent."""
        self.closing.set()
        for waiting in self._waits:
            waiting.cancel()

    # ---- bounds --------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def working(self) -> Generator[None]:
        """A request is worked on within the block. Raises :class:`ServerUnavailable` if there are too many, or if the
        node cannot serve."""
        node = self.node
        if self.closing.is_set() or node.stopping or node.broken is not None or not node.is_joined:
            raise ServerUnavailable("the node cannot serve now", hint="try again, or ask another node")
        if self._working >= REQUESTS_MAX:
            raise ServerUnavailable(f"{REQUESTS_MAX:,} requests are being worked on already", hint="try again")
        self._working += 1
        try:
            yield
        finally:
            self._working -= 1

    @contextlib.contextmanager
    def streaming(self) -> Generator[None]:
        """A stream is open within the block."""
        self.check_streams()
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    def check_streams(self) -> None:
        """Raise :class:`ServerUnavailable` if there are as many streams as there may be."""
        if self._streams >= STREAMS_MAX:
            raise ServerUnavailable(f"{STREAMS_MAX:,} streams are open already", hint="try again, or ask another node")

    async def within(self, seconds: float, work: Coroutine[Any, Any, T]) -> T:
        """Wait for something, which does not count as work. Raises :class:`Late`, and :class:`ServerUnavailable` if too
        many wait."""
        if len(self._waits) >= WAITS_MAX:
            work.close()
            raise ServerUnavailable(f"{WAITS_MAX:,} requests wait already", hint="try again, or ask another node")
        task = asyncio.ensure_future(work)
        self._waits.add(task)
        self._working -= 1
        try:
            await asyncio.wait({task}, timeout=seconds)
            if not task.done() or task.cancelled():
                raise Late
            return task.result()
        finally:
            self._working += 1
            self._waits.discard(task)
            if not task.done():
                task.cancel()
                await asyncio.wait({task})

    # ---- waiting -------------------------------------------------------------------------------------------------------

    async def until_ended(self, run_id: str, wait: str) -> None:
        """Wait for a run's end, as long as that may take and the node does not stop."""
        seconds = seconds_of(wait)
        if seconds <= 0:
            return
        handle = await self.client.get(run_id)
        with contextlib.suppress(Late, EngineStopped):
            await self.within(seconds, handle._until_ended())

    async def let_be(self, run_id: RunId) -> None:
        """After a run was started or commanded here: give it up to those who carry runs out, unless this node does."""
        node = self.node
        if node.options.adopt:
            return
        live = node.live.get(run_id)
        if live is not None and not live.closed:
            await node.let_go(live)
            node.waker.runs_unowned()

    # ---- values --------------------------------------------------------------------------------------------------------

    async def loaded(self, view: RunView) -> RunView:
        """The same run with its large values in place of references to them, as many as an answer may hold."""
        values = Values(self.client)
        view.output = await values.load(view.output)
        for task in view.tasks.values():
            task.output = await values.load(task.output)
            for item in task.item_list or ():
                item.output = await values.load(item.output)
        return view


class Values:
    """Loads large values until an answer is full: :data:`VALUES_BYTES_MAX`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._left = VALUES_BYTES_MAX

    async def load(self, value: Any) -> Any:
        """The value itself, or as it was if it is too large for what is left."""
        size = _bytes_of(value)
        if not size:
            return value
        if size > self._left:
            return value
        self._left -= size
        return await self._client.value(value)


def _bytes_of(value: Any, depth: int = 0) -> int:
    """How large the values are that the references inside stand for."""
    if reference_of(value) is not None:
        return value["bytes"]
    if depth >= 100:
        return 0
    if type(value) is dict:
        return sum(_bytes_of(part, depth + 1) for part in value.values())
    return sum(_bytes_of(part, depth + 1) for part in value) if type(value) is list else 0


def seconds_of(wait: str) -> float:
    """How long a request may wait."""
    return min(parse_duration(wait), WAIT_SECONDS_MAX)
