"""Cluster: the endpoint that knows which node holds which slot, and learns from redirections and failures."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from redis.crc import key_slot
from redis.exceptions import AskError, MovedError

from aiojobs_rt.adapters.redis.connection import CONNECT_TIMEOUT, Away, open_connection
from aiojobs_rt.adapters.redis.several import FRESH, SeveralHosts
from aiojobs_rt.adapters.redis.topology import Address, SlotMap, find_slots, search, search_blocking
from aiojobs_rt.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Hashable

    from redis.asyncio.connection import Connection


class ClusterEndpoint(SeveralHosts):
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
