"""The socket: opened before the node starts, so that a port that is taken is known at once; served on the node's own
event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Generator

import uvicorn

from headrace.client.client import Client
from headrace.contracts.administration import Administration
from headrace.contracts.api.bounds import Role
from headrace.core.errors import HeadraceError
from headrace.server.api.service import Api
from headrace.server.app import build_app
from headrace.server.desk import Desk
from headrace.server.door import Door, is_loopback
from headrace.server.lock_desk import LockDesk
from headrace.server.tls import Certificate

logger = logging.getLogger("headrace.server")

CONNECTIONS_MAX = 5_000
"""Beyond these, requests are answered with 503 at once."""

CLOSE_SECONDS = 5
"""How long requests under way may take when the server stops."""


class _Uvicorn(uvicorn.Server):
    """Leaves signals to the node, and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Nothing: the node has handlers of its own."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As it is, and then say so."""
        await super().startup(sockets)
        self.listening.set()


class Listener:
    """A server for one node. ``listen``: ``host:port``. ``tokens``, ``admin_tokens``, ``api_tokens``: who may come in,
    see :class:`~headrace.server.door.Door`; ``tokenless``: what users of the API may do who have no token.
    ``administration``: what administrators can ask, nothing if None.
    ``tls_certificate``, ``tls_key``: PEM files, see :class:`~headrace.server.tls.Certificate`; without them there is no
    TLS. ``shares_port``: with other nodes of this host. Raises :class:`HeadraceError` if it cannot listen, has no token
    to ask for, or a certificate that cannot be used."""

    def __init__(
        self,
        listen: str,
        tokens: str | None,
        *,
        lease_seconds: float,
        admin_tokens: str | None = None,
        api_tokens: str | None = None,
        tokenless: Role | None = None,
        administration: Administration | None = None,
        tls_certificate: str | None = None,
        tls_key: str | None = None,
        shares_port: bool = False,
    ) -> None:
        if tls_key is not None and tls_certificate is None:
            raise HeadraceError("server.tls_key is given, and server.tls_certificate is not")
        self._certificate = None if tls_certificate is None else Certificate(tls_certificate, tls_key)
        self._door = Door(tokens, admin_tokens, api_tokens, tokenless=tokenless)
        self._administration = administration
        self._socket = _listen(listen, shares_port=shares_port)
        try:
            self._check_tokenless(tokenless)
        except HeadraceError:
            self._socket.close()
            raise
        self._api: Api | None = None
        self._lease_seconds = lease_seconds
        self._desk: Desk | None = None
        self._locks: LockDesk | None = None
        self._server: _Uvicorn | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """Where it listens, as ``host:port``."""
        host, port = self._socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _check_tokenless(self, tokenless: Role | None) -> None:
        if tokenless is not None and not is_loopback(self._socket.getsockname()[0]):
            raise HeadraceError(
                f"server.api_open = {str(tokenless)!r} is for a server that only this host reaches, and"
                f" server.listen is {self.address}",
                hint="listen at 127.0.0.1, or give the users tokens: server.api_tokens",
            )

    async def start(self, client: Client) -> None:
        """Serve for a node that has started."""
        node = client._node
        self._api = Api(client)
        self._desk = Desk(node, lease_seconds=self._lease_seconds)
        self._locks = LockDesk(node)
        config = uvicorn.Config(
            build_app(self._desk, self._locks, self._door, self._administration, self._api),
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            ws="none",
            limit_concurrency=CONNECTIONS_MAX,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=CLOSE_SECONDS,
        )
        config.load()
        if self._certificate is not None:
            config.ssl = self._certificate.context
        self._server = _Uvicorn(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._socket]), name="headrace-server")
        await self._server.listening.wait()
        if self._door.tokenless is not None:
            logger.warning("the API is open to everybody on this host", extra={"role": str(self._door.tokenless)})
        is_tls = self._certificate is not None
        logger.info("requests are served", extra={"listen": self.address, "tls": is_tls})
        if not is_tls and not is_loopback(self._socket.getsockname()[0]):
            logger.warning(
                "there is no TLS here: give a certificate, or put a proxy in front that has one",
                extra={"listen": self.address},
            )

    def change(
        self,
        tokens: str | None,
        *,
        lease_seconds: float,
        admin_tokens: str | None = None,
        api_tokens: str | None = None,
        tokenless: Role | None = None,
        tls_certificate: str | None = None,
        tls_key: str | None = None,
    ) -> tuple[str, ...]:
        """Go by other tokens, another lease and another certificate from now on; whether there is TLS stays as it is.
        The names of the keys whose files hold another certificate or key than before. Raises :class:`HeadraceError`; then
        nothing has changed."""
        door = Door(tokens, admin_tokens, api_tokens, tokenless=tokenless)
        self._check_tokenless(tokenless)
        renewed: tuple[str, ...] = ()
        if self._certificate is not None and tls_certificate is not None:
            renewed = self._certificate.change(tls_certificate, tls_key)
        self._door.become(door)
        self._lease_seconds = lease_seconds
        if self._desk is not None:
            self._desk.lease_seconds = lease_seconds
        return renewed

    async def stop(self) -> None:
        """Send those who wait away, let requests under way end, close the socket. Idempotent."""
        if self._api is not None:
            self._api.close()
        if self._desk is not None:
            self._desk.close()
        if self._locks is not None:
            self._locks.close()
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving
        self._socket.close()


def _listen(text: str, *, shares_port: bool) -> socket.socket:
    host, separator, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not host or not port.isdecimal() or int(port) > 65535:
        raise HeadraceError(f"server.listen: expected host:port, not {text!r}", hint="for example 127.0.0.1:7233")
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        made = socket.socket(family, kind, protocol)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shares_port:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            made.bind(address)
            made.listen(1024)
        except OSError:
            made.close()
            raise
    except OSError as error:
        raise HeadraceError(
            f"server.listen: cannot listen at {text}: {error.strerror or error}",
            hint="is another node or program there already? each needs a port of its own",
        ) from None
    made.setblocking(False)
    return made
