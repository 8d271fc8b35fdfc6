"""The order in which a worker reads its queues: strict, or by a weighted lottery. The shards of a queue take turns, and share its weight."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiojobs_rt.worker.served import Served
    from aiojobs_rt.worker.state import WorkerState


class Order:
    """The order of one worker's queues.

    Args:
        state: the worker's; its queues stand in strict order.
    """

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        self._weights: dict[str, float] = {}
        self._sharded = False
        self._turn = 0

    def set(self, weights: Mapping[str, int]) -> None:
        """Set it, once it is known what shards there are.

        Args:
            weights: queue name -> weight for a weighted order; empty: strict, in the order of `state.queues`.
        """
        shards = Counter(served.queue for served in self._state.queues.values())
        self._sharded = len(shards) < len(self._state.queues)
        if weights:
            self._weights = {
                served.name: weights.get(served.queue, 1) / shards[served.queue]
                for served in self._state.queues.values()
            }

    def readable(self) -> list[Served]:
        """The queues that may be read now, in the order of reading."""
        now = time.monotonic()
        queues = [served for served in self._state.queues.values() if served.may_read(now) and not served.paused]
        if not self._weights or len(queues) < 2:
            return self._take_turns(queues) if self._sharded else queues
        # a weighted shuffle: Efraimidis and Spirakis, "Weighted random sampling with a reservoir" (2006), keys u^(1/w)
        return sorted(queues, key=lambda served: -(random.random() ** (1 / self._weights.get(served.name, 1))))  # noqa: S311 - an order

    def shares(self, queues: list[Served], want: int) -> list[tuple[Served, int]]:
        """How much to ask of which queue, in order. Weighted: first its share of each, then what others left."""
        everything = [(served, want) for served in queues]
        if not self._weights or len(queues) < 2:
            return everything
        # systematic sampling: on average each gets its exact share, also where few are wanted
        weights = [self._weights.get(served.name, 1) for served in queues]
        total, start = sum(weights), random.random()  # noqa: S311 - shares
        edges = [int(start + want * upto / total) for upto in itertools.accumulate(weights[:-1])]
        shares = [upper - lower for lower, upper in itertools.pairwise([0, *edges, want])]
        return [pair for pair in zip(queues, shares, strict=True) if pair[1]] + everything

    def _take_turns(self, queues: list[Served]) -> list[Served]:
        """The same order of queues, but each time another shard of each comes first."""
        self._turn += 1
        found: list[Served] = []
        for _, group in itertools.groupby(queues, key=lambda served: served.queue):
            shards = list(group)
            first = self._turn % len(shards)
            found += shards[first:] + shards[:first]
        return found
