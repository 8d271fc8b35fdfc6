"""Who is where: the master that Sentinels name, and the nodes that hold a cluster's slots.

No I/O here: a search is a generator that yields questions and is sent the replies, so that the event loop's connections and the
heartbeat thread's look for a node in the same way.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from aiojobs_rt.adapters.redis.connection import Away
from aiojobs_rt.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

T = TypeVar("T")

SLOTS = 16_384


class Address(NamedTuple):
    """Where a node listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Question:
    """A command for one node; its reply is sent back, an exception where there was none."""

    address: Address
    command: tuple[str, ...]
    of_sentinel: bool = False


Search = Generator[Question, Any, T]


def find_master(
    sentinels: Sequence[Address], name: str, last: Address | None
) -> Search[tuple[Address, Address | None]]:
    """The master of that name, and the Sentinel that knew it. While no Sentinel answers, the last one known is asked whether it still is.

    Raises:
        Away: there is none at the moment; says what each Sentinel answered.
    """
    said: list[str] = []
    answered = False
    for sentinel in sentinels:
        reply = yield Question(sentinel, ("SENTINEL", "get-master-addr-by-name", name), of_sentinel=True)
        if isinstance(reply, ConfigurationError):
            raise reply
        if isinstance(reply, Exception):
            said.append(f"Sentinel {sentinel}: {reply}")
            continue
        answered = True
        if reply is None:
            said.append(f"Sentinel {sentinel} knows no master named {name!r}")
            continue
        master = Address(reply[0].decode(), int(reply[1]))
        if (trouble := _no_master(master, (yield Question(master, ("ROLE",))))) == "":
            return master, sentinel
        said.append(trouble)
    if last is not None and not answered and _no_master(last, (yield Question(last, ("ROLE",)))) == "":
        return last, None
    raise Away("; ".join(dict.fromkeys(said)), sent=False)


def _no_master(address: Address, reply: object) -> str:
    """Why it is no master; empty when it is one."""
    if isinstance(reply, ConfigurationError):
        raise reply
    if isinstance(reply, Exception):
        return str(reply)
    role = cast("list[bytes]", reply)[0]
    return "" if role == b"master" else f"{address} is a {role.decode()}, no master"


@dataclass(frozen=True, slots=True)
class SlotMap:
    """Which node holds which slot; `nodes` are all that were named, replicas too."""

    owners: list[Address | None]
    nodes: list[Address]


def find_slots(nodes: Iterable[Address]) -> Search[SlotMap]:
    """The slots' owners, by the first node that answers.

    Raises:
        Away: none does.
        ConfigurationError: it is no cluster.
    """
    said: list[str] = []
    for node in nodes:
        reply = yield Question(node, ("CLUSTER", "SLOTS"))
        if isinstance(reply, Exception):
            if "cluster support disabled" in str(reply):
                raise ConfigurationError(f"{node} is no node of a cluster: use redis:// for it")
            if isinstance(reply, ConfigurationError):
                raise reply
            said.append(str(reply))
            continue
        if reply:
            return _slot_map(reply, node)
        said.append(f"{node} knows no slots")
    raise Away("; ".join(dict.fromkeys(said)) or "no node of the cluster is known", sent=False)


def _slot_map(reply: list[Any], asked: Address) -> SlotMap:
    owners: list[Address | None] = [None] * SLOTS
    nodes: dict[Address, None] = {}
    for start, end, *places in reply:
        named = [Address((host or b"").decode() or asked.host, port) for host, port, *_ in places]
        owners[start : end + 1] = [named[0]] * (end + 1 - start)
        nodes.update(dict.fromkeys(named))
    return SlotMap(owners, list(nodes))


async def search(finding: Search[T], ask: Callable[[Question], Awaitable[Any]]) -> T:
    """Drive a search: `ask` returns a reply, or raises, which is a reply too."""
    reply: Any = None
    while True:
        try:
            question = finding.send(reply)
        except StopIteration as found:
            return cast("T", found.value)
        try:
            reply = await ask(question)
        except Exception as error:  # noqa: BLE001 - the search judges it
            reply = error


def search_blocking(finding: Search[T], ask: Callable[[Question], Any]) -> T:
    """As `search`, in a thread without an event loop."""
    reply: Any = None
    while True:
        try:
            question = finding.send(reply)
        except StopIteration as found:
            return cast("T", found.value)
        try:
            reply = ask(question)
        except Exception as error:  # noqa: BLE001 - the search judges it
            reply = error
