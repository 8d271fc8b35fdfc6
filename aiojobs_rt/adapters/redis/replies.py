"""Replies: what comes back over one connection, parsed in the moment in which it arrives.

redis-py makes the connection and greets; then its transport hands over here. A reply goes from the socket to the one who waits for it in one
turn of the event loop, without a stream, a buffer of it and a task step for each in between.
"""

from __future__ import annotations

import asyncio
import math
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any

import hiredis
from redis import exceptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio.connection import Connection

CLOSED = "Connection closed by server."
CLOCK_STEP = 0.002
"""Event loops round to milliseconds."""
_NOT_YET = object()


class Replies(asyncio.Protocol):
    """The replies of one connection, in order. One request at a time waits for them.

    Args:
        connection: made and greeted, with nothing on its way; its own reader gets nothing any more.

    Attributes:
        open: whether neither side has hung up, as far as is known here.
    """

    __slots__ = (
        "_alarm", "_alarm_at", "_answered", "_context", "_count", "_deadline", "_loop", "_reader", "_received", "_transport",
        "_unoccupied", "open",
    )  # fmt: skip

    def __init__(self, connection: Connection) -> None:
        self._loop = asyncio.get_running_loop()
        parser: Any = connection._parser  # noqa: SLF001 - it knows which error reply is which exception
        stream: Any = connection._reader  # noqa: SLF001 - there is no public way to its socket
        writer: Any = connection._writer  # noqa: SLF001 - as above
        self._reader = hiredis.Reader(
            protocolError=exceptions.InvalidResponse, replyError=parser.parse_error, notEnoughData=_NOT_YET
        )
        self._transport: asyncio.WriteTransport = writer.transport
        self._answered: Callable[[list[Any] | Exception], object] | None = None
        self._received: list[Any] = []
        self._count = 0
        self._unoccupied: asyncio.Future[None] | None = None
        self._context = Context()
        self._deadline = self._alarm_at = math.inf
        self._alarm: asyncio.TimerHandle | None = None
        self.open = not stream.at_eof()
        self._transport.set_protocol(self)

    @property
    def free(self) -> bool:
        """Whether a request may be begun: the connection is open, none is under way, and nobody waits for that."""
        return self.open and self._answered is None and self._unoccupied is None

    def begin(
        self, packed: bytes, count: int, answered: Callable[[list[Any] | Exception], object], *, timeout: float
    ) -> None:
        """Send a request, without waiting; only while the connection is free.

        Args:
            packed: the request.
            count: how many replies it gets.
            answered: called once, in the moment in which the last of them arrives, with all of them, error replies among them; or with why
                they have not come: what `to` would raise, before this returns where the connection is closed already. It raises nothing.
            timeout: seconds; infinite: none.
        """
        self._answered = answered
        self._received, self._count = [], count
        self._watch(timeout)
        try:
            self._transport.write(packed)
        except (OSError, RuntimeError) as error:  # uvloop's, between an error of the socket and `connection_lost`
            self._fail(exceptions.ConnectionError(f"{CLOSED} {error}"))

    async def unoccupied(self) -> None:
        """Wait until what was begun is answered, or has failed; nothing else is begun meanwhile. For one task at a time."""
        while self._answered is not None:
            self._unoccupied = self._loop.create_future()
            try:
                await self._unoccupied
            finally:
                self._unoccupied = None

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
        self.begin(packed, count, partial(_resolve, waiting, at_once), timeout=timeout)
        try:
            return await waiting
        finally:
            self._answered = None

    def data_received(self, data: bytes) -> None:
        """Parse what has come; give it to the request once it is all there."""
        received = self._received
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _NOT_YET:
                if self._answered is None or len(received) == self._count:
                    raise exceptions.InvalidResponse("a reply that nobody has asked for")  # noqa: TRY301 - as one of the parser's
                received.append(reply)
            if self._answered is None or len(received) < self._count:
                return
        except Exception as error:  # noqa: BLE001 - it belongs to the one who waits
            self._fail(error)
            return
        self._answer(received)

    def eof_received(self) -> None:
        """The other side has hung up."""
        self._fail(exceptions.ConnectionError(CLOSED))

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._fail(exceptions.ConnectionError(f"{CLOSED} {exc}" if exc else CLOSED))

    def _answer(self, answer: list[Any] | Exception) -> None:
        answered, self._answered = self._answered, None
        if self._unoccupied is not None and not self._unoccupied.done():
            self._unoccupied.set_result(None)
        if answered is not None:
            answered(answer)

    def _fail(self, error: Exception) -> None:
        self.open = False
        self._answer(error)

    def _watch(self, timeout: float) -> None:
        """Have the request fail after `timeout` seconds. One timer serves all requests: where it stands at an earlier time, it stays there."""
        self._deadline = self._loop.time() + timeout
        if self._deadline < self._alarm_at:
            if self._alarm is not None:
                self._alarm.cancel()
            self._set_alarm()

    def _set_alarm(self) -> None:
        self._alarm_at = self._deadline
        self._alarm = self._loop.call_at(self._deadline, self._ring, context=self._context)

    def _ring(self) -> None:
        self._alarm, self._alarm_at = None, math.inf
        if self._answered is None or self._deadline == math.inf:
            return
        if self._deadline - self._loop.time() > CLOCK_STEP:
            self._set_alarm()
        else:
            self._fail(TimeoutError())


def _resolve(
    waiting: asyncio.Future[list[Any]], at_once: Callable[[Any], None] | None, answer: list[Any] | Exception
) -> None:
    if waiting.done():  # it was cancelled
        return
    if isinstance(answer, Exception):
        waiting.set_exception(answer)
        return
    if at_once is not None and not isinstance(answer[-1], Exception):
        try:
            at_once(answer[-1])
        except Exception as error:  # noqa: BLE001 - it belongs to the one who waits
            waiting.set_exception(error)
            return
    waiting.set_result(answer)
