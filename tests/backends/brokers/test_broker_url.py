"""URLs of brokers: what they say, what is shown of them, and what is wrong with bad ones."""

import sys

import pytest

from headrace import Headrace
from headrace.backends.brokers import open_broker
from headrace.backends.brokers.url import address_of_url
from headrace.backends.stores.postgres import PostgresStore
from headrace.backends.stores.postgres_url import place_of_url
from headrace.core.errors import BrokerError, StoreError


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://me:s3cret@host:4222", "nats://me@host:4222"),
        ("nats://s3cret@host", "nats://***@host"),
        ("nats://me:s3cret@a:1,b:2?prefix=team", "nats://me@a:1,b:2?prefix=team"),
        ("redis://:s3cret@host/3", "redis://@host/3"),
        ("redis://host?password=s3cret&db=2", "redis://host?db=2"),
        ("amqp://me:s3cret@host/vhost", "amqp://me@host/vhost"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    address = address_of_url(url)
    assert address.shown == shown
    assert address.secrets == ("s3cret",)
    assert open_broker(url).url == shown


def test_servers_share_user_and_password() -> None:
    assert address_of_url("nats://me:p@a:1,b:2").servers() == ["nats://me:p@a:1", "nats://me:p@b:2"]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("kafka://host", "no broker for kafka://"),
        ("nats", "'nats' is not a broker's URL"),
        ("nats://", "is not a broker's URL"),
        ("", "is not a broker's URL"),
        ("nats://host?prefix=a.b", "?prefix=a.b: expected"),
        ("nats://host?reconnect=1", "?reconnect: there is no such option of NATS"),
        ("redis://host:x/0", "cannot be used"),
        ("nats://[host", "cannot be read"),
    ],
)
def test_bad_urls_are_refused_at_once(url: str, says: str) -> None:
    with pytest.raises(BrokerError) as refused:
        Headrace("memory://", broker=url)
    assert says in refused.value.message


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("nats://h", "nats", "headrace[nats]"),
        ("valkey://h", "redis", "headrace[redis]"),
        ("amqp://h", "aio_pika", "headrace[rabbitmq]"),
    ],
)
def test_a_missing_client_is_named(url: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    for backend in ("nats", "redis", "rabbitmq"):
        monkeypatch.delitem(sys.modules, f"headrace.backends.brokers.{backend}", raising=False)

    class Absent:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name.split(".")[0] == module:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    with pytest.raises(BrokerError) as refused:
        open_broker(url)
    assert extra in str(refused.value)


def test_a_pooler_needs_a_way_around_it() -> None:
    """LISTEN does not work behind it, and says nothing about that."""
    behind = PostgresStore("postgresql://me:p@pooler:6432/db?pgbouncer=true")
    health = open_broker(None, behind).health()
    assert health.state == "none"
    assert "direct=HOST:PORT" in health.error
    around = "postgresql://me:p@pooler:6432/db?pgbouncer=true&direct=db-1:5432&sslmode=require"
    assert place_of_url(around).direct == "postgresql://me:p@db-1:5432/db?sslmode=require"
    assert open_broker("store", PostgresStore(around)).health().state == "connecting"
    with pytest.raises(StoreError, match="direct=a b"):
        PostgresStore("postgresql://h/db?pgbouncer=true&direct=a b")


def test_no_broker_by_default_where_the_store_has_none() -> None:
    assert Headrace("memory://").broker_health.state == "none"
    assert Headrace("memory://", broker="none").broker_health.state == "none"
