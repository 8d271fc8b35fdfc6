"""Replies: what comes back over one connection, parsed in the moment in which it arrives.

redis-py makes the connection and greets; then its transport hands over here. A reply goes from the socket to the one who waits for it in one
turn of the event loop, without a stream, a buffer of it and a task step for each in between.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import hiredis
from redis import exceptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio.connection import Connection

CLOSED = "Connection closed by server."
_NOT_YET = object()


class Replies(asyncio.Protocol):
    """The replies of one connection, in order. One request at a time waits for them.

    Args:
        connection: made and greeted, with nothing on its way; its own reader gets nothing any more.

    Attributes:
        open: whether neither side has hung up, as far as is known here.
    """

    __slots__ = ("_at_once", "_count", "_loop", "_reader", "_received", "_transport", "_waiting", "open")

    def __init__(self, connection: Connection) -> None:
        self._loop = asyncio.get_running_loop()
        parser: Any = connection._parser  # noqa: SLF001 - it knows which error reply is which exception
        stream: Any = connection._reader  # noqa: SLF001 - there is no public way to its socket
        writer: Any = connection._writer  # noqa: SLF001 - as above
        self._reader = hiredis.Reader(
            protocolError=exceptions.InvalidResponse, replyError=parser.parse_error, notEnoughData=_NOT_YET
        )
        self._transport: asyncio.WriteTransport = writer.transport
        self._waiting: asyncio.Future[list[Any]] | None = None
        self._received: list[Any] = []
        self._count = 0
        self._at_once: Callable[[Any], None] | None = None
        self.open = not stream.at_eof()
        self._transport.set_protocol(self)

    async def to(
        self,
        packed: bytes,
        count: int,
        *,
        timeout: float,  # noqa: ASYNC109 - a timer is less than a scope
        at_once: Callable[[Any], None] | None = None,
    ) -> list[Any]:
        """Send a request and wait for so many replies; error replies are among them. Not to be used again after it has raised.

        Args:
            packed: the request.
            count: how many replies it gets.
            timeout: seconds; infinite: none.
            at_once: called with the last reply, unless that is an error, before any task goes on.

        Raises:
            TimeoutError: not all have come in time.
            redis.exceptions.RedisError: the connection broke, or it was no protocol of Redis'.
        """
        if not self.open:
            raise exceptions.ConnectionError(CLOSED)
        waiting: asyncio.Future[list[Any]] = self._loop.create_future()
        self._waiting = waiting
        self._received, self._count, self._at_once = [], count, at_once
        self._transport.write(packed)
        timer = None if timeout == math.inf else self._loop.call_later(timeout, self._fail, TimeoutError())
        try:
            return await waiting
        finally:
            self._waiting = self._at_once = None
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse what has come; give it to the request once it is all there."""
        received, waiting = self._received, self._waiting
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _NOT_YET:
                if waiting is None or len(received) == self._count:
                    raise exceptions.InvalidResponse("a reply that nobody has asked for")  # noqa: TRY301 - as one of the parser's
                received.append(reply)
            if waiting is None or waiting.done() or len(received) < self._count:
                return
            if self._at_once is not None and not isinstance(received[-1], Exception):
                self._at_once(received[-1])
        except Exception as error:  # noqa: BLE001 - it belongs to the one who waits
            self._fail(error)
            return
        waiting.set_result(received)

    def eof_received(self) -> None:
        """The other side has hung up."""
        self._fail(exceptions.ConnectionError(CLOSED))

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._fail(exceptions.ConnectionError(f"{CLOSED} {exc}" if exc else CLOSED))

    def _fail(self, error: Exception) -> None:
        self.open = False
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)
