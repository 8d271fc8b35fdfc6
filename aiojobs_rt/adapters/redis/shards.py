"""Sharded queues: one queue name over several streams, each in a slot of its own.

Shard 0 is the queue itself; the others are queues named `NAME~1`, `NAME~2`, ... A job's id tells its shard (`bulk~3.6TwR...`), so a handle
finds it without knowing how many there are. Turning shards on moves nothing, and ids from elsewhere (an outbox) are on shard 0.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aiojobs_rt.core.message import check_queue_name, home_of
from aiojobs_rt.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from aiojobs_rt.adapters.base import Envelope

MOST = 1_000
_PART = re.compile(r"([A-Za-z0-9_-]{1,64})(?:~([1-9][0-9]{0,3}))?")


def parts_of(queue: str, count: int) -> list[str]:
    """The names of a queue's shards."""
    return [queue, *(f"{queue}~{shard}" for shard in range(1, count))]


def queue_of_part(part: str) -> str:
    """The queue that a shard is of."""
    return part.partition("~")[0]


def registered_parts(queue: str, names: Iterable[bytes]) -> list[str]:
    """The shards of a queue that the registry of queues names, in order."""
    found: list[int] = []
    for name in names:
        match = _PART.fullmatch(name.decode(errors="replace"))
        if match and match[1] == queue and match[2]:
            found.append(int(match[2]))
    return [f"{queue}~{shard}" for shard in sorted(found)]


class Shards:
    """How many shards which queue has, and whose turn it is.

    Args:
        counts: by queue name; 1 is no sharding.

    Raises:
        ConfigurationError: a name or a number is wrong.
    """

    def __init__(self, counts: Mapping[str, int]) -> None:
        for queue, count in counts.items():
            try:
                check_queue_name(queue)
            except ValueError as error:
                raise ConfigurationError(f"shards: {error}") from None
            if not isinstance(count, int) or not 1 <= count <= MOST:  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
                raise ConfigurationError(f"shards: queue {queue} has {count!r}; it must be from 1 to {MOST}")
        self._counts = {queue: count for queue, count in counts.items() if count > 1}
        self._turns = dict.fromkeys(self._counts, 0)

    def __bool__(self) -> bool:
        return bool(self._counts)

    def parts(self, queue: str) -> list[str]:
        """The names of a queue's shards; its own where it has no others."""
        return parts_of(queue, self._counts.get(queue, 1))

    def spread(self, envelopes: Sequence[Envelope]) -> None:
        """Give each job of a sharded queue its shard: call by call in turn, and what is enqueued together in even runs.

        One whose id was told before, by a handle, stays on the queue itself.
        """
        by_queue: dict[str, list[Envelope]] = {}
        for envelope in envelopes:
            if envelope.queue in self._counts and not envelope.placed and home_of(envelope.id) == envelope.queue:
                by_queue.setdefault(envelope.queue, []).append(envelope)
        for queue, group in by_queue.items():
            count = self._counts[queue]
            first = self._turns[queue]
            used = min(count, len(group))
            self._turns[queue] = (first + used) % count
            for index, envelope in enumerate(group):
                shard = (first + index * used // len(group)) % count
                if shard:
                    envelope.queue = f"{queue}~{shard}"
                    envelope.id = envelope.queue + envelope.id[len(queue) :]
