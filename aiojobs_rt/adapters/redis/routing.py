"""Wires for the keys of several queues: one connection for all of them, or in a cluster one to each node.

Who has calls for several queues holds a `Wires` and asks it for the wire of a queue. Where Redis is one server that is always the same one.
In a cluster it is a `ClusterWire`, which goes to the node that holds the queue's slot, and follows it when it moves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from redis import exceptions

from aiojobs_rt.adapters.redis.cluster import ClusterEndpoint
from aiojobs_rt.adapters.redis.connection import CALL_TIMEOUT, CONNECT_TIMEOUT, Away, Wire, open_connection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Container, Iterable, Sequence

    from redis.asyncio.connection import Connection

    from aiojobs_rt.adapters.redis.connection import Argument
    from aiojobs_rt.adapters.redis.endpoint import Endpoint
    from aiojobs_rt.adapters.redis.replies import Replies
    from aiojobs_rt.adapters.redis.scripts import Script
    from aiojobs_rt.adapters.redis.topology import Address

HOPS = 5


class Wires:
    """One wire for all keys, or in a cluster one to each node, made when it is first needed.

    Args:
        endpoint: where.
        name: shown by CLIENT LIST.
        apart: connections of its own for each key, because its calls block. Without a cluster a key may be any text.
    """

    __slots__ = ("_apart", "_by_key", "_cluster", "_endpoint", "_name", "_nodes", "_single")

    def __init__(self, endpoint: Endpoint, name: str, *, apart: bool = False) -> None:
        self._endpoint = endpoint
        self._cluster = endpoint if isinstance(endpoint, ClusterEndpoint) else None
        self._single = Wire(endpoint, name)
        self._name = name
        self._apart = apart
        self._nodes: dict[Address, Wire] = {}
        self._by_key: dict[str, Wire] = {}

    @property
    def any(self) -> Wire:
        """A wire for calls without a key: in a cluster, to any node."""
        return self._single

    def of(self, key: str) -> Wire:
        """The wire of a queue, or of a key that is no queue's."""
        if self._cluster is None and not self._apart:
            return self._single
        wire = self._by_key.get(key)
        if wire is None:
            if self._cluster is None:
                wire = Wire(self._endpoint, self._name)
            else:
                nodes: dict[Address, Wire] = {} if self._apart else self._nodes
                wire = ClusterWire(self._cluster, self._name, key, nodes)
            self._by_key[key] = wire
        return wire

    async def keep(self, keys: Container[str]) -> None:
        """Close the connections of all keys but these."""
        for key in [key for key in self._by_key if key not in keys]:
            await self._by_key.pop(key).close()

    async def close(self) -> None:
        """Close all connections. A later call makes new ones."""
        for wire in (self._single, *self._nodes.values(), *self._by_key.values()):
            await wire.close()

    def abandon(self) -> None:
        """Forget connections of another process or of a loop that is gone."""
        for wire in (self._single, *self._nodes.values(), *self._by_key.values()):
            wire.abandon()


class ClusterWire(Wire):
    """The wire of one key's slot: each call goes to the node that holds it.

    A call that was sent to a wrong node was not done, and goes to the right one. While the slot itself is being moved to another node,
    its calls are Away: they are tried again, as if Redis were gone for a moment.

    Args:
        cluster: who holds what.
        name: shown by CLIENT LIST.
        key: a queue's name, or a whole key.
        nodes: connections, by node; shared with other wires.
    """

    __slots__ = ("_cluster", "_key", "_nodes")

    def __init__(self, cluster: ClusterEndpoint, name: str, key: str, nodes: dict[Address, Wire]) -> None:
        super().__init__(cluster, name)
        self._cluster = cluster
        self._key = key
        self._nodes = nodes

    @property
    def connected(self) -> bool:
        """Whether there is a connection to any node."""
        return any(wire.connected for wire in self._nodes.values())

    async def call(
        self,
        *command: Argument,
        timeout: float = CALL_TIMEOUT,  # noqa: ASYNC109 - one timer per call
        at_once: Callable[[Any], None] | None = None,
    ) -> Any:
        """See `Wire.call`."""
        return await self._follow(lambda wire: wire.call(*command, timeout=timeout, at_once=at_once))

    async def run(
        self,
        script: Script,
        keys: Sequence[Argument],
        arguments: Sequence[Argument],
        *,
        timeout: float = CALL_TIMEOUT,  # noqa: ASYNC109 - one timer per call
    ) -> Any:
        """See `Wire.run`."""
        return await self._follow(lambda wire: wire.run(script, keys, arguments, timeout=timeout))

    async def call_many(self, commands: Iterable[Sequence[Argument]], *, timeout: float = CALL_TIMEOUT) -> list[Any]:  # noqa: ASYNC109 - one timer per call
        """See `Wire.call_many`."""
        commands = list(commands)
        replies: list[Any] = [None] * len(commands)
        left = list(range(len(commands)))
        for _ in range(HOPS):
            answers = await self._follow(
                lambda wire, left=left: wire.call_many([commands[i] for i in left], timeout=timeout)  # type: ignore[misc] # a lambda's default
            )
            for index, answer in zip(left, answers, strict=True):
                replies[index] = answer
            wrong = [index for index in left if isinstance(replies[index], exceptions.AskError)]
            if not wrong:
                return replies
            if not all(list(map(self._cluster.note_error, (replies[index] for index in wrong)))):
                break
            left = wrong
        raise Away(f"{self._cluster.display}: the slot of {self._key} is on its way to another node")

    def free(self) -> Replies | None:
        """See `Wire.free`: the connection to the node that holds the slot, as far as is known."""
        wire = self._nodes.get(cast("Address", self._cluster.place(self._key)))
        return None if wire is None else wire.free()

    async def close(self) -> None:
        """See `Wire.close`."""
        for wire in self._nodes.values():
            await wire.close()

    def abandon(self) -> None:
        """See `Wire.abandon`."""
        for wire in self._nodes.values():
            wire.abandon()

    async def _follow(self, send: Callable[[Wire], Awaitable[Any]]) -> Any:
        for _ in range(HOPS):
            address = await self._cluster.locate(self._key)
            wire = self._nodes.get(address)
            if wire is None:
                wire = self._nodes[address] = Wire(_Node(self._cluster, address), self._name)
            try:
                return await send(wire)
            except exceptions.AskError as error:  # also MOVED
                if not self._cluster.note_error(error):
                    break
            except Away as error:
                self._cluster.note_error(error)
                raise
        raise Away(f"{self._cluster.display}: the slot of {self._key} is on its way to another node", sent=False)


class _Node:
    """One node of a cluster, as a place to connect to."""

    __slots__ = ("_address", "_cluster")

    def __init__(self, cluster: ClusterEndpoint, address: Address) -> None:
        self._cluster = cluster
        self._address = address

    @property
    def display(self) -> str:
        return str(self._address)

    async def connect(self, name: str, *, timeout: float = CONNECT_TIMEOUT) -> Connection:  # noqa: ASYNC109 - as open_connection
        return await open_connection(self._cluster.arguments_at(self._address), name, self.display, timeout=timeout)
