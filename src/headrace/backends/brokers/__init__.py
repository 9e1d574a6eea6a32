"""Brokers: implementations of :mod:`headrace.contracts.broker`.

- :mod:`~headrace.backends.brokers.postgres`: LISTEN and NOTIFY, the default on a PostgreSQL store.
- :mod:`~headrace.backends.brokers.nats`, :mod:`~headrace.backends.brokers.redis` (Valkey, too),
  :mod:`~headrace.backends.brokers.rabbitmq`: messengers that a company may have anyway.
- :mod:`~headrace.backends.brokers.linked`: what those over a network have in common.

:func:`open_broker` chooses by URL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.backends.brokers.url import address_of_url
from headrace.contracts.broker import Broker, NoBroker
from headrace.core.errors import BrokerError

SUPPORTED = (
    ("store", "what the store itself offers: LISTEN and NOTIFY on PostgreSQL, else nothing (default)"),
    ("none", "nothing: neighbours on one host, and the poll"),
    ("nats://host:4222", "NATS; also tls://, and several hosts separated by commas"),
    ("redis://host:6379", "Redis or Valkey; also rediss://, valkey://, valkeys://"),
    ("amqp://user@host:5672/vhost", "RabbitMQ; also amqps://"),
)
"""URL forms and what they mean, for messages and documentation."""


def _nats(address: Any) -> Broker:
    from headrace.backends.brokers.nats import nats_broker  # noqa: PLC0415 - clients are loaded when needed

    return nats_broker(address)


def _redis(address: Any) -> Broker:
    from headrace.backends.brokers.redis import redis_broker  # noqa: PLC0415

    return redis_broker(address)


def _rabbitmq(address: Any) -> Broker:
    from headrace.backends.brokers.rabbitmq import rabbitmq_broker  # noqa: PLC0415

    return rabbitmq_broker(address)


_MAKERS: dict[str, tuple[Callable[[Any], Broker], str, str, str]] = {
    **dict.fromkeys(("nats", "tls"), (_nats, "nats", "nats-py", "nats")),
    **dict.fromkeys(("redis", "rediss", "valkey", "valkeys"), (_redis, "redis", "redis", "redis")),
    **dict.fromkeys(("amqp", "amqps"), (_rabbitmq, "aio_pika", "aio-pika", "rabbitmq")),
}
"""By scheme: what makes it, the client's module, its distribution, our extra."""


def open_broker(url: str | None, store: Any = None) -> Broker:
    """The broker a URL names, not yet started; None and ``store`` mean that of the store.

    Raises :class:`BrokerError` for a URL of no known form, or if the client is not installed.
    """
    if url is None or url == "store":
        of_store = getattr(store, "broker", None)
        return NoBroker() if of_store is None else of_store()
    if url == "none":
        return NoBroker()
    scheme, separator, rest = url.partition("://")
    if scheme not in _MAKERS or not separator or not rest:
        forms = "\n".join(f"    {form:<32} {meaning}" for form, meaning in SUPPORTED)
        what = f"there is no broker for {scheme}://" if separator and rest else f"{scheme!r} is not a broker's URL"
        raise BrokerError(what, hint=f"supported are:\n{forms}")
    address = address_of_url(url)
    make, module, distribution, extra = _MAKERS[scheme]
    try:
        return make(address)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module:
            raise
        raise BrokerError(
            f"{scheme}:// needs the client {distribution}, which is not installed",
            hint=f'pip install "headrace[{extra}]"',
        ) from None


__all__ = ["SUPPORTED", "open_broker"]
