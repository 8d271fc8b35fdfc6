"""Connections: one `Wire` is one connection to Redis, used by one task at a time.

redis-py makes the connection (TCP, TLS, unix socket, authentication, database); the calls go over its transport directly, packed and parsed by
hiredis (`replies.py`), with no pool, no retry, no stream and no timeout scope per command in between. A call that is interrupted, by an error or
by a cancellation, closes its connection: a reply that nobody waits for is never taken for another's.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import hiredis
from redis import exceptions
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from aiojobs_rt.adapters.redis.replies import Replies
from aiojobs_rt.adapters.redis.tls import advice, other_way
from aiojobs_rt.errors import ConfigurationError, RedisUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from aiojobs_rt.adapters.redis.endpoint import Connects
    from aiojobs_rt.adapters.redis.scripts import Script

Argument = str | bytes | int

CALL_TIMEOUT = 5.0
CONNECT_TIMEOUT = 5.0

AWAY = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.BusyLoadingError,
    exceptions.ReadOnlyError,
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
    exceptions.MasterDownError,
    OSError,
    EOFError,
)
"""What says that Redis is not there at the moment: try again."""

_NOT_NOW = ("MISCONF", "NOREPLICAS")
"""Error replies that pass: the disk is full, or too few replicas follow."""
_REFUSED_IN_SCRIPT = ("The user executing the script can't", "ACL failure in script")
"""As Redis 6.2 and 7.0 say it; as Valkey, and Redis since 7.2."""
_NO_MASTER = ("READONLY You can't write", "instance state changed")
"""Error replies of a master that has become a replica; Redis 6.2 puts the first into a script's error."""

REFUSED = (exceptions.AuthenticationError, exceptions.NoPermissionError)


pack: Callable[[tuple[Argument, ...]], bytes] = cast("Any", hiredis.pack_command)
"""A command in Redis' protocol."""


class Away(RedisUnavailable):
    """Redis is not there at the moment, or did not answer.

    Attributes:
        sent: whether the call was sent; then it may have been done.
        silent: nothing was heard in time.
    """

    def __init__(self, message: str, *, sent: bool = True, silent: bool = False) -> None:
        super().__init__(message)
        self.sent = sent
        self.silent = silent


async def open_connection(
    arguments: dict[str, Any],
    name: str,
    display: str,
    *,
    timeout: float,  # noqa: ASYNC109 - its error names the URL
) -> Connection:
    """A new connection, ready for commands, within `timeout` seconds (5 at most).

    Args:
        arguments: of a redis-py connection, as `Endpoint.resolve` gives them.
        name: shown by CLIENT LIST; empty for none.
        display: the URL for people.
        timeout: seconds.

    Raises:
        Away: nobody answers there.
        ConfigurationError: the user or password is refused.
    """
    arguments = dict(arguments)
    factory = arguments.pop("connection_class", Connection)
    connection: Connection = factory(
        **{
            **arguments,
            "socket_timeout": None,
            "socket_connect_timeout": CONNECT_TIMEOUT,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "client_name": None,  # below: a user who may not give one is served all the same
            "driver_info": None,
            "decode_responses": False,
            "health_check_interval": 0,
        }
    )
    try:
        async with asyncio.timeout(min(timeout, CONNECT_TIMEOUT)):
            await cast("Any", connection).connect()
            if name:
                await write_now(connection, pack(("CLIENT", "SETNAME", name))).drain()
                with suppress(exceptions.NoPermissionError):
                    await read_reply(connection)
    except REFUSED as error:
        await drop(connection)
        raise ConfigurationError(f"{display}: {error}") from None
    except exceptions.ResponseError as error:
        await drop(connection)
        if "DB index" in str(error) or "SELECT is not allowed" in str(error):
            raise ConfigurationError(f"{display}: {error}") from None
        raise Away(f"{display}: {error}", sent=False) from None
    except (TimeoutError, exceptions.InvalidResponse, *AWAY) as error:
        await drop(connection)
        raise await unreachable(display, error, {**arguments, "connection_class": factory}) from None
    except BaseException:
        await drop(connection)
        raise
    return connection


async def unreachable(display: str, error: Exception, arguments: dict[str, Any]) -> Away:
    """Why there is no connection, and what to do where that is known. It may ask the server once more, for at most 0.5 s."""
    told = f"{display}: {str(error) or 'no answer'}"
    advised = advice(error, arguments) or await other_way(error, arguments)
    if advised:
        return Away(f"{told.rstrip('.')}: {advised}", sent=False)
    return Away(told, sent=False, silent=isinstance(error, TimeoutError))


class Wire:
    """One connection, made at first use and made again after a failure; calls are one at a time.

    Args:
        endpoint: where.
        name: shown by CLIENT LIST.
    """

    __slots__ = ("_connection", "_endpoint", "_lock", "_name", "_replies")

    def __init__(self, endpoint: Connects, name: str) -> None:
        self._endpoint = endpoint
        self._name = name
        self._connection: Connection | None = None
        self._replies: Replies | None = None
        self._lock = asyncio.Lock()

    @property
    def connected(self) -> bool:
        """Whether there is a connection at the moment."""
        return self._replies is not None and self._replies.open

    @property
    def display(self) -> str:
        """Where it leads, for people."""
        return self._endpoint.display

    async def call(
        self,
        *command: Argument,
        timeout: float = CALL_TIMEOUT,  # noqa: ASYNC109 - one timer per call
        at_once: Callable[[Any], None] | None = None,
    ) -> Any:
        """Send one command and return its reply (bytes, int, list or None).

        Args:
            command: its name and arguments.
            timeout: seconds.
            at_once: called with the reply in the moment in which it arrives, before any task goes on; not with an error.

        Raises:
            Away: Redis is not there, or did not answer in time (seconds).
            redis.exceptions.ResponseError: Redis answered with an error.
        """
        (reply,) = await self._exchange(pack(command), 1, timeout, at_once)
        if isinstance(reply, exceptions.RedisError):
            raise _classify(reply)
        return reply

    async def call_many(self, commands: Iterable[Sequence[Argument]], *, timeout: float = CALL_TIMEOUT) -> list[Any]:  # noqa: ASYNC109 - one timer per call
        """Send several commands at once; error replies are returned in their places.

        Raises:
            Away: Redis is not there, or did not answer in time (seconds).
        """
        packed = [pack(tuple(command)) for command in commands]
        replies = await self._exchange(b"".join(packed), len(packed), timeout)
        for reply in replies:
            if isinstance(reply, AWAY):
                raise Away(str(reply)) from None
        return replies

    async def run(
        self,
        script: Script,
        keys: Sequence[Argument],
        arguments: Sequence[Argument],
        *,
        timeout: float = CALL_TIMEOUT,  # noqa: ASYNC109 - one timer per call
    ) -> Any:
        """Run a script by its digest; a Redis that does not know it (restart, SCRIPT FLUSH, failover) is given it.

        Raises:
            Away: Redis is not there, or did not answer in time (seconds).
            redis.exceptions.ResponseError: the script answered with an error.
        """
        packed = pack(("EVALSHA", script.sha, len(keys), *keys, *arguments))
        (reply,) = await self._exchange(packed, 1, timeout)
        if isinstance(reply, exceptions.NoScriptError):
            packed = pack(("EVAL", script.source, len(keys), *keys, *arguments))
            (reply,) = await self._exchange(packed, 1, timeout)
        if isinstance(reply, exceptions.RedisError):
            raise _classify(reply)
        return reply

    def free(self) -> Replies | None:
        """The connection, if it is there and nobody uses it: for a request that is begun, and not waited for here."""
        replies = self._replies
        return replies if replies is not None and replies.free and not self._lock.locked() else None

    async def close(self) -> None:
        """Close the connection. A later call makes a new one."""
        connection, self._connection, self._replies = self._connection, None, None
        if connection is not None:
            await drop(connection)

    def abandon(self) -> None:
        """Forget a connection of another process or of a loop that is gone, without touching that loop."""
        connection, self._connection, self._replies = self._connection, None, None
        if connection is None:
            return
        writer = connection._writer  # noqa: SLF001 - there is no public way to leave a dead loop's socket
        connection._writer = connection._reader = None  # noqa: SLF001 - as above
        if writer is not None:
            sock = writer.transport.get_extra_info("socket")
            raw = getattr(sock, "_sock", sock)
            if raw is not None:
                raw.close()

    async def _exchange(
        self,
        packed: bytes,
        count: int,
        timeout: float,  # noqa: ASYNC109 - one timer per call
        at_once: Callable[[Any], None] | None = None,
    ) -> list[Any]:
        async with self._lock:
            replies = self._replies
            if replies is not None:
                await replies.unoccupied()
            if replies is None or not replies.open:  # a restarted Redis is noticed without a failed call
                await self.close()
                self._connection = await self._endpoint.connect(self._name, timeout=timeout)
                replies = self._replies = Replies(self._connection)
            done = False
            try:
                received = await replies.to(packed, count, timeout=timeout, at_once=at_once)
                for reply in received:
                    _refuse(reply)
                done = True
            except TimeoutError:
                raise Away(f"{self._endpoint.display}: no answer within {timeout:g} s") from None
            except AWAY as error:
                raise Away(f"{self._endpoint.display}: {error}") from None
            finally:
                if not done:
                    connection, self._connection, self._replies = self._connection, None, None
                    if connection is not None:  # else it was closed meanwhile
                        close_now(connection)
            return received


def _refuse(reply: Any) -> None:
    """Raise a reply after which a connection is of no use."""
    if isinstance(reply, exceptions.ConnectionError):
        raise reply
    if isinstance(reply, exceptions.ResponseError) and is_no_master(reply):
        raise exceptions.ReadOnlyError(str(reply))  # and ask anew who the master is


async def read_reply(connection: Connection) -> Any:
    """The next reply, without redis-py's scope and checks per reply.

    Raises:
        redis.exceptions.RedisError: an error reply, or the connection broke.
    """
    parser: Any = connection._parser  # noqa: SLF001 - see above
    return await parser.read_response()


def write_now(connection: Connection, packed: bytes) -> asyncio.StreamWriter:
    """Write without redis-py's task per send; `drain` of what is returned waits until it is sent."""
    writer: Any = connection._writer  # noqa: SLF001 - see above
    if writer is None:
        raise exceptions.ConnectionError("the connection is closed")
    writer.write(packed)
    return cast("asyncio.StreamWriter", writer)


def close_now(connection: Connection) -> None:
    """Close at once, also in the middle of a cancellation."""
    _end_tls(connection)
    closing: Any = connection
    closing._close()  # noqa: SLF001 - disconnect() awaits


def is_no_master(error: Exception) -> bool:
    """Whether an error reply says that this node is a master no longer."""
    return isinstance(error, exceptions.ReadOnlyError) or any(text in str(error) for text in _NO_MASTER)


def is_refusal(error: Exception) -> bool:
    """Whether an error reply says that the user may not: run a command, reach a key, or do so inside a script."""
    return isinstance(error, exceptions.NoPermissionError) or any(text in str(error) for text in _REFUSED_IN_SCRIPT)


def raise_error(reply: object) -> None:
    """Raise a reply that is an error, as `Wire.run` would."""
    if isinstance(reply, exceptions.RedisError):
        raise _classify(reply)


def _classify(error: Exception) -> Exception:
    return Away(str(error)) if isinstance(error, AWAY) or str(error).startswith(_NOT_NOW) else error


def _end_tls(connection: Connection) -> None:
    """End TLS without waiting for the other side's farewell: nothing is on its way, and a loop that ends next would leave the socket open."""
    writer: Any = connection._writer  # noqa: SLF001 - see above
    if writer is not None and writer.get_extra_info("ssl_object") is not None:
        writer.transport.abort()


async def drop(connection: Connection) -> None:
    """Close, whatever state it is in."""
    _end_tls(connection)
    try:
        await connection.disconnect(nowait=True)
    except (*AWAY, exceptions.RedisError):
        close_now(connection)
