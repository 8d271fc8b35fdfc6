"""Endpoints: a URL, checked, and how to get from it to the node that a call is for.

Here is the endpoint of one server, which is always the one; also `embedded://`, whose server is started first. Those of several
hosts are in `sentinel.py` and `cluster.py`; `endpoints.py` has the one of a URL.
"""

from __future__ import annotations

import asyncio
import os
import re
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote, urlsplit

from redis.asyncio.connection import Connection, parse_url
from redis.asyncio.connection import SSLConnection as AsyncSSLConnection
from redis.connection import Connection as SyncConnection
from redis.connection import SSLConnection, UnixDomainSocketConnection
from redis.exceptions import RedisError

from aiojobs_rt.adapters.redis.connection import CONNECT_TIMEOUT, open_connection
from aiojobs_rt.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Hashable

    from aiojobs_rt.adapters.redis.embedded import EmbeddedServer

_IN_QUERY = re.compile(r"(?P<name>[?&][^?&=]*=)[^&]*")
_PASSWORD_FOR_HOST = re.compile(r"^([^:/]+://(?:\[[^\]]*\]|[^:/\[]*):)(?!\d+(?:[,/?#]|$))[^/?#]+")


class Connects(Protocol):
    """What makes connections to one place."""

    @property
    def display(self) -> str:
        """The place, for people."""
        ...

    async def connect(self, name: str, *, timeout: float) -> Connection:  # noqa: ASYNC109 - as open_connection
        """A new connection; see `open_connection`."""
        ...


class Endpoint:
    """Where Redis is: one server, from whose URL connections are made.

    Attributes:
        clustered: whether keys live on several nodes.

    Raises:
        ConfigurationError: the URL is wrong.
    """

    clustered = False

    def __init__(self, url: str) -> None:
        if not isinstance(url, str):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
            raise ConfigurationError(f"a Redis URL is text such as redis://localhost:6379/0, got {type(url).__name__}")
        self._url = url
        self._embedded: EmbeddedServer | None = None
        self._arguments: dict[str, Any] | None = None
        self._pid = 0
        self._read_url()

    def _read_url(self) -> None:
        scheme = self._url.partition("://")[0]
        if scheme == "embedded":
            return
        if scheme not in ("redis", "rediss", "unix"):
            raise ConfigurationError(
                f"{self.display} is no Redis URL: use redis://HOST:PORT/DB, rediss://…, unix:///PATH, "
                "redis+sentinel://HOST:PORT,…/NAME, redis+cluster://HOST:PORT,… or embedded://DIR"
            )
        self._arguments = self._parse(self._url)

    @property
    def url(self) -> str:
        """The URL as given, password included."""
        return self._url

    @property
    def display(self) -> str:
        """The URL for people: without the password, however malformed the URL is."""
        head, at, tail = self._url.rpartition("@")
        scheme, sep, user = head.partition("://")
        if at:
            shown = f"{scheme}://{user.partition(':')[0]}:***@{tail}" if sep else f"***@{tail}"
        else:
            shown = _PASSWORD_FOR_HOST.sub(r"\1***", tail)
        return _IN_QUERY.sub(_without_secret, shown)

    def place(self, key: str) -> Hashable:  # noqa: ARG002 - they all are in one place
        """What keys of one node have in common, as far as is known."""
        return None

    def note_error(self, error: Exception) -> bool:  # noqa: ARG002 - there is no other place
        """Learn from a call that failed; whether it was sent to a wrong place and should be sent again to another."""
        return False

    def resolve(self, key: str = "") -> dict[str, Any]:  # noqa: ARG002 - they all are in one place
        """The arguments of a redis-py connection to the node of a key. For threads without an event loop: it may block for up to seconds.

        Raises:
            ConfigurationError: the server of an `embedded://` URL can't be started, or the Sentinels or the cluster refuse.
            Away: who has the key can't be found out.
        """
        if self._arguments is None or (self._embedded is not None and self._pid != os.getpid()):
            from aiojobs_rt.adapters.redis.embedded import acquire  # noqa: PLC0415 - it needs fcntl, which not every system has

            self._pid = os.getpid()  # a forked child is a user of its own
            self._embedded = acquire(self._url)
            self._arguments = self._parse(self._embedded.url)
        return dict(self._arguments)

    def release(self) -> None:
        """Leave the server of an `embedded://` URL."""
        if self._embedded is not None:
            self._embedded.release()
            self._embedded = self._arguments = None

    async def connect(self, name: str, *, timeout: float = CONNECT_TIMEOUT) -> Connection:  # noqa: ASYNC109 - its error names the URL
        """A new connection to the server, in a cluster to any of its nodes; see `open_connection`."""
        if self._arguments is None or self._embedded is not None:
            await asyncio.to_thread(self.resolve)
        return await open_connection(self.resolve(), name, self.display, timeout=timeout)

    def _parse(self, url: str) -> dict[str, Any]:
        database = urlsplit(url).path.strip("/") if not url.startswith("unix:") else ""
        if database and not database.isdigit():
            # it may be part of a password with a slash: it is not shown
            raise ConfigurationError(
                f"{self.display}: what stands after the host's slash must be the number of a database"
            )
        try:
            arguments = dict(parse_url(url))
            kind: Any = arguments.get("connection_class", Connection)
            kind(
                **{name: value for name, value in arguments.items() if name != "connection_class"}
            )  # it connects to nothing
        except ValueError as error:
            # urllib quotes what stands where the port should, which may be a password
            reason = "what stands after the host's colon is no port" if "Port could not" in str(error) else error
            raise ConfigurationError(f"{self.display}: {reason}") from None
        except (TypeError, RedisError) as error:
            unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            raise ConfigurationError(
                f"{self.display}: {f'there is no option {unknown[1]!r}' if unknown else error}"
            ) from None
        else:
            return arguments


def _without_secret(option: re.Match[str]) -> str:
    """An option in a URL's query; without its value when it is a password of any kind, however it is spelt."""
    return f"{option['name']}***" if "pass" in unquote(option[0]).lower() else option[0]


def sync_kind(arguments: dict[str, Any]) -> Any:
    """Take the connection's class out of its arguments: its twin for threads without an event loop."""
    kind = arguments.pop("connection_class", None)
    if kind is AsyncSSLConnection:
        return SSLConnection
    return UnixDomainSocketConnection if "path" in arguments else SyncConnection
