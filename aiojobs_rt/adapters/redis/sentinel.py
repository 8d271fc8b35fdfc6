"""Sentinel: the endpoint that asks the Sentinels for the master whenever a connection is made."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from aiojobs_rt.adapters.redis.connection import CONNECT_TIMEOUT, Away, open_connection
from aiojobs_rt.adapters.redis.several import FRESH, SeveralHosts
from aiojobs_rt.adapters.redis.topology import find_master, search, search_blocking
from aiojobs_rt.errors import ConfigurationError

if TYPE_CHECKING:
    from redis.asyncio.connection import Connection

    from aiojobs_rt.adapters.redis.topology import Address, Question

_MASTER_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")


class SentinelEndpoint(SeveralHosts):
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
