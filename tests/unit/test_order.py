"""The order of a worker's queues: what is asked of which, when they have weights."""

from __future__ import annotations

import random
from collections import Counter
from math import inf

import pytest

from aiojobs_rt import RedisAdapter
from aiojobs_rt.worker.order import Order
from aiojobs_rt.worker.served import Served
from aiojobs_rt.worker.state import WorkerState

WEIGHTS = {"critical": 5, "default": 1, "low": 2}
DRAWS = 5_000


@pytest.fixture
def queues() -> list[Served]:
    found = [Served(name, worker="w", prefix="aiojobs", lease=30.0) for name in WEIGHTS]
    for served in found:
        served.registered, served.deadline = True, inf
    return found


@pytest.mark.parametrize("want", [1, 2, 3, 5, 8, 50])
def test_each_queue_gets_its_share_on_average_also_where_few_jobs_are_wanted(
    want: int, queues: list[Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = WorkerState(RedisAdapter("redis://127.0.0.1:1/0"), name="w", lease=30.0, queues=queues)
    order = Order(state)
    order.set(WEIGHTS)
    monkeypatch.setattr(random, "random", random.Random(want).random)
    asked: Counter[str] = Counter()
    for _ in range(DRAWS):
        shares = order.shares(order.readable(), want)
        first, rest = shares[: -len(queues)], shares[-len(queues) :]
        assert sum(share for _, share in first) == want
        assert [share for _, share in rest] == [want] * 3, "what the others left is for anyone"
        asked.update({served.name: share for served, share in first})
    for name, weight in WEIGHTS.items():
        assert asked[name] / (DRAWS * want) == pytest.approx(weight / 8, abs=0.02)
