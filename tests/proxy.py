"""A proxy in front of a server on this machine, whose connections can be cut where a test says.

It passes bytes on as they come and understands none of them. Cuts are real: both ends see a closed
socket, whatever they were doing.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import urlsplit, urlunsplit

_CHUNK = 65_536


def _nothing() -> None:
    pass


class Way(Enum):
    """A direction."""

    UP = "up"  # from the client to the server
    DOWN = "down"  # from the server to the client


@dataclass(eq=False)
class _Pair:
    """A client's connection and the server's that belongs to it."""

    client: socket.socket
    server: socket.socket
    tail: bytes = b""  # the last of what the client sent: a pattern may come in two parts
    losing: Callable[[], None] | None = None  # what happens instead of the next answer

    def cut(self) -> None:
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@dataclass
class Proxy:
    """Listens on a port of its own for the server at `target` on 127.0.0.1."""

    target: int
    port: int = 0
    cuts: int = 0  # how often a connection was cut, refused ones not counted
    passed: dict[Way, int] = field(default_factory=lambda: dict.fromkeys(Way, 0))  # bytes

    def __post_init__(self) -> None:
        self._pairs: set[_Pair] = set()
        self._pumps: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._limits: dict[Way, int] = {}  # of `passed`, where all is cut
        self._pattern: bytes | None = None
        self._instead = _nothing
        self._listener: socket.socket | None = None
        self.accept()

    def url(self, url: str) -> str:
        """The same URL, but by way of the proxy."""
        parts = urlsplit(url)
        who, _, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{who}@127.0.0.1:{self.port}"))

    def accept(self) -> None:
        """Takes connections, at first and after `refuse`."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen()
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._start(self._take, listener)

    def refuse(self) -> None:
        """Nobody listens any more: new connections are refused. Old ones stay."""
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def cut(self) -> None:
        """Cuts every connection now."""
        with self._lock:
            pairs = list(self._pairs)
            self.cuts += bool(pairs)
        for pair in pairs:
            pair.cut()

    def cut_after(self, size: int, way: Way) -> None:
        """Cuts every connection, once, when so many bytes have gone that way from now on."""
        with self._lock:
            self._limits[way] = self.passed[way] + size

    def lose_reply_to(self, pattern: bytes, instead: Callable[[], None] = _nothing) -> None:
        """When a client next sends what this regular expression finds, the server gets it; its
        answer is lost with the connection: it was done, and nobody was told. `instead` is called
        before the cut."""
        with self._lock:
            self._pattern, self._instead = pattern, instead

    def pass_all(self) -> None:
        """Forgets what was to be cut or lost."""
        with self._lock:
            self._limits.clear()
            self._pattern = None

    def close(self) -> None:
        self.refuse()
        self.cut()
        for pump in self._pumps:
            pump.join(timeout=10)

    def _start(self, work: object, *arguments: object) -> None:
        pump = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._pumps = [one for one in self._pumps if one.is_alive()]
        self._pumps.append(pump)
        pump.start()

    def _take(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self.target), timeout=10)
                except OSError:
                    client.close()
                    continue
                server.settimeout(None)
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                pair = _Pair(client, server)
                with self._lock:
                    self._pairs.add(pair)
                self._start(self._serve, pair)

    def _serve(self, pair: _Pair) -> None:
        """Both directions of one connection, until either end is gone."""
        down = threading.Thread(target=self._pump, args=(pair, Way.DOWN), daemon=True)
        down.start()
        self._pump(pair, Way.UP)
        down.join()
        with self._lock:
            self._pairs.discard(pair)
        pair.client.close()
        pair.server.close()

    def _pump(self, pair: _Pair, way: Way) -> None:
        source, sink = pair.client, pair.server
        if way is Way.DOWN:
            source, sink = sink, source
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                if way is Way.DOWN and pair.losing is not None:
                    pair.losing()
                    with self._lock:
                        self.cuts += 1
                    break
                data, at_the_end = self._let_through(pair, data, way)
                sink.sendall(data)
                if at_the_end:
                    self.cut()
        pair.cut()

    def _let_through(self, pair: _Pair, data: bytes, way: Way) -> tuple[bytes, bool]:
        """What may pass of this, and whether all connections are to be cut then."""
        with self._lock:
            limit = self._limits.get(way)
            at_the_end = limit is not None and self.passed[way] + len(data) >= limit
            if limit is not None and at_the_end:
                data = data[: limit - self.passed[way]]
                del self._limits[way]
            self.passed[way] += len(data)
            if way is Way.UP and self._pattern is not None:
                pair.tail = (pair.tail + data)[-_CHUNK:]
                if re.search(self._pattern, pair.tail, re.DOTALL):
                    self._pattern, pair.tail, pair.losing = None, b"", self._instead
        return data, at_the_end
