"""Who may use the API, and for what."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from api_rig import ADMIN, GREET, TOKENS, WORKER, Rig, rig, serve

from headrace.contracts.api.bounds import Role
from headrace.core.errors import HeadraceError
from headrace.server.api.table import ENDPOINTS
from headrace.server.listener import Listener
from headrace.server.tokens import roles_of

EVERYBODY = ("viewer", "operator", "author", "admin", "worker", "stranger", None)


def test_every_path_is_for_those_who_may_and_for_nobody_else(tmp_path):
    async def test(one: Rig) -> None:
        for endpoint in ENDPOINTS:
            path = endpoint.path.replace("{run}", "zzz").replace("{name}", "n").replace("{workflow}", "w")
            for who in EVERYBODY:
                got = await one.as_(who).request(endpoint.method, path, json={} if endpoint.body else None)
                may = who == "admin" or (who in TOKENS and Role(who).may(endpoint.role))
                wanted = None if may else 401 if who in (None, "stranger") else 403
                assert got.status_code == wanted if wanted else got.status_code not in (401, 403), (who, endpoint.path)
                assert got.status_code < 500
        assert (await one.as_("stranger").get("/runs")).headers["www-authenticate"] == "Bearer"
        assert "role operator" in (await one.viewer.post("/runs", json={})).json()["detail"]
        assert (await one.as_(None).get("/openapi.json")).status_code == 401
        assert (await one.viewer.get("/openapi.json")).status_code == 200

    serve(tmp_path, test)


def test_users_are_neither_workers_nor_administrators(tmp_path):
    async def test(one: Rig) -> None:
        for who in TOKENS:
            refused = await one.as_(who).post("/workers/join", json={"queues": ["q"]})
            assert refused.status_code == 403

    serve(tmp_path, test)


def test_without_users_administrators_are_not_let_in_to_runs(tmp_path):
    async def test(one: Rig) -> None:
        refused = await one.as_("admin").get("/runs")
        assert (refused.status_code, refused.json()["type"]) == (403, "urn:headrace:problem:forbidden")
        assert (await one.as_(None).get("/runs")).status_code == 401

    serve(tmp_path, test, listening={"api_tokens": None})


def test_tokens_change_while_the_node_is_up(tmp_path):
    async def test(one: Rig) -> None:
        assert (await one.viewer.get("/runs")).status_code == 200
        one.listener.change(WORKER, lease_seconds=60, api_tokens="viewer:" + "n" * 32)
        assert (await one.viewer.get("/runs")).status_code == 401
        assert (await one.operator.get("/runs")).status_code == 401
        async with httpx.AsyncClient(trust_env=False) as fresh:
            got = await fresh.get(f"{one.url}/api/v1/runs", headers={"Authorization": "Bearer " + "n" * 32})
        assert got.status_code == 200
        with pytest.raises(HeadraceError, match="share a token"):
            one.listener.change(WORKER, lease_seconds=60, api_tokens=f"viewer:{WORKER}")
        assert (await one.viewer.get("/runs")).status_code == 401

    serve(tmp_path, test)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no token"),
        ("secret-secret-secret", "has no role in front: viewer, operator, author are expected"),
        ("boss:secret-secret-secret", "token 1 has no role in front"),
        ("viewer:" + "v" * 20 + " operator:short", "role operator: token 1 cannot be used"),
    ],
)
def test_what_cannot_be_a_users_token_is_refused_and_not_shown(text, said):
    with pytest.raises(HeadraceError, match=said) as told:
        roles_of(text)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"api_tokens": f"viewer:{WORKER}"}, "server.api_tokens and server.worker_tokens share a token"),
        ({"api_tokens": f"viewer:{ADMIN}", "admin_tokens": ADMIN}, "server.api_tokens and server.admin_tokens share"),
        ({"api_tokens": f"viewer:{'v' * 20} operator:{'v' * 20}"}, "server.api_tokens holds a token twice"),
    ],
)
def test_a_token_is_of_one_sort_and_one_role(options, said):
    with pytest.raises(HeadraceError, match=said):
        Listener("127.0.0.1:0", WORKER, lease_seconds=60, **options)


def test_users_alone_can_be_served():
    Listener("127.0.0.1:0", None, lease_seconds=60, api_tokens=f"viewer:{'v' * 20}")
    with pytest.raises(HeadraceError, match="nothing is served without one"):
        Listener("127.0.0.1:0", None, lease_seconds=60)


# ---- without a token ---------------------------------------------------------------------------------------------------


def test_a_server_that_is_open_lets_programs_of_this_host_in_and_no_web_pages(tmp_path):
    async def test(one: Rig) -> None:
        anybody = one.as_(None)
        assert (await anybody.get("/runs")).status_code == 200
        assert (await anybody.post("/runs", params={"wait": "20s"}, json={"workflow": "greet"})).status_code == 201
        assert (await anybody.post("/runs", json={"definition": GREET})).status_code == 403
        assert (await anybody.get("/admin/config")).status_code != 200
        port = one.url.rpartition(":")[2]
        for headers, status in (
            ({"Host": f"localhost:{port}"}, 200),
            ({"Host": f"[::1]:{port}"}, 200),
            ({"Host": f"rebound.example:{port}"}, 401),
            ({"Host": "["}, 401),
            ({"Origin": "https://evil.example"}, 401),
            ({"Origin": "null"}, 401),
            ({"Origin": one.url}, 200),
            ({"X-Forwarded-For": "192.0.2.1"}, 401),
            ({"Authorization": "Bearer " + "x" * 32}, 401),
            ({"Authorization": f"Bearer {TOKENS['viewer']}"}, 200),
        ):
            got = await anybody.get("/runs", headers=headers)
            assert got.status_code == status, headers
        posted = await anybody.post("/runs", json={"workflow": "greet"}, headers={"Origin": "https://evil.example"})
        assert posted.status_code == 401
        assert (await one.viewer.post("/runs", json={})).status_code == 403  # a token says less than none

    serve(tmp_path, test, listening={"tokenless": Role.OPERATOR})


@pytest.mark.parametrize("tokenless", [None, Role.VIEWER])
def test_the_log_says_that_a_server_is_open(tmp_path, caplog, tokenless):
    async def test(_: Rig) -> None:
        said = [record.role for record in caplog.records if record.msg == "the API is open to everybody on this host"]
        assert said == ([] if tokenless is None else ["viewer"])

    serve(tmp_path, test, listening={"tokenless": tokenless})


def test_only_a_server_at_loopback_can_be_open(tmp_path):
    with pytest.raises(HeadraceError, match="only this host reaches"):
        Listener("0.0.0.0:0", WORKER, lease_seconds=60, tokenless=Role.VIEWER)

    async def change() -> None:
        async with rig(tmp_path) as one:
            await one.listener.stop()
            other = Listener("0.0.0.0:0", WORKER, lease_seconds=60)
            with pytest.raises(HeadraceError, match="only this host reaches"):
                other.change(WORKER, lease_seconds=60, tokenless=Role.VIEWER)
            await other.stop()

    asyncio.run(change())
