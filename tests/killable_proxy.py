"""A proxy in front of PostgreSQL whose connections can be cut, also between a commit and its reply.

It passes bytes on as they come, over a socket of its own, and understands none of them.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

from psycopg.conninfo import conninfo_to_dict

_SECONDS = 10


class KillableProxy:
    """Stands in front of the server that `url` names; connect to `self.url`."""

    def __init__(self, url: str) -> None:
        given = conninfo_to_dict(url)
        self._host, self._port = str(given["host"]), int(given.get("port") or 5432)
        self._folder = Path(tempfile.mkdtemp(prefix="rowtrail-proxy-"))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._losing: bytes | None = None
        self._lost = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._folder / f".s.PGSQL.{self._port}"))
        self._listener.listen()
        self._pumps: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        user = quote(str(given.get("user", "")), safe="")
        database = urlsplit(url).path or f"/{quote(str(given['dbname']), safe='')}"
        place = f"host={quote(str(self._folder), safe='')}&port={self._port}"
        self.url = f"postgresql://{user}@{database}?{place}"

    def cut(self) -> None:
        """Cuts every connection, at both ends."""
        for end in [end for pair in self._pairs for end in pair]:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def lose_reply_to(self, statement: bytes) -> None:
        """When a client next sends this, the server gets it; its reply reaches nobody."""
        self._lost.clear()
        self._losing = statement

    def wait_until_lost(self) -> None:
        assert self._lost.wait(_SECONDS), "what was to be lost was never sent"

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        self.cut()
        for thread in self._pumps:
            thread.join()
        for end in [end for pair in self._pairs for end in pair]:
            end.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                pair = (client, self._server())
                self._pairs.append(pair)
                losing = threading.Event()
                for source, sink, watched in ((*pair, True), (*pair[::-1], False)):
                    pump = threading.Thread(
                        target=self._pump, args=(source, sink, watched, losing), daemon=True
                    )
                    self._pumps.append(pump)
                    pump.start()

    def _server(self) -> socket.socket:
        if self._host.startswith("/"):
            server = socket.socket(socket.AF_UNIX)
            server.connect(f"{self._host}/.s.PGSQL.{self._port}")
            return server
        return socket.create_connection((self._host, self._port))

    def _pump(
        self, source: socket.socket, sink: socket.socket, watched: bool, losing: threading.Event
    ) -> None:
        """One direction of one connection; `watched` is the one from the client."""
        with suppress(OSError):
            while data := source.recv(65_536):
                if watched and self._losing is not None and self._losing in data:
                    self._losing = None
                    losing.set()
                elif not watched and losing.is_set():
                    break  # the server has done it
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        if losing.is_set():
            self._lost.set()
