"""A TCP proxy between a client and Redis that does harm on demand."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import hiredis

from tests.support.redis_server import url_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

CHUNK = 64 * 1024
INCOMPLETE = object()


@dataclass(slots=True)
class Meal:
    """An order to lose the reply to a request, or, `unseen`, the request itself."""

    match: bytes
    left: int
    silently: bool
    unseen: bool = False
    then: Callable[[], None] | None = None
    """Called when the reply is there."""


class Proxy:
    """`async with Proxy(server.port) as proxy:`, then connect to `proxy.url`. It runs in the test's event loop.

    Attributes, which may be set at any time:
        latency_ms, jitter_ms: each chunk arrives `latency_ms` +- `jitter_ms` later, in either direction; in order.
        blackhole: swallow what either side sends. A connection that lost bytes this way stays silent for good.

    To be read:
        eaten: how many replies `eat_reply` and `eat_reply_silently` have swallowed (each after Redis had sent it).
        accepted: how many connections were ever accepted.
        swallowed: how many bytes the black hole has taken.
    """

    def __init__(self, target_port: int, *, seed: int = 0) -> None:
        self.latency_ms = 0
        self.jitter_ms = 0
        self.blackhole = False
        self.eaten = 0
        self.accepted = 0
        self.swallowed = 0
        self.port = 0
        self._target_port = target_port
        self._random = random.Random(seed)
        self._meals: list[Meal] = []
        self._connections: dict[_Connection, asyncio.Task[None]] = {}
        self._server: asyncio.Server | None = None
        self._reservation: socket.socket | None = None

    @property
    def url(self) -> str:
        return url_of(self.port)

    @property
    def open(self) -> int:
        """How many connections are open now."""
        return len(self._connections)

    def eat_reply(self, match: bytes, *, count: int = 1) -> None:
        """Lose the reply to the next request that contains `match`, then close its connection; `count` times.

        A request is its arguments joined by spaces. It is forwarded, and runs. From the match on, the connection
        delivers nothing more, also not the replies to requests before it that are still on their way.
        """
        self._meals.append(Meal(match, count, silently=False))

    def eat_reply_silently(self, match: bytes, *, count: int = 1) -> None:
        """As `eat_reply`, but the connection stays open and silent: Redis hangs, as it seems."""
        self._meals.append(Meal(match, count, silently=True))

    def reset_all(self) -> int:
        """Reset (RST) every open connection; how many there were."""
        for connection in self._connections:
            connection.reset()
        return len(self._connections)

    def half_close(self) -> int:
        """Close every open connection towards the client (FIN); requests still get through. How many there were."""
        for connection in self._connections:
            connection.half_close()
        return len(self._connections)

    async def refuse(self) -> None:
        """Accept no new connection (ECONNREFUSED) until `accept`; open ones stay."""
        if self._server is not None:
            self._server.close()
            self._server = None
            await asyncio.sleep(0)  # the loop closes the listening socket in its next turn

    async def accept(self) -> None:
        """Accept connections, on the same port as ever."""
        if self._server is None:
            listener = _bound_socket(self.port)
            self._server = await asyncio.start_server(self._serve, sock=listener)

    async def __aenter__(self) -> Self:
        # Bound, never listening: the port stays ours while nobody is accepted.
        self._reservation = _bound_socket(0)
        self.port = int(self._reservation.getsockname()[1])
        await self.accept()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()
        if self._reservation is not None:
            self._reservation.close()
        tasks = list(self._connections.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def delay(self) -> float:
        """Seconds that the next chunk takes."""
        jitter = self._random.uniform(-self.jitter_ms, self.jitter_ms) if self.jitter_ms else 0
        return max(0, self.latency_ms + jitter) / 1000

    def take_meal(self, request: bytes) -> Meal | None:
        """The order that this request meets, if there is one; counted down."""
        for meal in self._meals:
            if meal.match in request:
                meal.left -= 1
                if not meal.left:
                    self._meals.remove(meal)
                return meal
        return None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        connection = _Connection(self, reader, writer)
        task = asyncio.current_task()
        assert task is not None
        self._connections[connection] = task
        try:
            await connection.run(self._target_port)
        except asyncio.CancelledError:
            pass  # the proxy ends; a task of a server that ends as cancelled is logged as an error
        finally:
            del self._connections[connection]
            connection.close()


class _Connection:
    """One client and its own connection to Redis."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._reader = reader
        self._writer = writer
        self._upstream: asyncio.StreamWriter | None = None
        self._requests = hiredis.Reader(notEnoughData=INCOMPLETE)
        self._replies = hiredis.Reader(notEnoughData=INCOMPLETE)
        self._requests_seen = 0
        self._replies_seen = 0
        self._meal: Meal | None = None
        self._meal_at = 0
        self._mute = False
        self._black = False

    async def run(self, port: int) -> None:
        try:
            upstream_reader, self._upstream = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return  # Redis is away: so are we
        pumps = [
            asyncio.create_task(self._pump(self._reader, self._upstream, self._look_at_request)),
            asyncio.create_task(self._pump(upstream_reader, self._writer, self._look_at_reply)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    def reset(self) -> None:
        client: socket.socket = self._writer.get_extra_info("socket")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def half_close(self) -> None:
        self._mute = True
        self._writer.write_eof()

    def close(self) -> None:
        for writer in (self._writer, self._upstream):
            if writer is not None:
                writer.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, look: Callable[[bytes], bool]
    ) -> None:
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        delivery = asyncio.create_task(self._deliver(line, writer))
        try:
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(CHUNK):
                    self._black = self._black or self._proxy.blackhole
                    if self._black:
                        self._proxy.swallowed += len(data)
                    elif look(data):
                        line.put_nowait((time.monotonic() + self._proxy.delay(), data))
            line.put_nowait((0, b""))
            await delivery
        finally:
            delivery.cancel()
            await asyncio.gather(delivery, return_exceptions=True)

    async def _deliver(self, line: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                due, data = await line.get()
                if not data:
                    return
                if (pause := due - time.monotonic()) > 0:
                    await asyncio.sleep(pause)
                if not writer.is_closing():
                    writer.write(data)
                    await writer.drain()

    def _look_at_request(self, data: bytes) -> bool:
        self._requests.feed(data)
        while (request := self._requests.gets()) is not INCOMPLETE:
            self._requests_seen += 1
            if self._meal is None and (meal := self._proxy.take_meal(b" ".join(request))):
                self._meal, self._meal_at = meal, self._requests_seen
                self._mute = True
                if meal.unseen:
                    self._writer.close()
                    return False
        return True

    def _look_at_reply(self, data: bytes) -> bool:
        self._replies.feed(data)
        while (reply := self._replies.gets()) is not INCOMPLETE:
            if isinstance(reply, hiredis.PushNotification):
                continue
            self._replies_seen += 1
            if self._meal is not None and self._replies_seen == self._meal_at:
                self._proxy.eaten += 1
                if self._meal.then is not None:
                    self._meal.then()
                if not self._meal.silently:
                    self._writer.close()
        return not self._mute


def _bound_socket(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound
