"""What is described is what is served: the description is valid, every answer fits it, and nothing that fits it, or does
not, breaks the server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import api_code
import httpx
import jsonschema
import msgspec
import pytest
import schemathesis
from api_rig import FAILING, GREET, TOKENS, Rig, rig, serve
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import CHECKS

from headrace.contracts.api import answers
from headrace.contracts.api.bounds import PATH
from headrace.server.api.openapi import document
from headrace.server.api.table import ENDPOINTS

ROOT = Path(__file__).parents[2]
SCHEMA = schemathesis.openapi.from_dict(document())


class Server:
    """A rig on an event loop of its own, in a thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with rig(self._folder) as one:
            await one.store(GREET)
            await one.store(FAILING)
            self.url = one.url
            self._ready.set()
            await self._stop.wait()

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(30)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("openapi"))
    made.start()
    yield made
    made.stop()


WANTED = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
)


@SCHEMA.parametrize()
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_request_breaks_the_server(case: schemathesis.Case, server: Server) -> None:
    case.call_and_validate(
        base_url=server.url,
        headers={"Authorization": f"Bearer {TOKENS['author']}"},
        checks=[CHECKS.get_one(name) for name in WANTED],
        timeout=60,
    )


def test_the_description_is_valid_and_complete(tmp_path):
    described = msgspec.json.decode(msgspec.json.encode(document()))
    assert described == msgspec.json.decode((ROOT / "docs/reference/openapi.json").read_bytes())
    names = [endpoint.name for endpoint in ENDPOINTS]
    assert len(set(names)) == len(names)
    for schema in described["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    assert set(described["paths"]) == {PATH + endpoint.path for endpoint in ENDPOINTS}

    async def test(one: Rig) -> None:
        assert (await one.viewer.get("/openapi.json")).json() == described

    serve(tmp_path, test)


def fits(kind: type, got: httpx.Response) -> Any:
    """The body has the fields of the type, and no others."""
    assert got.status_code < 300, got.text
    body = got.json()
    assert msgspec.to_builtins(msgspec.convert(body, kind)) == body
    return body


def test_every_answer_fits_its_description(tmp_path):
    async def test(one: Rig) -> None:
        await one.hr.register(api_code.order)
        mapped = "name: mapped\ntasks:\n  each: {run: 'echo {{ item }}', map: [1, 2]}\n"
        await one.store(mapped)
        run = fits(
            answers.Run,
            await one.operator.post("/runs", params={"wait": "20s"}, json={"workflow": "mapped", "tags": {"a": "b"}}),
        )
        failed = await one.start("failing")
        order = (await one.hr.run(api_code.order)).id
        viewer, operator = one.viewer, one.operator
        items = fits(answers.Run, await viewer.get(f"/runs/{run['id']}", params={"items": "true"}))
        assert len(items["tasks"]["each"]["item_list"]) == 2
        fits(answers.Run, await viewer.get(f"/runs/{failed['id']}"))
        fits(answers.Run, await viewer.get(f"/runs/{order}"))
        fits(answers.Runs, await viewer.get("/runs", params={"limit": 1}))
        fits(answers.History, await viewer.get(f"/runs/{run['id']}/history", params={"limit": 1}))
        fits(answers.Logs, await viewer.get(f"/runs/{run['id']}/logs"))
        fits(answers.Reasons, await viewer.get(f"/runs/{order}/why"))
        fits(answers.Graph, await viewer.get(f"/runs/{run['id']}/graph"))
        fits(answers.Workflows, await viewer.get("/workflows"))
        fits(answers.Workflow, await viewer.get("/workflows/greet"))
        code = fits(answers.Workflow, await viewer.get("/workflows/order"))
        assert (code["kind"], code["graph"]) == ("code", None)
        fits(answers.Graph, await viewer.get("/workflows/greet/graph"))
        fits(answers.Nodes, await viewer.get("/nodes"))
        fits(answers.Locks, await viewer.get("/locks"))
        fits(answers.Validation, await one.author.post("/workflows/validate", json={"definition": "a: b"}))
        fits(answers.Value, await viewer.get(f"/runs/{order}/queries/content"))
        fits(answers.Answered, await operator.post(f"/runs/{order}/updates/add", json={"args": ["x"]}))
        fits(answers.Commanded, await operator.post(f"/runs/{order}/signals/close", json={}))
        fits(answers.Commanded, await operator.post(f"/runs/{failed['id']}/retry", json={}))
        refused = await operator.post(f"/runs/{run['id']}/cancel", json={})
        body = refused.json()
        assert msgspec.to_builtins(msgspec.convert(body, answers.Refused)) == body

    serve(tmp_path, test)
