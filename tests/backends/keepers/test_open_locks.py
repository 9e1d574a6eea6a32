"""Who keeps the locks is named by a URL; one that means nothing is refused with what was expected."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headrace import Headrace
from headrace.backends.keepers import open_locks
from headrace.backends.keepers.etcd import EtcdLocks
from headrace.backends.keepers.etcd_url import EtcdAddress, address_of_url
from headrace.backends.stores import open_store
from headrace.core.errors import KeeperError


def test_the_store_by_default() -> None:
    store = open_store("memory://")
    assert open_locks(None, store) is store
    assert open_locks("store", store) is store


def test_the_members_of_etcd() -> None:
    assert address_of_url("etcd://a,b:1, [::1]:7,[::2]?prefix=jobs") == EtcdAddress(
        members=("http://a:2379", "http://b:1", "http://[::1]:7", "http://[::2]:2379"),
        prefix="jobs",
        shown="etcd://a,b:1, [::1]:7,[::2]",
    )


def test_user_and_password() -> None:
    address = address_of_url("etcd://jo%40x:pa%2Fss@a?tls=true")
    assert (address.members, address.user, address.password) == (("https://a:2379",), "jo@x", "pa/ss")
    assert "pa" not in address.shown


def test_terms_of_two_prefixes_are_not_compared() -> None:
    store = open_store("memory://")
    first, second = (open_locks(f"etcd://a?prefix={prefix}", store) for prefix in ("one", "two"))
    assert isinstance(first, EtcdLocks)
    assert isinstance(second, EtcdLocks)
    assert len({first.authority, second.authority, "store"}) == 3


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("zookeeper://a", "no keeper for zookeeper://"),
        ("etcd", "'etcd' is not a keeper's URL"),
        ("etcd://", "'' is not a member's host:port"),
        ("etcd://a,,b", "'' is not a member's host:port"),
        ("etcd://a:0", "'a:0' is not a member's host:port"),
        ("etcd://a:99999", "port 1 to 65535"),
        ("etcd://a:x", "port 1 to 65535"),
        ("etcd://a/jobs", "nothing may follow the members"),
        ("etcd://a?prefx=b", "no option 'prefx'"),
        ("etcd://a?prefix=b/c", "at most 40 letters"),
        ("etcd://a?prefix", "cannot be read"),
        ("etcd://a?tls=maybe", "expected true or false"),
        ("etcd://a?ca=/x&tls=false", "certificates without TLS"),
        ("etcd://a?key=/x", "needs ?cert="),
        ("etcd://a?ca=/nowhere/ca.pem", "there is no such file"),
        ("etcd://u:secret@a?x=1", "etcd://u@a: there is no option 'x'"),
        ("etcd://" + ",".join("abcdefghijklmnopqrstu"), "21 members"),
    ],
)
def test_a_url_that_means_nothing(url: str, message: str) -> None:
    with pytest.raises(KeeperError) as raised:
        open_locks(url, open_store("memory://"))
    assert message in str(raised.value)
    assert "secret" not in str(raised.value)


def test_files_that_are_no_certificates(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(KeeperError, match="PEM"):
        open_locks(f"etcd://a?ca={tmp_path / 'ca.pem'}", open_store("memory://"))


def test_an_engine_has_the_keeper_it_was_given() -> None:
    async def work() -> None:
        async with Headrace("memory://", keeper="etcd://127.0.0.1:1?prefix=jobs") as hr:
            assert isinstance(hr._locks, EtcdLocks)
            assert hr.settings.keeper == "etcd://127.0.0.1:1?prefix=jobs"
        async with Headrace("memory://") as hr:
            assert hr._locks is hr.store

    asyncio.run(work())


def headrace(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("headrace")
    environment = {**os.environ, "HEADRACE_KEEPER": url, "HEADRACE_STORE": "memory://"}
    return subprocess.run(
        [program, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_command_line_refuses_it() -> None:
    ended = headrace("etcd://u:secret@a?x=1", "runs", "list")
    assert ended.returncode == 2
    assert "there is no option 'x'" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "secret" not in ended.stdout + ended.stderr


def test_the_password_is_not_shown() -> None:
    ended = headrace("etcd://u:secret@a", "config", "show")
    assert "etcd://u:***@a" in ended.stdout
    assert "secret" not in ended.stdout
