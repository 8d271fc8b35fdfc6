"""Key names: the data model, as names.

Every key of a queue carries the hash tag `{queue}`, so that a queue lives in one slot of a cluster. Every key either stands in
`PERMANENT` or has a TTL.
"""

from __future__ import annotations

import re
from functools import lru_cache

GROUP = "workers"
RETURNED = "returned"
SUSPECTS = "suspects"


class QueueKeys:
    """The names of one queue's keys. Names that end in a colon are prefixes: a job's id, a consumer or a day follows."""

    __slots__ = (
        "arrived",
        "base",
        "call",
        "cancelled",
        "dead",
        "errors",
        "grace",
        "index",
        "lanes",
        "moved",
        "outgoing",
        "parked",
        "paused",
        "progress",
        "queue",
        "recent",
        "result",
        "retries",
        "scheduled",
        "stats",
        "stream",
        "wake",
        "workers",
    )

    def __init__(self, prefix: str, queue: str) -> None:
        base = f"{prefix}:{{{queue}}}:"
        self.queue = queue
        self.base = base
        self.stream = base + "stream"
        self.lanes = base + "lanes"
        self.scheduled = base + "scheduled"
        self.retries = base + "retries"
        self.dead = base + "dead"
        self.parked = base + "parked"
        self.index = base + "index"
        self.call = base + "call:"
        self.workers = base + "workers"
        self.grace = base + "grace"
        self.wake = base + "wake:"
        self.cancelled = base + "cancelled"
        self.paused = base + "paused"
        self.progress = base + "progress:"
        self.recent = base + "recent"
        self.stats = base + "stats"
        self.result = base + "result:"
        self.errors = base + "errors:"
        self.outgoing = base + "outgoing"
        self.moved = base + "moved:"
        self.arrived = base + "arrived:"

    def lane(self, lane: str) -> str:
        """The stream of a lane; the empty name is the main lane."""
        return f"{self.stream}:{lane}" if lane else self.stream


@lru_cache(maxsize=4096)
def queue_keys(prefix: str, queue: str) -> QueueKeys:
    """The key names of a queue, made once."""
    return QueueKeys(prefix, queue)


def queues_key(prefix: str) -> str:
    """The registry of queue names."""
    return f"{prefix}:queues"


def worker_key(prefix: str, worker: str) -> str:
    """A worker's details, for information only; has a TTL."""
    return f"{prefix}:worker:{worker}"


def control_channel(prefix: str) -> str:
    """The pub/sub channel of rare messages to all workers."""
    return f"{prefix}:control"


PERMANENT = re.compile(
    r"[A-Za-z0-9_:-]+:(queues|\{[A-Za-z0-9_~-]+\}:"
    r"(stream|stream:(p-?\d+|returned|suspects)|lanes|scheduled|retries|dead|parked|index|workers|cancelled|paused|recent|stats|outgoing))"
)


def is_permanent(key: str) -> bool:
    """Whether a key may exist without a TTL."""
    return PERMANENT.fullmatch(key) is not None
