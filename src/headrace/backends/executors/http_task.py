"""Task kind ``http``: one request."""

from __future__ import annotations

import asyncio
import codecs
import datetime
import email.utils
import re
import weakref
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import msgspec

from headrace.backends.executors.settings import check_config, has_template, rendered_config
from headrace.backends.executors.shell_environment import as_text
from headrace.contracts.current import idempotency_key
from headrace.contracts.execution import Attempt, AttemptError, BindContext
from headrace.contracts.outcome import message_of
from headrace.core.errors import InvalidDefinition, Problem
from headrace.core.spec import TaskSpec

if TYPE_CHECKING:
    import httpx

RESPONSE_BYTES_MAX_DEFAULT = 10 * 1024 * 1024
RESPONSE_BYTES_MAX_LIMIT = 256 * 1024 * 1024
CONNECT_SECONDS = 10.0
READ_SECONDS_MAX = 86_400
CONNECTIONS_MAX = 200
"""Connections of one client; further requests wait for one."""

EXCERPT_CHARS = 500
"""How much of a refused response's body goes into the failure's message."""

Scalar = str | int | float | bool

_STATUS = re.compile(r"[1-5](xx|\d\d)")

_Status = (
    Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 100, "maximum": 599})]
    | Annotated[str, msgspec.Meta(extra_json_schema={"pattern": "^[1-5]([xX]{2}|[0-9]{2})$"})]
)
"""Bounds as editors are told them; here and below, :func:`_wrong` checks them, in words of its own."""


class HttpConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``success``: statuses (204) or classes ("2xx") that count. ``json`` is sent as a JSON body, ``body`` as it is;
    at most one of them. ``output``: ``auto`` is JSON if the response says it is, else text; ``full`` is an object with
    ``status``, ``headers`` and ``body``. ``read_seconds`` bounds the wait for the next bytes. Redirects are followed
    only when asked for, since they may lead to another host."""

    url: Annotated[str, msgspec.Meta(extra_json_schema={"pattern": "^[hH][tT][tT][pP][sS]?://[^/]"})]
    method: Annotated[str, msgspec.Meta(extra_json_schema={"pattern": "^[A-Za-z]{1,32}$"})] = "GET"
    headers: dict[str, Scalar] = {}
    params: dict[str, Scalar | list[Scalar] | None] = {}
    json: Any = None
    body: str | None = None
    success: tuple[_Status, ...] = ("2xx",)
    output: Literal["auto", "json", "text", "full", "none"] = "auto"
    verify_tls: bool = True
    follow_redirects: bool = False
    max_response_bytes: Annotated[
        int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": RESPONSE_BYTES_MAX_LIMIT})
    ] = RESPONSE_BYTES_MAX_DEFAULT
    read_seconds: Annotated[
        float, msgspec.Meta(extra_json_schema={"exclusiveMinimum": 0, "maximum": READ_SECONDS_MAX})
    ] = 300.0


class _Clients:
    """One ``httpx.AsyncClient`` per event loop and TLS setting: connections are kept between requests."""

    def __init__(self) -> None:
        self._by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[bool, httpx.AsyncClient]] = (
            weakref.WeakKeyDictionary()
        )

    def get(self, verify_tls: bool) -> httpx.AsyncClient:
        """The client of the running loop."""
        import httpx  # noqa: PLC0415 - heavy, and most workflows make no requests

        clients = self._by_loop.setdefault(asyncio.get_running_loop(), {})
        client = clients.get(verify_tls)
        if client is None:
            limits = httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX // 4)
            client = clients[verify_tls] = httpx.AsyncClient(verify=verify_tls, limits=limits)
        return client

    async def close(self) -> None:
        """Close the running loop's clients."""
        for client in self._by_loop.pop(asyncio.get_running_loop(), {}).values():
            await client.aclose()


class BoundHttp:
    """A request, ready to be made."""

    executor = "http"

    def __init__(self, config: HttpConfig | None, clients: _Clients, context: BindContext) -> None:
        self._config = config
        self._clients = clients
        self._context = context

    async def run(self, attempt: Attempt) -> Any:
        """Make the request once. Raises :class:`AttemptError`: ``http`` with the status and what ``Retry-After`` says,
        ``connection`` (to a policy also a ``ConnectionError``, or a ``TimeoutError``), both for the policy to judge;
        ``bad_config``, ``response_too_large``, ``bad_output``."""
        import httpx  # noqa: PLC0415

        config = self._config
        if config is None or attempt.intercepted:
            config = rendered_config(attempt, HttpConfig)
            problem = _wrong(config)
            if problem is not None:
                raise AttemptError("bad_config", f"{problem[0]}: {problem[1]}", retryable=False)
        where = f"{config.method} {redact_url(config.url)}"
        headers = {name: as_text(value) for name, value in config.headers.items()}
        if not any(name.lower() == "idempotency-key" for name in headers):
            headers["Idempotency-Key"] = idempotency_key(attempt)
        client = self._clients.get(config.verify_tls)
        timeout = httpx.Timeout(CONNECT_SECONDS, read=config.read_seconds, write=config.read_seconds, pool=None)
        try:
            request = client.build_request(
                config.method,
                httpx.URL(config.url).copy_merge_params(_query(config.params)),
                headers=headers,
                content=config.body,
                json=config.json,
                timeout=timeout,
            )
            response = await client.send(request, stream=True, follow_redirects=config.follow_redirects)
            try:
                content = await _read(response, config.max_response_bytes, where)
            finally:
                await response.aclose()
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError, ValueError, TypeError) as error:
            raise AttemptError(
                "bad_config", f"{where}: {_redact(message_of(error), config)}", retryable=False
            ) from None
        except httpx.TooManyRedirects:
            raise AttemptError("http", f"{where}: too many redirects", retryable=False) from None
        except httpx.HTTPError as error:
            reason = _redact(message_of(error), config) or type(error).__name__
            kind = "TimeoutError" if isinstance(error, httpx.TimeoutException) else "ConnectionError"
            raise AttemptError("connection", f"{where}: {reason}", bases=(kind, "OSError")) from None
        self._context.log(attempt).write("log", f"{where} -> {response.status_code}, {len(content):,} bytes\n".encode())
        if not _is_success(response.status_code, config.success):
            raise _refused(response, content, where, config)
        return _output(config, response, content, where)


class HttpTask:
    """Makes one HTTP request. Every attempt of a task sends the same ``Idempotency-Key`` unless the headers set one."""

    name: ClassVar[str] = "http"
    shorthand: ClassVar[str | None] = "url"
    Config: ClassVar[type[msgspec.Struct]] = HttpConfig

    def __init__(self) -> None:
        self._clients = _Clients()

    def bind(self, task: TaskSpec, context: BindContext) -> BoundHttp:
        """Check the settings. ``task.executor`` has no meaning here: requests are made on the engine's loop."""
        config = check_config(task, HttpConfig)
        problems: list[Problem] = []
        if task.args:
            problems.append(
                Problem(
                    "an http task takes no arguments",
                    path=("tasks", task.id, "with"),
                    hint="put values into `params` (query), `json` or `body`",
                )
            )
        wrong = _wrong(config) if config is not None else None
        if wrong is not None:
            problems.append(
                Problem(f"{wrong[0]!r} of 'http': {wrong[1]}", path=("tasks", task.id, task.kind, wrong[0]))
            )
        if problems:
            raise InvalidDefinition(problems, source=f"task {task.id!r}")
        return BoundHttp(config, self._clients, context)

    async def close(self) -> None:
        """Close the connections kept for the running loop. Idempotent."""
        await self._clients.close()


def _wrong(config: HttpConfig) -> tuple[str, str] | None:
    """``(setting, message)`` for what the types alone do not catch."""
    if not has_template(config.url) and not re.match(r"https?://[^/]", config.url, re.IGNORECASE):
        return "url", f"expected a URL that begins with http:// or https://, got {redact_url(config.url)!r}"
    if not re.fullmatch(r"[A-Za-z]{1,32}", config.method):
        return "method", f"expected a method such as GET or POST, got {config.method!r}"
    if config.json is not None and config.body is not None:
        return "body", "json and body cannot both be given"
    if not 0 < config.max_response_bytes <= RESPONSE_BYTES_MAX_LIMIT:
        return "max_response_bytes", f"expected 1 to {RESPONSE_BYTES_MAX_LIMIT:,}, got {config.max_response_bytes:,}"
    if not 0 < config.read_seconds <= READ_SECONDS_MAX:
        return "read_seconds", f"expected more than 0 and at most {READ_SECONDS_MAX}, got {config.read_seconds}"
    for status in config.success:
        if not _STATUS.fullmatch(str(status).lower()):
            return "success", f'expected statuses such as 204 or "2xx", got {status!r}'
    return None


def _query(params: dict[str, Any]) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, value in params.items():
        given = value if isinstance(value, list) else [value]
        pairs.extend((name, as_text(one)) for one in given if one is not None)
    return pairs


async def _read(response: httpx.Response, bytes_max: int, where: str) -> bytes:
    """The body, decompressed, within its bound."""
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > bytes_max:
            raise AttemptError(
                "response_too_large",
                f"{where}: the response is larger than max_response_bytes ({bytes_max:,})",
                code=response.status_code,
                retryable=False,
            )
    return bytes(content)


def _is_success(status: int, success: tuple[int | str, ...]) -> bool:
    return any(str(one).lower() in (str(status), f"{status // 100}xx") for one in success)


def _refused(response: httpx.Response, content: bytes, where: str, config: HttpConfig) -> AttemptError:
    status = response.status_code
    excerpt = _redact(content[: 4 * EXCERPT_CHARS].decode("utf-8", "replace").strip(), config)[:EXCERPT_CHARS]
    message = f"{where}: status {status} {response.reason_phrase}".rstrip()
    return AttemptError(
        "http",
        f"{message}: {excerpt}" if excerpt else message,
        code=status,
        retry_after=parse_retry_after(response.headers.get("retry-after")),
    )


def _output(config: HttpConfig, response: httpx.Response, content: bytes, where: str) -> Any:
    if config.output == "none":
        return None
    encoding = response.charset_encoding or "utf-8"
    value: Any
    content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    says_json = content_type == "application/json" or content_type.endswith("+json")
    if config.output == "json" or (config.output != "text" and says_json and content.strip()):
        try:
            value = msgspec.json.decode(content.removeprefix(codecs.BOM_UTF8))  # RFC 8259, section 8.1: may be ignored
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise AttemptError(
                "bad_output",
                f"{where}: the response is not JSON: {error}",
                code=response.status_code,
                retryable=False,
            ) from None
    else:
        try:
            value = content.decode(encoding, "replace")
        except LookupError:  # an encoding that Python does not know
            value = content.decode("utf-8", "replace")
    if config.output == "full":
        return {"status": response.status_code, "headers": dict(response.headers), "body": value}
    return value


def parse_retry_after(value: str | None, now: datetime.datetime | None = None) -> float | None:
    """Seconds from a ``Retry-After`` header: a number or an HTTP date; None when absent or unreadable. At most a day."""
    if not value:
        return None
    text = value.strip()
    if text.isascii() and text.isdecimal():
        return min(float(text), 86_400.0)
    try:
        when = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=datetime.UTC)
    seconds = (when - (now or datetime.datetime.now(datetime.UTC))).total_seconds()
    return min(max(seconds, 0.0), 86_400.0)


def redact_url(url: str) -> str:
    """A URL without user, password and query values: fit for messages and logs."""
    shown = re.sub(r"(?<=//)[^/?#]*@", "***@", url, count=1)
    head, mark, _query_text = shown.partition("?")
    return head + ("?..." if mark else "")


def _redact(text: str, config: HttpConfig) -> str:
    """Take the request's own credentials out of a text that may repeat them."""
    text = re.sub(r"(?<=://)[^/?#\s@]*@", "***@", text)
    for name, value in config.headers.items():
        if re.search(r"auth|token|key|secret|cookie|password", name, re.IGNORECASE) and len(str(value)) >= 4:
            secret = str(value)
            text = text.replace(secret, "***")
            if " " in secret:  # "Bearer xyz": the second word is the secret
                text = text.replace(secret.rpartition(" ")[2], "***")
    return text
