"""Several: what the endpoints of Sentinels and of a cluster have in common, a URL that names several hosts, and questions to one of them."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse
from redis.retry import Retry

from aiojobs_rt.adapters.redis.connection import (
    AWAY,
    REFUSED,
    Away,
    close_now,
    open_connection,
    pack,
    read_reply,
    unreachable,
    write_now,
)
from aiojobs_rt.adapters.redis.endpoint import Endpoint, sync_kind
from aiojobs_rt.adapters.redis.topology import Address
from aiojobs_rt.errors import ConfigurationError

if TYPE_CHECKING:
    from aiojobs_rt.adapters.redis.topology import Question

_HOST = re.compile(r"(?P<host>\[[^\]]+\]|[^:\[\],]+)(?::(?P<port>[0-9]{1,5}))?")

ASK_TIMEOUT = 1.0
"""Seconds for the answer of a Sentinel, or of a node about the cluster."""
FRESH = 0.1
"""For so many seconds an answer is not asked for again."""


class SeveralHosts(Endpoint):
    """A URL that names several hosts; its options are those of a connection to any of them."""

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
        except (InvalidResponse, *AWAY) as error:
            raise await unreachable(str(question.address), error, arguments) from None
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
