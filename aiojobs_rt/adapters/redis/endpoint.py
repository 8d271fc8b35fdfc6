"""Endpoints: a URL, checked, and how to get from it to the node that a call is for.

* `Endpoint`: one server, which is always the one; also `embedded://`, whose server is started first.
* `SentinelEndpoint`: asks the Sentinels for the master whenever a connection is made.
* `ClusterEndpoint`: knows which node holds which slot, and learns from redirections and failures.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import time
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from redis.asyncio.connection import Connection, parse_url
from redis.asyncio.connection import SSLConnection as AsyncSSLConnection
from redis.backoff import NoBackoff
from redis.connection import Connection as SyncConnection
from redis.connection import SSLConnection, UnixDomainSocketConnection
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, RedisError
from redis.retry import Retry

from aiojobs_rt.adapters.redis.connection import (
    AWAY,
    CONNECT_TIMEOUT,
    REFUSED,
    Away,
    close_now,
    open_connection,
    pack,
    read_reply,
    write_now,
)
from aiojobs_rt.adapters.redis.topology import (
    Address,
    Question,
    SlotMap,
    find_master,
    find_slots,
    search,
    search_blocking,
)
from aiojobs_rt.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Hashable

    from aiojobs_rt.adapters.redis.embedded import EmbeddedServer

_IN_QUERY = re.compile(r"(?P<name>[?&][^?&=]*=)[^&]*")
_PASSWORD_FOR_HOST = re.compile(r"^([^:/]+://(?:\[[^\]]*\]|[^:/\[]*):)(?!\d+(?:[,/?#]|$))[^/?#]+")
_HOST = re.compile(r"(?P<host>\[[^\]]+\]|[^:\[\],]+)(?::(?P<port>[0-9]{1,5}))?")
_MASTER_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")

ASK_TIMEOUT = 1.0
"""Seconds for the answer of a Sentinel, or of a node about the cluster."""
FRESH = 0.1
"""For so many seconds an answer is not asked for again."""


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


class _Several(Endpoint):
    """A URL that names several hosts: what Sentinels and clusters have in common."""

    default_port = 0

    def _read_hosts(self, database: str, query: dict[str, str]) -> list[Address]:
        """Take the hosts from the URL, and the arguments of a connection to any of them."""
        parts = urlsplit(self._url)
        user, at, hosts = parts.netloc.rpartition("@")
        scheme = "rediss" if parts.scheme.startswith("rediss") else "redis"
        options = f"?{urlencode(query)}" if query else ""
        self._arguments = self._parse(f"{scheme}://{user}{at}localhost/{database}{options}")
        addresses: list[Address] = []
        for text in hosts.split(","):
            match = _HOST.fullmatch(text)
            if match is None or int(match["port"] or 1) > 65_535:  # not shown: it may be part of a password
                raise ConfigurationError(f"{self.display}: its hosts must be HOST or HOST:PORT, with commas in between")
            addresses.append(Address(match["host"].strip("[]"), int(match["port"] or self.default_port)))
        return addresses

    def _query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self._url).query, keep_blank_values=True))

    def _arguments_for(self, question: Question) -> dict[str, Any]:
        return self.arguments_at(question.address)

    def arguments_at(self, address: Address) -> dict[str, Any]:
        """The arguments of a connection to one node."""
        return {**(self._arguments or {}), "host": address.host, "port": address.port}

    async def _ask(self, question: Question) -> Any:
        arguments = self._arguments_for(question)
        connection = await open_connection(arguments, "", str(question.address), timeout=ASK_TIMEOUT)
        try:
            async with asyncio.timeout(ASK_TIMEOUT):
                await write_now(connection, pack(question.command)).drain()
                return await read_reply(connection)
        except TimeoutError:
            raise Away(f"{question.address}: no answer within {ASK_TIMEOUT:g} s", sent=False) from None
        finally:
            close_now(connection)

    def _ask_blocking(self, question: Question) -> Any:
        arguments = self._arguments_for(question)
        kind: Any = sync_kind(arguments)
        connection = kind(
            **{
                **arguments,
                "socket_timeout": ASK_TIMEOUT,
                "socket_connect_timeout": ASK_TIMEOUT,
                "retry": Retry(NoBackoff(), 0),
                "protocol": 2,
                "driver_info": None,
                "decode_responses": False,
            }
        )
        try:
            connection.connect()
            connection.send_command(*question.command)
            return connection.read_response()
        except REFUSED as error:
            raise ConfigurationError(f"{question.address}: {error}") from None
        except AWAY as error:
            raise Away(f"{question.address}: {error}", sent=False) from None
        finally:
            connection.disconnect()


class SentinelEndpoint(_Several):
    """The master of a name, wherever it is: `redis+sentinel://[USER:PASSWORD@]HOST:PORT,.../NAME[/DB]`.

    Who it is is asked whenever a connection is made; a master that has become a replica is left at its first READONLY.
    """

    default_port = 26_379

    def _read_url(self) -> None:
        name, _, database = urlsplit(self._url).path.strip("/").partition("/")
        query = self._query()
        secrets = {key: query.pop(f"sentinel_{key}", None) for key in ("username", "password")}
        self._sentinels = self._read_hosts(database, query)
        self._name = unquote(name)
        if not _MASTER_NAME.fullmatch(self._name):
            raise ConfigurationError(
                f"{self.display} names no master: redis+sentinel://HOST:PORT,…/NAME/DB, as in `sentinel monitor NAME …`"
            )
        self._of_sentinel = {
            **{
                key: value
                for key, value in (self._arguments or {}).items()
                if key not in ("db", "username", "password")
            },
            **{key: value for key, value in secrets.items() if value},
        }
        self._master: Address | None = None
        self._found_at = -FRESH

    def resolve(self, key: str = "") -> dict[str, Any]:  # noqa: ARG002 - they all are in one place
        """See `Endpoint.resolve`."""
        if self._master is None or time.monotonic() - self._found_at > FRESH:
            self._note(search_blocking(find_master(self._sentinels, self._name, self._master), self._ask_blocking))
        assert self._master is not None  # noqa: S101 - _note has set it
        return self.arguments_at(self._master)

    async def connect(self, name: str, *, timeout: float = CONNECT_TIMEOUT) -> Connection:  # noqa: ASYNC109 - its error names the URL
        """See `Endpoint.connect`."""
        if self._master is None or time.monotonic() - self._found_at > FRESH:
            try:
                self._note(await search(find_master(self._sentinels, self._name, self._master), self._ask))
            except Away as error:
                raise Away(f"{self.display}: {error}", sent=False) from None
        assert self._master is not None  # noqa: S101 - _note has set it
        return await open_connection(self.arguments_at(self._master), name, self.display, timeout=timeout)

    def _note(self, found: tuple[Address, Address | None]) -> None:
        self._master, sentinel = found
        self._found_at = time.monotonic()
        if sentinel is not None:  # one that answers is asked first
            self._sentinels = [sentinel, *(other for other in self._sentinels if other != sentinel)]

    def _arguments_for(self, question: Question) -> dict[str, Any]:
        if question.of_sentinel:
            return {**self._of_sentinel, "host": question.address.host, "port": question.address.port}
        return self.arguments_at(question.address)


class ClusterEndpoint(_Several):
    """The nodes of a cluster: `redis+cluster://[USER:PASSWORD@]HOST:PORT,...`; the hosts are those to begin with.

    Keys go to the node that holds their slot, as the map of the slots says. A redirection corrects the map; a failure has it read anew.
    """

    clustered = True
    default_port = 6_379

    def _read_url(self) -> None:
        if urlsplit(self._url).path.strip("/") not in ("", "0"):
            raise ConfigurationError(
                f"{self.display}: a cluster has no databases but 0; leave out what stands after the hosts"
            )
        self._seeds = self._read_hosts("", self._query())
        self._map = SlotMap([], [])
        self._stale = True
        self._read_at = -FRESH

    def place(self, key: str) -> Hashable:
        """The node of a key."""
        return self._map.owners[key_slot(key.encode())] if self._map.owners else None

    def note_error(self, error: Exception) -> bool:
        """See `Endpoint.note_error`."""
        if isinstance(error, AskError):  # also MOVED
            if isinstance(error, MovedError):
                self._map.owners[error.slot_id] = Address(error.host or self._seeds[0].host, error.port)
                self._stale = True
                return True
            return False
        self._stale = True
        return False

    def resolve(self, key: str = "") -> dict[str, Any]:
        """See `Endpoint.resolve`."""
        if self._must_read():
            self._note(search_blocking(find_slots(self._nodes()), self._ask_blocking))
        return self.arguments_at(self._owner(key))

    async def locate(self, key: str) -> Address:
        """The node of a key.

        Raises:
            Away: it can't be found out, or nobody holds the key's slot.
            ConfigurationError: it is no cluster.
        """
        if self._must_read():
            await self._read()
        return self._owner(key)

    async def connect(self, name: str, *, timeout: float = CONNECT_TIMEOUT) -> Connection:  # noqa: ASYNC109 - its error names the URL
        """See `Endpoint.connect`."""
        if self._must_read():
            await self._read()
        nodes = list(dict.fromkeys(owner for owner in self._map.owners if owner is not None))
        random.shuffle(nodes)
        error: Exception = Away(f"{self.display}: no node is known", sent=False)
        for node in nodes:
            try:
                return await open_connection(self.arguments_at(node), name, str(node), timeout=timeout)
            except Away as away:
                error = away
        self._stale = True
        raise error

    def _must_read(self) -> bool:
        return not self._map.owners or (self._stale and time.monotonic() - self._read_at > FRESH)

    async def _read(self) -> None:
        try:
            self._note(await search(find_slots(self._nodes()), self._ask))
        except Away as error:
            raise Away(f"{self.display}: {error}", sent=False) from None

    def _nodes(self) -> list[Address]:
        """Whom to ask, in which order: what is known, shuffled, then the URL's."""
        known = list(self._map.nodes)
        random.shuffle(known)
        return list(dict.fromkeys([*known, *self._seeds]))

    def _note(self, found: SlotMap) -> None:
        self._map = found
        self._stale = False
        self._read_at = time.monotonic()

    def _owner(self, key: str) -> Address:
        slot = key_slot(key.encode())
        owner = self._map.owners[slot]
        if owner is None:
            self._stale = True
            raise Away(f"{self.display}: no node holds slot {slot}", sent=False)
        return owner


def _without_secret(option: re.Match[str]) -> str:
    """An option in a URL's query; without its value when it is a password of any kind, however it is spelt."""
    return f"{option['name']}***" if "pass" in unquote(option[0]).lower() else option[0]


def sync_kind(arguments: dict[str, Any]) -> Any:
    """Take the connection's class out of its arguments: its twin for threads without an event loop."""
    kind = arguments.pop("connection_class", None)
    if kind is AsyncSSLConnection:
        return SSLConnection
    return UnixDomainSocketConnection if "path" in arguments else SyncConnection


def endpoint_of(url: str) -> Endpoint:
    """The endpoint of a URL, by its scheme.

    Raises:
        ConfigurationError: the URL is wrong.
    """
    scheme = url.partition("://")[0] if isinstance(url, str) else ""  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
    if scheme in ("redis+sentinel", "rediss+sentinel"):
        return SentinelEndpoint(url)
    if scheme in ("redis+cluster", "rediss+cluster"):
        return ClusterEndpoint(url)
    return Endpoint(url)
