"""Requests to a real server on the loopback interface."""

import asyncio
import datetime
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from headrace.backends.executors.http_task import HttpTask, parse_retry_after, redact_url
from headrace.contracts.execution import AttemptError
from headrace.contracts.outcome import failure_of
from headrace.core.errors import InvalidDefinition
from headrace.core.retry import is_retryable
from headrace.core.spec import RetryPolicy, TaskSpec
from headrace.testing.executor_conformance import make_attempt


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length).decode()
        path, _, query = self.path.partition("?")
        status, headers, data = 200, {"content-type": "application/json"}, b""
        if path == "/echo":
            seen = {
                "method": self.command,
                "query": query,
                "body": body,
                "headers": {k.lower(): v for k, v in self.headers.items()},
            }
            data = json.dumps(seen).encode()
        elif path.startswith("/status/"):
            status = int(path.rpartition("/")[2])
            headers = {"content-type": "text/plain", "retry-after": "7"}
            data = b"the reason, for " + self.headers.get("authorization", "nobody").encode()
        elif path == "/text":
            headers, data = {"content-type": "text/plain; charset=latin-1"}, "caf\u00e9".encode("latin-1")
        elif path == "/bad-json":
            data = b"{nope"
        elif path == "/marked":
            data = b'\xef\xbb\xbf{"a": 1}'
        elif path == "/empty":
            status = 200
        elif path == "/moved":
            status, headers = 302, {"location": "/text"}
        elif path == "/round":
            status, headers = 302, {"location": "/round"}
        elif path == "/big":
            data = b'"' + b"x" * 100_000 + b'"'
        elif path == "/cut":
            self.send_response(200)
            self.send_header("content-length", "100")
            self.end_headers()
            self.wfile.write(b"short")
            self.close_connection = True
            return
        elif path == "/slow":
            self.server.asked.set()  # type: ignore[attr-defined]
            self.server.release.wait(300)  # type: ignore[attr-defined]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status >= 200 and status != 204:
            self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = answer

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.asked, server.release = threading.Event(), threading.Event()  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.release.set()  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


@pytest.fixture
def base(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


@pytest.fixture
def ask(binding, base):
    def once(path: str, **config: Any) -> Any:
        settings = {"url": path if "://" in path else base + path, **config}

        async def play() -> Any:
            kind = HttpTask()
            attempt = make_attempt(3, item=2, config=settings)
            try:
                return await kind.bind(TaskSpec(id="t", kind="http", config=settings), binding).run(attempt)
            finally:
                await kind.close()
                binding.finish(attempt)

        return asyncio.run(play())

    return once


@pytest.fixture
def refused(ask):
    def once(path: str, **config: Any) -> AttemptError:
        with pytest.raises(AttemptError) as caught:
            ask(path, **config)
        return caught.value

    return once


def test_a_request_says_what_it_was_told_to(ask):
    seen = ask(
        "/echo",
        method="POST",
        json={"a": [1]},
        params={"q": "x y", "n": [1, 2], "none": None},
        headers={"X-Year": 2013},
    )
    assert seen["method"] == "POST"
    assert json.loads(seen["body"]) == {"a": [1]}
    assert seen["query"] == "q=x+y&n=1&n=2"
    assert seen["headers"]["x-year"] == "2013"
    assert seen["headers"]["content-type"] == "application/json"
    assert ask("/echo?kept=1")["query"] == "kept=1"
    assert ask("/echo?kept=1&b=2", params={"b": 3})["query"] == "kept=1&b=3"
    assert ask("/echo", method="PUT", body="raw")["body"] == "raw"


def test_every_attempt_sends_the_same_idempotency_key(ask):
    assert ask("/echo")["headers"]["idempotency-key"] == "R/t[2]"
    assert ask("/echo", headers={"idempotency-key": "mine"})["headers"]["idempotency-key"] == "mine"


def test_the_output_follows_the_response(ask):
    assert ask("/text") == "caf\u00e9"
    assert ask("/empty") == ""
    assert ask("/echo", output="text").startswith('{"method"')
    assert ask("/echo", output="none") is None
    full = ask("/text", output="full")
    assert (full["status"], full["body"], full["headers"]["content-length"]) == (200, "caf\u00e9", "4")
    assert ask("/status/204", method="DELETE") == ""


@pytest.mark.parametrize(
    ("status", "retried"),
    [
        *((400, False), (404, False), (408, True), (425, True), (429, True)),
        *((500, True), (501, False), (503, True), (529, True), (302, False)),
    ],
)
def test_statuses_that_are_not_success(refused, status, retried):
    error = refused(f"/status/{status}")
    assert (error.type, error.code, error.retry_after) == ("http", status, 7.0)
    assert is_retryable(RetryPolicy(attempts=2), failure_of(error)) is retried
    assert f"status {status}" in str(error)
    assert "the reason" in str(error)


def test_what_counts_as_success_can_be_chosen(ask, refused):
    assert ask("/status/404", success=["2xx", 404]).startswith("the reason")
    assert ask("/status/503", success=["5XX"]).startswith("the reason")
    assert refused("/text", success=[204]).code == 200


def test_redirects_are_followed_only_when_asked_for(ask, refused):
    assert refused("/moved").code == 302
    assert ask("/moved", follow_redirects=True) == "caf\u00e9"
    assert "too many redirects" in str(refused("/round", follow_redirects=True))


def test_json_may_begin_with_a_byte_order_mark(ask):
    assert ask("/marked") == ask("/marked", output="json") == {"a": 1}


def test_bounds_and_broken_answers(refused):
    too_large = refused("/big", max_response_bytes=50_000)
    assert (too_large.type, too_large.retryable) == ("response_too_large", False)
    assert refused("/bad-json").type == "bad_output"
    assert refused("/text", output="json").type == "bad_output"
    cut = refused("/cut")
    assert (cut.type, cut.retryable, cut.bases) == ("connection", None, ("ConnectionError", "OSError"))
    slow = refused("/slow", read_seconds=0.1)
    assert (slow.type, slow.retryable, slow.bases) == ("connection", None, ("TimeoutError", "OSError"))
    header = refused("/text", headers={"X": "a\r\nb: c"})
    assert (header.type, header.retryable) == ("bad_config", False)


def test_what_is_retried_is_said_by_the_policy(refused):
    missing, busy, cut = (failure_of(refused(path)) for path in ("/status/404", "/status/503", "/cut"))
    only_missing = RetryPolicy(attempts=2, retry_on=("http:404", "ConnectionError"))
    assert [is_retryable(only_missing, failure) for failure in (missing, busy, cut)] == [True, False, True]
    only_server = RetryPolicy(attempts=2, retry_on=("http:5xx",))
    assert [is_retryable(only_server, failure) for failure in (missing, busy, cut)] == [False, True, False]


def test_nobody_listening_is_worth_a_retry(refused, server, base):
    port = server.server_port
    server.shutdown()
    server.server_close()
    error = refused(f"http://user:hunter2@127.0.0.1:{port}/x?token=abc")
    assert error.type == "connection"
    assert is_retryable(RetryPolicy(attempts=2), failure_of(error))
    assert f"GET http://***@127.0.0.1:{port}/x?...:" in str(error)
    assert "hunter2" not in str(error)
    assert "abc" not in str(error)


def test_credentials_do_not_reach_messages_or_logs(refused, ask, logs):
    error = refused("/status/401", headers={"Authorization": "Bearer s3cr3t-value"})
    assert "s3cr3t-value" not in str(error)
    ask("/text?token=abc")
    assert "/text?... -> 200, 4 bytes" in "".join(entry.text for entry in logs.read_logs("R"))


def test_a_request_can_be_cancelled(binding, base, server):
    async def play() -> None:
        kind = HttpTask()
        config = {"url": base + "/slow"}
        running = asyncio.ensure_future(
            kind.bind(TaskSpec(id="t", kind="http", config=config), binding).run(make_attempt(config=config))
        )
        assert await asyncio.to_thread(server.asked.wait, 60)
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()
        await kind.close()

    asyncio.run(play())


def test_connections_are_kept_between_requests(binding, base, server):
    connections = []
    original = server.process_request
    server.process_request = lambda request, address: (connections.append(address), original(request, address))  # type: ignore[method-assign]

    async def play() -> None:
        kind = HttpTask()
        config = {"url": base + "/text"}
        bound = kind.bind(TaskSpec(id="t", kind="http", config=config), binding)
        for n in range(5):
            assert await bound.run(make_attempt(n)) == "caf\u00e9"
        await kind.close()

    asyncio.run(play())
    assert len(connections) == 1


@pytest.mark.parametrize(
    ("config", "args", "message"),
    [
        ({"url": "ftp://x/y"}, {}, "begins with http:// or https://, got 'ftp://x/y'"),
        ({"url": "https://"}, {}, "begins with http"),
        ({"url": "http://x", "method": "GE T"}, {}, "a method such as GET"),
        ({"url": "http://x", "json": 1, "body": "x"}, {}, "json and body cannot both"),
        ({"url": "http://x", "success": ["2x"]}, {}, "statuses such as 204"),
        ({"url": "http://x", "max_response_bytes": 0}, {}, "expected 1 to"),
        ({"url": "http://x", "read_seconds": -1}, {}, "more than 0"),
        ({"url": "http://x", "verify": False}, {}, "did you mean 'verify_tls'"),
        ({"url": "http://x"}, {"a": 1}, "takes no arguments"),
    ],
)
def test_wrong_settings_are_refused_before_a_run(binding, config, args, message):
    with pytest.raises(InvalidDefinition, match=message):
        HttpTask().bind(TaskSpec(id="t", kind="http", config=config, args=args), binding)


def test_rendered_settings_are_checked_too(binding):
    bound = HttpTask().bind(TaskSpec(id="t", kind="http", config={"url": "{{ params.url }}"}), binding)
    with pytest.raises(AttemptError, match="begins with http") as caught:
        asyncio.run(bound.run(make_attempt(config={"url": "nonsense"})))
    assert (caught.value.type, caught.value.retryable) == ("bad_config", False)


def test_retry_after_is_a_number_or_a_date():
    now = datetime.datetime(2024, 5, 6, 7, 8, 0, tzinfo=datetime.UTC)
    assert parse_retry_after("12") == 12.0
    assert parse_retry_after("Mon, 06 May 2024 07:08:30 GMT", now) == 30.0
    assert parse_retry_after("Mon, 06 May 2024 07:00:00 GMT", now) == 0.0
    assert parse_retry_after("9" * 30) == 86_400.0
    assert parse_retry_after("soon") is None
    assert parse_retry_after(None) is None


def test_redacting_a_url():
    assert redact_url("https://u:p@h/p?q=1#f") == "https://***@h/p?..."
    assert redact_url("https://h/a@b") == "https://h/a@b"
