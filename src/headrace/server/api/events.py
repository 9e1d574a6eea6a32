"""A run's events as they happen: Server-Sent Events.

Each event of the history is one message, whose id is its number: a listener that was cut off says the last one it has
had (``Last-Event-ID``) and misses nothing. Events are read from the store, a page at a time, and only when there may be
new ones: the node that has the run says so, in memory or by a wake-up (:mod:`headrace.engine.wisher`). What a listener
does not take is not read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.contracts.api import answers, requests
from headrace.contracts.api.answers import Mistake
from headrace.contracts.api.bounds import HEARTBEAT_SECONDS, RETRY_SECONDS, Role
from headrace.core.errors import HeadraceError
from headrace.core.ids import RunId
from headrace.core.states import FINAL_RUN_STATES
from headrace.server.api.endpoint import RUN, Call, Endpoint, Misasked, Reply
from headrace.server.api.service import Api

if TYPE_CHECKING:
    from headrace.engine.wisher import Word

logger = logging.getLogger("headrace.server")

PAGE = 200
"""Events read at once."""

LOOK_SECONDS = 1.0
"""How often the store is looked at where no word of the run can come: no broker between hosts."""

GAP_SECONDS = 0.05
"""The shortest time between two looks."""

LAST_EVENT = "last-event-id"
EVENT_STREAM = "text/event-stream"


async def follow_run(api: Api, call: Call) -> Any:
    """Each event of the history as a message, whose ``id`` is its number and whose ``event`` its type; then one called
    ``end`` with the run's state. While nothing happens, a comment comes every 15 seconds. A stream that breaks off before
    ``end`` is to be asked for anew."""
    after = call.query.after
    if LAST_EVENT in call.headers:
        text = call.headers[LAST_EVENT].strip()
        if not text.isdecimal() or len(text) > 15:
            message = f"expected the number of an event, not {text[:50]!r}"
            raise Misasked([Mistake(where="Last-Event-ID", message=message, hint=None)])
        after = int(text)
    elif call.query.tail:
        after = (await api.client.row(call.run)).last_seq
    full = (await api.client.row(call.run)).run_id
    api.check_streams()
    return Reply(_messages(api, full, after), media_type=EVENT_STREAM)


async def _messages(api: Api, run_id: RunId, after: int) -> AsyncGenerator[bytes]:
    with api.streaming(), contextlib.ExitStack() as waits:
        yield f"retry: {RETRY_SECONDS * 1000}\n\n".encode()
        news = _News(api, run_id, waits)
        try:
            while True:
                with news.listening():
                    row = await api.client.stored_row(run_id)  # before the events: those of a final state are all there
                    while page := await api.node.store.history(run_id, after, PAGE):
                        for after, data in page:  # noqa: PLR1704 - the last one read
                            yield _message(after, data)
                    if row is None or row.state in FINAL_RUN_STATES:
                        state = None if row is None else row.state
                        yield b"event: end\ndata: " + msgspec.json.encode({"state": state}) + b"\n\n"
                        return
                    while not await news.come():
                        if api.closing.is_set():
                            yield b": the node stops; ask another one\n\n"
                            return
                        yield b": nothing new\n\n"
        except HeadraceError as error:
            logger.warning("a stream broke off", extra={"run_id": run_id, "error": " ".join(str(error).split())})
            yield b": the node cannot go on with this; ask again\n\n"
        finally:
            await news.close()


def _message(seq: int, data: bytes) -> bytes:
    """Events are JSON of one line."""
    kind = msgspec.json.decode(data, type=_Typed).type
    return f"id: {seq}\nevent: {kind}\ndata: ".encode() + data + b"\n\n"


class _Typed(msgspec.Struct):
    type: str


class _News:
    """Tells when there may be new events of a run, wherever it is."""

    def __init__(self, api: Api, run_id: RunId, waits: contextlib.ExitStack) -> None:
        self._api = api
        self._run_id = run_id
        self._waits = waits
        self._word: Word | None = None
        self._next: Callable[[], Coroutine[Any, Any, bool]]
        self._told: asyncio.Future[bool] | None = None

    @contextlib.contextmanager
    def listening(self) -> Generator[None]:
        """From now on every change is heard: to be entered before looking."""
        live = self._api.node.live.get(self._run_id)
        if live is not None and not live.closed:
            changed = asyncio.Event()
            self._next = changed.wait
            live.watchers.add(changed)
            try:
                yield
            finally:
                live.watchers.discard(changed)
            return
        if self._word is None:
            self._word = self._waits.enter_context(self._api.client.waiting(self._run_id, changes=True))
        self._next = partial(self._word.next, LOOK_SECONDS)
        yield

    async def come(self) -> bool:
        """Wait until there may be news; False if none has come for a while, or the node stops."""
        if self._told is None:
            self._told = asyncio.ensure_future(self._next())
        closing = asyncio.ensure_future(self._api.closing.wait())
        try:
            await asyncio.wait({self._told, closing}, timeout=HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            closing.cancel()
        if self._api.closing.is_set() or not self._told.done():
            return False
        self._told = None
        await asyncio.sleep(GAP_SECONDS)
        return True

    async def close(self) -> None:
        """Hear no more."""
        if self._told is not None:
            self._told.cancel()
            await asyncio.wait({self._told})


ENDPOINTS = (
    Endpoint(
        "GET", f"/runs/{RUN}/events", Role.VIEWER, "Follow a run", answers.Done, follow_run, query=requests.Stream,
        refusals=(404,), headers=(("Last-Event-ID", "The number of the last event that was received."),),
        media_types=(EVENT_STREAM,),
    ),
)  # fmt: skip
