"""Cancel against everything: every order of what producers, workers and reclaimers may do, compared with a small model. (G1, G3)"""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.raw_queue import Entry, RawQueue, released, retried, snoozed, succeeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

JOB = "q.x"
LANES = ("returned", "suspects", "")


@pytest.fixture
def queue(redis_url: str) -> Iterator[RawQueue]:
    with RawQueue(redis_url) as queue:
        yield queue


class World:
    """One job, one worker that may die, one that does not; and what must be true of the job."""

    def __init__(self, queue: RawQueue, *, route: str, verb: str) -> None:
        self.queue = queue
        self.verb = verb
        self.held: Entry | None = None
        self.holder = ""
        self.doomed = 0
        self.valid = False  # whether what is held is still the holder's
        self.marked = False
        self.ended = ""
        queue.register("living")
        queue.register("doomed.0")
        queue.enqueue(JOB, route=route)

    @property
    def consumer(self) -> str:
        return f"doomed.{self.doomed}"

    def step(self, name: str) -> None:
        getattr(self, name)()

    def cancel(self) -> None:
        answer = self.queue.cancel(JOB)
        if self.ended:
            assert answer == b"unknown"
        elif self.valid:
            assert answer == b"marked"
            self.marked = True
        else:
            assert answer == b"gone"
            self.ended = "cancelled"

    def deliver(self) -> None:
        if self.valid:
            return
        for lane in LANES:
            if self.queue.client.exists(self.queue.keys.lane(lane)):
                for entry in self.queue.read(self.consumer, lane=lane):
                    assert not self.ended, "a job that had ended was delivered"
                    self.held, self.holder, self.valid = entry, self.consumer, True
                    return

    def settle(self) -> None:
        if self.held is None:
            return
        verbs: dict[str, Callable[[Entry], Any]] = {
            "succeeded": succeeded,
            "retried": partial(retried, delay_ms=60_000),
            "at_once": retried,
            "snoozed": snoozed,
            "released": released,
        }
        item = verbs[self.verb](self.held)
        answer = self.queue.settle(self.holder, item)
        assert answer == (b"" if self.valid else b"0")
        if self.valid:
            if self.verb == "succeeded":
                self.ended = "succeeded"
            elif self.marked:
                self.ended = "cancelled"
            self.marked = False
        self.held, self.valid = None, False

    def reclaim(self) -> None:
        self.queue.expire(self.consumer)
        assert self.queue.reclaim("living")[0] == b"reclaimed"
        self.doomed += 1
        self.queue.register(self.consumer)
        if self.valid and self.marked:
            self.ended, self.marked = "cancelled", False
        self.valid = False

    def promote(self) -> None:
        """What is due later is due now."""
        client, k = self.queue.client, self.queue.keys
        for key in (k.scheduled, k.retries):
            for id_ in client.zrange(key, 0, -1):
                client.zadd(key, {id_: 1})
        self.queue.promote()

    def finish(self) -> None:
        """Run it to its end, whatever happened."""
        self.verb = "succeeded"
        for _ in range(4):
            self.promote()
            self.deliver()
            self.settle()

    def check(self) -> None:
        place = self.queue.look(JOB)
        if self.ended:
            assert place == "ended"
            assert self.queue.leftovers() == {}
        else:
            assert place in {"queued", "running", "scheduled", "retries"}
            assert (place == "running") == self.valid
            assert bool(self.queue.client.hlen(self.queue.keys.cancelled)) == self.marked


@pytest.mark.parametrize("verb", ["succeeded", "retried", "at_once", "snoozed", "released"])
@pytest.mark.parametrize("route", ["", "+60000"], ids=["queued", "scheduled"])
def test_every_order_of_cancel_deliver_settle_reclaim_and_promote(queue: RawQueue, route: str, verb: str) -> None:
    steps = ("cancel", "deliver", "settle", "reclaim", "promote")
    ends = set()
    for order in itertools.permutations(steps):
        queue.client.flushdb()
        world = World(queue, route=route, verb=verb)
        for step in order:
            world.step(step)
            world.check()
        world.finish()
        world.check()
        assert world.ended
        lines = [fields[b"r"] for _, fields in queue.client.xrange(queue.keys.recent)]
        assert len(lines) == 1, f"{order}: {lines}"
        assert f'"{world.ended}"'.encode() in lines[0]
        ends.add(world.ended)
    assert ends == {"cancelled", "succeeded"}


@pytest.mark.parametrize("verb", ["retried", "released"])
def test_orders_with_a_second_delivery(queue: RawQueue, verb: str) -> None:
    """Two turns of deliver and settle, with a cancel and a reclaim anywhere between."""
    base = ["deliver", "settle", "promote", "deliver", "settle"]
    for at, dead_at in itertools.product(range(6), range(7)):
        order = [*base]
        order.insert(at, "cancel")
        order.insert(dead_at, "reclaim")
        queue.client.flushdb()
        world = World(queue, route="", verb=verb)
        for step in order:
            world.step(step)
            world.check()
        world.finish()
        world.check()
        assert world.ended


def test_a_mark_goes_with_any_end(queue: RawQueue) -> None:
    queue.register("a")
    for verb in ("dead", "discarded", "cancelled", "kept"):
        queue.enqueue(f"q.{verb}")
        (entry,) = queue.read("a")
        assert queue.cancel(f"q.{verb}") == b"marked"
        extra = {
            "dead": (entry.meta, '{"error":"E","message":"m"}', 0, ""),
            "kept": (0, "", "", ""),
        }.get(verb, (0, "", "", ""))
        assert queue.settle("a", (entry, verb, extra)) == b""
        assert queue.look(f"q.{verb}") == ("dead" if verb == "dead" else "ended")
        assert queue.client.hlen(queue.keys.cancelled) == 0


def test_cancel_of_a_dead_or_unknown_job_changes_nothing(queue: RawQueue) -> None:
    queue.register("a")
    queue.enqueue(JOB)
    (entry,) = queue.read("a")
    queue.settle("a", (entry, "dead", (entry.meta, '{"error":"E","message":"m"}', 0, "")))
    before = queue.snapshot()
    assert queue.cancel(JOB) == b"ended"
    assert queue.cancel("q.unknown") == b"unknown"
    assert queue.snapshot() == before
