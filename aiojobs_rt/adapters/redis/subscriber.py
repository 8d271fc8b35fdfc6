"""Subscriber: one pub/sub connection for many listeners. What it misses while Redis is away, nobody tells: listeners look for themselves."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, cast

from redis import exceptions

from aiojobs_rt.adapters.redis.connection import AWAY, Away, close_now, pack, read_reply, write_now
from aiojobs_rt.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio.connection import Connection

    from aiojobs_rt.adapters.redis.endpoint import Endpoint

logger = logging.getLogger("aiojobs_rt.subscriber")


class Subscriber:
    """Channels and who listens to them. Connected while anyone listens, and again after a failure.

    Args:
        endpoint: where.
        name: shown by CLIENT LIST.
    """

    def __init__(self, endpoint: Endpoint, name: str) -> None:
        self._endpoint = endpoint
        self._name = name
        self._listeners: dict[str, list[Callable[[bytes], None]]] = {}
        self._confirmed: dict[str, asyncio.Event] = {}
        self._connection: Connection | None = None
        self._reader: asyncio.Task[None] | None = None

    async def listen(self, channel: str, listener: Callable[[bytes], None]) -> None:
        """Call `listener` with each message; returns once Redis has confirmed, or after a moment while it is away."""
        first = channel not in self._listeners
        self._listeners.setdefault(channel, []).append(listener)
        if first:
            self._confirmed[channel] = asyncio.Event()
            if self._connection is not None:
                self._write("SUBSCRIBE", channel)
        if self._reader is None:
            self._reader = asyncio.get_running_loop().create_task(self._run(), name="aiojobs_rt subscriber")
        try:
            async with asyncio.timeout(1):
                await self._confirmed[channel].wait()
        except TimeoutError:
            pass
        except BaseException:
            self.leave(channel, listener)
            raise

    def leave(self, channel: str, listener: Callable[[bytes], None]) -> None:
        """No more messages for `listener`."""
        listeners = self._listeners.get(channel, [])
        if listener in listeners:
            listeners.remove(listener)
        if listeners or channel not in self._listeners:
            return
        del self._listeners[channel], self._confirmed[channel]
        if self._connection is not None:
            self._write("UNSUBSCRIBE", channel)

    async def aclose(self) -> None:
        """Stop listening."""
        self._listeners.clear()
        self._confirmed.clear()
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            await asyncio.wait([reader])

    async def _run(self) -> None:
        failures = 0
        try:
            while True:
                try:
                    self._connection = await self._endpoint.connect(self._name)
                    if self._listeners:
                        self._write("SUBSCRIBE", *self._listeners)
                    while True:
                        self._deliver(await read_reply(self._connection))
                        failures = 0
                except (Away, ConfigurationError, *AWAY):
                    failures += 1
                finally:
                    self._disconnect()
                await asyncio.sleep(min(2.0, 0.05 * 2 ** min(failures, 6)) * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        finally:
            self._reader = None

    def _deliver(self, message: object) -> None:
        if isinstance(message, exceptions.ResponseError):
            logger.error(
                "Redis refuses to let %s listen (%s): grant its user the channels, in an ACL as &PREFIX:*; "
                "until then what they would tell is noticed late",
                self._name,
                message,
            )
        if not isinstance(message, list) or len(message) != 3:
            return
        kind, channel, payload = cast("list[bytes]", message)
        name = channel.decode()
        if kind == b"message":
            for listener in list(self._listeners.get(name, ())):
                listener(payload)
        elif kind == b"subscribe" and name in self._confirmed:
            self._confirmed[name].set()

    def _write(self, *command: str) -> None:
        if self._connection is not None and self._connection.is_connected:
            write_now(self._connection, pack(command))

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            close_now(connection)
        for confirmed in self._confirmed.values():
            confirmed.clear()
