"""A run's events as they happen, over a stream that is opened again wherever it broke off."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx

from headrace.client.http.link import CONNECT_SECONDS, PAUSE_SECONDS_MAX, PAUSE_SECONDS_MIN, Link, is_untrusted
from headrace.contracts.api.bounds import HEARTBEAT_SECONDS
from headrace.core.errors import HeadraceError, ServerUnavailable

SILENCE_SECONDS = 3 * HEARTBEAT_SECONDS
"""A stream in which not even a comment comes is taken for broken."""

OPEN = "open"
"""A stream has been opened: whatever happens from now on is told."""

LINE_CHARS_MAX = 64 * 1024 * 1024


class Message:
    """One message: the number of the event, 0 if it has none, its type, and its data as JSON text."""

    __slots__ = ("data", "event", "seq")

    def __init__(self, seq: int, event: str, data: str) -> None:
        self.seq = seq
        self.event = event
        self.data = data


async def messages(link: Link, run_id: str, *, patience_seconds: float = 60.0) -> AsyncIterator[Message]:
    """Events from now on, each once; one called ``open`` whenever a stream was opened, and at last one called ``end``.
    Raises :class:`ServerUnavailable` if the server stays away for longer than ``patience_seconds``, and what it refuses
    the stream for."""
    last, pause = 0, PAUSE_SECONDS_MIN
    until = time.monotonic() + patience_seconds
    while True:
        try:
            async for message in _once(link, run_id, last):
                until, pause = time.monotonic() + patience_seconds, PAUSE_SECONDS_MIN
                last = message.seq or last
                yield message
                if message.event == "end":
                    return
        except (httpx.HTTPError, ServerUnavailable) as error:
            if time.monotonic() >= until or is_untrusted(error):
                raise link.unreachable(error) from None
        await asyncio.sleep(pause)  # also after a stream that ended in order: the node stops
        pause = min(pause * 2, PAUSE_SECONDS_MAX)


async def _once(link: Link, run_id: str, last: int) -> AsyncIterator[Message]:
    timeout = httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS)
    options: dict[str, Any] = {"headers": {"Last-Event-ID": str(last)}} if last else {"params": {"tail": "true"}}
    async with link.http.stream("GET", f"/runs/{run_id}/events", timeout=timeout, **options) as got:
        if not got.is_success:
            raise link.refusal(got.status_code, await got.aread())
        yield Message(0, OPEN, "")
        fields: dict[str, str] = {}
        async for line in got.aiter_lines():
            if len(line) > LINE_CHARS_MAX:
                raise HeadraceError(f"the server {link.url} sent a line of {len(line):,} characters")
            if line:
                name, _, value = line.partition(":")
                fields[name] = value.removeprefix(" ")
            elif fields:
                if "event" in fields:
                    number = fields.get("id", "")
                    yield Message(int(number) if number.isdecimal() else 0, fields["event"], fields.get("data", ""))
                fields = {}
