"""A door in front of a server that is slow to start again: shut, nobody gets in and everybody inside is thrown out."""

import contextlib
import socket
import threading

from server_ports import free_port


class Relay:
    """Forwards connections from ``port`` to a server's port while it is open. Threads, because the tests' event loops come
    and go."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._listener: socket.socket | None = None
        self._sockets: set[socket.socket] = set()
        self._turn = threading.Lock()

    def open(self) -> None:
        """Let connections in. Idempotent."""
        if self._listener is None:
            listener = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
            self._listener = listener
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def shut(self) -> None:
        """Refuse new connections and end the others. Idempotent."""
        listener, self._listener = self._listener, None
        with self._turn:
            found = [*self._sockets, *([listener] if listener is not None else [])]
            self._sockets.clear()
        for one in found:
            _end(one)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target), 30)
                server.settimeout(None)
            except OSError:
                _end(client)
                continue
            with self._turn:
                if self._listener is listener:
                    self._sockets |= {client, server}
                    for source, sink in ((client, server), (server, client)):
                        threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()
                    continue
            _end(client)
            _end(server)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with self._turn:
            self._sockets -= {source, sink}
        _end(source)
        _end(sink)


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
