"""What the parts of one worker share: its queues, Redis' clock, and whether Redis is there."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiojobs_rt.adapters.redis.adapter import RedisAdapter
    from aiojobs_rt.worker.served import Served

logger = logging.getLogger("aiojobs_rt.worker")


TELL_AGAIN = 3.0
MOST_REASONS = 4


class RedisClock:
    """Redis' time, estimated between replies: no clock of this machine is trusted for an instant."""

    __slots__ = ("_offset_ms",)

    def __init__(self) -> None:
        self._offset_ms = time.time() * 1000 - time.monotonic() * 1000

    def set(self, now_ms: int) -> None:
        """Take over the time of a reply that has just arrived."""
        self._offset_ms = now_ms - time.monotonic() * 1000

    def now_ms(self) -> int:
        """Redis' time now, in ms since the epoch."""
        return int(time.monotonic() * 1000 + self._offset_ms)

    def at_ms(self, instant: float) -> int:
        """Redis' time at an instant of time.monotonic()."""
        return int(instant * 1000 + self._offset_ms)

    def seconds_until(self, instant_ms: float) -> float:
        """How long it is until an instant of Redis' time."""
        return (instant_ms - self._offset_ms) / 1000 - time.monotonic()


class Availability:
    """Whether Redis is there: one log line per change, and a backoff that all loops share.

    Changes in quick succession (connections that are killed again and again) are summed up in one line every few seconds. What the first
    failure says may be no more than that a connection was cut: the reasons that come after it are told as well, each once, a few at most.
    """

    __slots__ = ("_away_since", "_display", "_failures", "_reasons", "_told", "_told_at", "_untold")

    def __init__(self, display: str) -> None:
        self._display = display
        self._away_since: float | None = None
        self._failures = 0
        self._told = False
        self._told_at = -TELL_AGAIN
        self._untold = 0
        self._reasons: set[str] = set()

    @property
    def away(self) -> bool:
        """Whether the last call failed."""
        return self._away_since is not None

    def succeeded(self) -> None:
        """A call was answered."""
        if self._away_since is None:
            return
        if self._told:
            logger.warning("Redis at %s is back after %.1f s", self._display, time.monotonic() - self._away_since)
            self._told_at = time.monotonic()
            self._told = False
        else:
            self._untold += 1
        self._away_since = None
        self._failures = 0

    def note(self, error: BaseException) -> None:
        """A call was not answered."""
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
        if not self._told and now - self._told_at >= TELL_AGAIN:
            more = f" ({self._untold} short interruptions since the last report)" if self._untold else ""
            logger.warning(
                "Redis at %s is away: %s; running jobs go on, outcomes are kept%s", self._display, error, more
            )
            self._told, self._untold = True, 0
            self._reasons, self._told_at = {str(error)}, now
        elif (
            self._told
            and now - self._told_at >= TELL_AGAIN
            and len(self._reasons) < MOST_REASONS
            and str(error) not in self._reasons
        ):
            logger.warning("Redis at %s is still away after %.1f s: %s", self._display, now - self._away_since, error)
            self._reasons.add(str(error))
            self._told_at = now
        self._failures += 1

    async def failed(self, error: BaseException) -> None:
        """A call was not answered: note it, and wait a moment (0.05 to 1 s, with jitter)."""
        self.note(error)
        await asyncio.sleep(min(1.0, 0.05 * 2 ** min(self._failures, 5)) * random.uniform(0.6, 1.0))  # noqa: S311 - jitter


class WorkerState:
    """Shared by the parts of a worker.

    Attributes:
        adapter: where its queues are.
        name: the worker's name, unique per process and start.
        lease: seconds.
        queues: those that it serves, by name.
        clock: Redis' time.
        redis: whether Redis is there; in a cluster, for what is asked of no queue.
        quiet: no new jobs are fetched.
    """

    def __init__(self, adapter: RedisAdapter, *, name: str, lease: float, queues: Iterable[Served]) -> None:
        self.adapter = adapter
        self.name = name
        self.lease = lease
        self.queues: dict[str, Served] = {served.name: served for served in queues}
        self.clock = RedisClock()
        self.redis = Availability(adapter.endpoint.display)
        self._redis_of: dict[str, Availability] = {}
        self.quiet = False

    def redis_of(self, queue: str) -> Availability:
        """Whether the server that holds a queue is there: in a cluster its node may be away alone."""
        if not self.adapter.endpoint.clustered:
            return self.redis
        found = self._redis_of.get(queue)
        if found is None:
            found = self._redis_of[queue] = Availability(f"{self.adapter.endpoint.display} for queue {queue}")
        return found

    @property
    def away(self) -> bool:
        """Whether Redis, or in a cluster a node with a queue of ours, is away."""
        return self.redis.away or any(redis.away for redis in self._redis_of.values())
