"""Any sequence of what producers, workers, reclaimers and operators may do, compared with a small model after each step. (G1, G2, G3, G4)

The model knows of each job where it is, who runs it, how often it crashed, whether it is marked for cancelling, and how its runs ended. The
machine does something to a real Redis by the scripts, does the same to the model, and compares everything that Redis holds: the lanes in
their order, what is pending and for whom, the sets of due times, the parked messages, the index, marks, error histories, counters, and the
recently ended. At the end of each run everything is drained, and nothing may be left.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from aiojobs_rt.adapters.redis import scripts
from tests.support.history import not_at_rest
from tests.support.moments import seed
from tests.support.raw_queue import ERROR, RawQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.raw_queue import Entry
    from tests.support.redis_server import RedisServer

KEEPER = "keeper"
"""A worker whose lease always holds: it reclaims."""
LEASE_MS = 3_600_000
LATER_MS = 3_600_000
MOST_CRASHES = 3
WAITING = ("queued", "scheduled", "retries")
ROUTES = ("", "5", "-3", f"+{LATER_MS}", f"5+{LATER_MS}")
VERBS = ("succeeded", "at_once", "retried", "snoozed", "released", "dead", "discarded", "cancelled")
OUTCOMES = {"at_once": "retried"}
AGAIN = {"at_once", "retried", "snoozed", "released"}
PARKED = """
local found = {}
for i, id in ipairs(redis.call('HKEYS', KEYS[1])) do
  local message = cmsgpack.unpack(redis.call('HGET', KEYS[1], id))
  found[i] = {id, message[1], message[4]}
end
return found
"""
PICK = st.integers(0, 999)


@dataclass(slots=True)
class Known:
    """What the model knows of a job. `place` is that of the index, but for `queued`, `running` and `ended`."""

    id: str
    own_lane: str
    place: str = "queued"
    lane: str = ""
    crashes: int = 0
    marked: bool = False
    failed: bool = False
    due: int = 0
    """Its turn among those that are due; 0: it is not."""
    held: Held | None = None


@dataclass(slots=True)
class Held:
    """A delivery; its consumer may have lost it."""

    entry: Entry
    consumer: str
    job: Known

    @property
    def valid(self) -> bool:
        return self.job.held is self


@dataclass(slots=True)
class Model:
    """What must be true."""

    jobs: dict[str, Known] = field(default_factory=dict[str, Known])
    lanes: dict[str, list[Known]] = field(default_factory=lambda: {"": []})
    """What waits on a lane, in order."""
    leases: dict[str, str] = field(default_factory=dict[str, str])
    """Per consumer: held, expired, condemned or gone."""
    held: list[Held] = field(default_factory=list[Held])
    ended: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    counts: Counter[str] = field(default_factory=Counter[str])
    paused: bool = False

    def at(self, *places: str) -> list[Known]:
        return [job for job in self.jobs.values() if job.place in places]

    def entangled(self) -> list[Known]:
        """Jobs of which more is kept than their message: they run, or have failed before."""
        return [*self.at("running"), *(job for job in self.at(*WAITING) if job.failed)]

    def push(self, job: Known, lane: str) -> None:
        job.place, job.lane, job.due = "queued", lane, 0
        self.lanes.setdefault(lane, []).append(job)

    def park(self, job: Known, place: str, lane: str) -> None:
        job.place, job.lane, job.due = place, lane, 0

    def withdraw(self, job: Known) -> None:
        """From where it waits."""
        if job.place == "queued":
            self.lanes[job.lane].remove(job)

    def end(self, job: Known, how: str, *, counted: bool = True) -> None:
        job.place, job.held, job.marked, job.failed = "ended", None, False, False
        self.ended.append((job.id, how))
        self.counts[how] += counted

    def bury(self, job: Known, *, counted: bool = True) -> None:
        job.place, job.lane, job.held, job.marked, job.failed = "dead", job.own_lane, None, False, True
        self.ended.append((job.id, "dead"))
        self.counts["dead"] += counted

    def settle(self, held: Held, verb: str) -> None:
        job = held.job
        marked, job.marked, job.held = job.marked, False, None
        outcome = OUTCOMES.get(verb, verb)
        if verb not in AGAIN:
            self.bury(job) if verb == "dead" else self.end(job, verb)
            return
        if marked:
            self.end(job, "cancelled")
            return
        self.counts[outcome] += 1
        again = "suspects" if held.entry.lane == "suspects" else job.own_lane
        match verb:
            case "at_once":
                job.failed = True
                self.push(job, again)
            case "retried":
                job.failed = True
                self.park(job, "retries", again)
            case "snoozed":
                self.park(job, "scheduled", again)
            case _:
                self.push(job, "suspects" if held.entry.lane == "suspects" else "returned")

    def crash(self, held: Held) -> str:
        """Its worker is dead; what becomes of the job."""
        job = held.job
        job.held = None
        job.crashes += 1
        if job.marked:
            self.end(job, "cancelled")
            return "cancelled"
        if job.crashes >= MOST_CRASHES:
            self.bury(job)
            return "dead"
        lane = "suspects" if job.crashes == MOST_CRASHES - 1 else "returned"
        self.push(job, lane)
        return lane

    def order(self) -> list[str]:
        """The lanes that are there, as workers read them."""
        numbers = sorted(int(lane[1:]) for lane in self.lanes if lane.startswith("p"))
        before, after = [f"p{n}" for n in numbers if n < 0], [f"p{n}" for n in numbers if n > 0]
        return [*(lane for lane in ("returned", "suspects") if lane in self.lanes), *before, "", *after]


class Machine(RuleBasedStateMachine):
    """Does the same to Redis and to the model."""

    def __init__(self, queue: RawQueue) -> None:
        super().__init__()
        queue.client.flushall()
        self.queue = queue
        self.model = Model()
        self.sound = True
        """Nothing has differed so far."""
        self.numbers: Counter[str] = Counter()
        self.turns = 0
        self.register(KEEPER)
        self.enqueue(
            ["", "", "", "5", "5", "-3", ROUTES[3], ROUTES[4]], again=False
        )  # else most runs have little to do

    def register(self, consumer: str) -> None:
        self.queue.register(consumer, lease_ms=LEASE_MS)
        self.model.leases[consumer] = "held"

    def twice(self, by: str, call: Callable[[int], bytes], again: bool) -> bytes:
        """A numbered call, and perhaps once more, as after a lost reply."""
        self.numbers[by] += 1
        answer = call(self.numbers[by])
        if again:
            before = self.everything()
            assert call(self.numbers[by]) == answer
            try:
                call(self.numbers[by] - 1)
            except redis.ResponseError as error:
                assert "STALE" in str(error)  # noqa: PT017 - what pytest.raises raises ends Hypothesis' search
            else:
                raise AssertionError("a lower number was not refused")
            assert self.everything() == before
        return answer

    # -- producers and operators -----------------------------------------------------------------

    @rule(routes=st.lists(st.sampled_from(ROUTES), min_size=1, max_size=3), again=st.booleans())
    def enqueue(self, routes: list[str], again: bool) -> None:
        model = self.model
        jobs: list[tuple[str, str]] = []
        for route in routes:
            priority = route.split("+")[0]
            lane = f"p{priority}" if priority else ""
            job = model.jobs[f"q.{len(model.jobs)}"] = Known(f"q.{len(model.jobs)}", lane)
            jobs.append((job.id, route))
            if "+" in route:
                model.park(job, "scheduled", lane)
            else:
                model.push(job, lane)
        assert self.twice("p", lambda n: self.queue.enqueue_routed(*jobs, number=n, by="p"), again) == b""

    @precondition(lambda self: self.model.jobs)
    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        self.cancel_one(nth(list(self.model.jobs.values()), pick))

    @precondition(lambda self: self.model.entangled())
    @rule(pick=PICK)
    def cancel_what_is_entangled(self, pick: int) -> None:
        self.cancel_one(nth(self.model.entangled(), pick))

    def cancel_one(self, job: Known) -> None:
        expected = {"ended": b"unknown", "dead": b"ended", "running": b"marked"}.get(job.place, b"gone")
        assert self.queue.cancel(job.id) == expected
        if expected == b"marked":
            job.marked = True
        elif expected == b"gone":
            self.model.withdraw(job)
            self.model.end(job, "cancelled")

    @precondition(lambda self: self.model.jobs)
    @rule(pick=PICK, only_dead=st.booleans())
    def remove(self, pick: int, only_dead: bool) -> None:
        job = nth(list(self.model.jobs.values()), pick)
        if job.place == "ended":
            expected = b"unknown"
        elif only_dead and job.place != "dead":
            expected = b"kept"
        else:
            expected = b"running" if job.place == "running" else b"removed"
        assert self.queue.remove(job.id, only_dead=only_dead) == expected
        if expected == b"removed":
            self.model.withdraw(job)
            self.model.end(job, "discarded")

    @precondition(lambda self: self.model.at("dead", "scheduled", "retries"))
    @rule(pick=PICK, fresh=st.booleans())
    def revive(self, pick: int, fresh: bool) -> None:
        job = nth(self.model.at("dead", "scheduled", "retries"), pick)
        meta = {id_: meta for id_, _, meta in self.parked()}[job.id]
        new = re.sub(r',"crashes":\d+', "", meta) if fresh else meta
        assert self.queue.revive(job.id, meta + " ", new) == b"changed"
        assert self.queue.revive(job.id, meta, new) == b"revived"
        assert self.queue.revive(job.id, meta, new) == b"queued", "sent again, it does nothing"
        if fresh:
            job.crashes = 0
        self.model.push(job, job.lane)

    @rule(action=st.sampled_from(["pause", "resume"]))
    def pause(self, action: str) -> None:
        changes = self.model.paused != (action == "pause")
        assert self.queue.pause(action) == int(changes)
        self.model.paused = action == "pause"

    # -- workers ---------------------------------------------------------------------------------

    @precondition(lambda self: list(self.model.leases.values()).count("held") < 4)
    @rule()
    def start(self) -> None:
        self.register(f"w{len(self.model.leases)}")

    @precondition(lambda self: not self.model.paused)
    @rule(pick=PICK, count=st.integers(1, 3))
    def take(self, pick: int, count: int) -> None:
        """A worker reads. One that has lost its lease may too: its read was long on its way."""
        consumers = [name for name, lease in self.model.leases.items() if lease == "held"]
        self.read(nth(consumers, pick), count)

    @precondition(lambda self: not self.model.paused)
    @rule(pick=PICK)
    def take_late(self, pick: int) -> None:
        """A read that was on its way when its worker lost the lease."""
        self.read(nth(list(self.model.leases), pick), 1)

    def read(self, consumer: str, count: int) -> None:
        model = self.model
        suspect = any(held.entry.lane == "suspects" and held.valid and held.consumer == consumer for held in model.held)
        for lane in model.order():
            waiting = model.lanes[lane]
            if not waiting or (lane == "suspects" and suspect):
                continue
            count = 1 if lane == "suspects" else count
            entries = self.queue.read(consumer, count=count, lane=lane)
            assert [entry.id for entry in entries] == [job.id for job in waiting[:count]]
            for entry in entries:
                job = waiting.pop(0)
                job.place = "running"
                job.held = Held(entry, consumer, job)
                model.held.append(job.held)
            return

    @precondition(lambda self: self.model.held)
    @rule(pick=PICK, verbs=st.lists(st.sampled_from(VERBS), min_size=1, max_size=3), again=st.booleans())
    def settle(self, pick: int, verbs: list[str], again: bool) -> None:
        """Outcomes of one consumer, whether what it held is still its own or not."""
        model = self.model
        consumer = nth(model.held, pick).consumer
        some = [held for held in model.held if held.consumer == consumer][: len(verbs)]
        pairs = list(zip(some, verbs, strict=False))
        items = [self.item(held, verb) for held, verb in pairs]
        answer = self.twice(consumer, lambda n: self.queue.settle(consumer, *items, number=n), again)
        fates = b"".join(b"1" if held.valid else b"0" for held in some)
        assert answer == (fates if b"0" in fates else b"")
        for held, verb in pairs:
            if held.valid:
                model.settle(held, verb)
            model.held.remove(held)

    def item(self, held: Held, verb: str) -> tuple[Entry, str, tuple[Any, ...]]:
        """As the settler says it."""
        entry = held.entry
        match verb:
            case "succeeded":
                return (entry, "kept", (0, "", "1", "")) if held.job.failed else (entry, "succeeded", ())
            case "at_once":
                return entry, "retried", (0, entry.meta, ERROR, "")
            case "retried":
                return entry, "retried", (LATER_MS, entry.meta, ERROR, "")
            case "snoozed":
                return entry, "snoozed", (LATER_MS, entry.meta, "", "")
            case "released":
                return entry, "released", ("", "", "", "")
            case "dead":
                return entry, "dead", (entry.meta, ERROR, 0, "")
            case _:
                return entry, verb, (0, "", "", "")

    @precondition(lambda self: len(self.model.leases) > 1)
    @rule(pick=PICK)
    def crash(self, pick: int) -> None:
        """A worker gives no sign for longer than its lease; it may be dead, or may go on later."""
        consumer = nth(list(self.model.leases)[1:], pick)
        if self.model.leases[consumer] == "held":
            self.queue.expire(consumer)
            self.model.leases[consumer] = "expired"

    @precondition(lambda self: not self.model.paused)
    @rule(times=st.integers(1, 3), count=st.integers(1, 3), limit=st.integers(1, 2))
    def die(self, times: int, count: int, limit: int) -> None:
        """Workers that die in the middle of jobs, one after the other."""
        for _ in range(times):
            consumer = f"w{len(self.model.leases)}"
            self.register(consumer)
            self.read(consumer, count)
            self.queue.expire(consumer)
            self.model.leases[consumer] = "expired"
            while self.reclaim_one(limit):
                pass

    @precondition(lambda self: not self.model.paused)
    @rule(count=st.integers(1, 3), verbs=st.lists(st.sampled_from(VERBS), min_size=1, max_size=3))
    def perform(self, count: int, verbs: list[str]) -> None:
        """The ordinary way: a new worker, its jobs, their outcomes."""
        consumer = f"w{len(self.model.leases)}"
        self.register(consumer)
        self.read(consumer, count)
        mine = [held.consumer for held in self.model.held]
        if consumer in mine:
            self.settle(mine.index(consumer), verbs, again=False)

    @rule(pick=PICK)
    def renew(self, pick: int) -> None:
        consumer = nth(list(self.model.leases), pick)
        lost = self.model.leases[consumer] in ("condemned", "gone")
        assert self.queue.renew(consumer, lease_ms=LEASE_MS) == ("lost" if lost else "held")
        if not lost:
            self.model.leases[consumer] = "held"

    @precondition(lambda self: len(self.model.leases) > 1)
    @rule(pick=PICK)
    def leave(self, pick: int) -> None:
        consumer = nth(list(self.model.leases)[1:], pick)
        left = any(held.valid for held in self.model.held if held.consumer == consumer)
        assert bool(self.queue.leave(consumer)) == left
        self.model.leases[consumer] = "condemned" if left else "gone"

    @rule(limit=st.integers(1, 4))
    def reclaim(self, limit: int) -> None:
        self.reclaim_one(limit)

    def reclaim_one(self, limit: int) -> bool:
        """Whether somebody was dead."""
        model = self.model
        state, victim, more, *parts = self.queue.reclaim(KEEPER, limit=limit, most=MOST_CRASHES)
        orphans = {held.consumer for held in model.held if held.valid and model.leases[held.consumer] == "gone"}
        choice = next(
            (found for lease in ("condemned", "expired") if (found := self.with_lease(lease))), sorted(orphans)
        )
        if not choice:
            assert state == b"none"
            return False
        assert state == b"reclaimed"
        name = victim.decode()
        assert name in choice
        pending = [held for held in model.held if held.valid and held.consumer == name]
        lanes = ["", "returned", "suspects", *model.order()]
        at = {lane: self.lane_scores().index(lane) for lane in lanes if lane in model.lanes}
        pending.sort(key=lambda held: (at[held.entry.lane], *map(int, held.entry.entry.split(b"-"))))
        taken = pending[:limit]
        assert more == int(len(pending) > limit)
        assert parts[::4] == [held.job.id.encode() for held in taken]
        crashes = [held.job.crashes + 1 for held in taken]
        assert parts[2::4] == crashes
        assert [became.decode() for became in parts[3::4]] == [model.crash(held) for held in taken]
        model.leases[name] = "condemned" if more else "gone"
        return True

    def with_lease(self, state: str) -> list[str]:
        return [name for name, lease in self.model.leases.items() if lease == state]

    def lane_scores(self) -> list[str]:
        """The lanes as reclaim goes through them: the main one first."""
        return ["", *(lane for lane in self.model.order() if lane)]

    @precondition(lambda self: self.model.at("scheduled", "retries"))
    @rule(picks=st.lists(PICK, max_size=3), limit=st.integers(1, 3))
    def promote(self, picks: list[int], limit: int) -> None:
        """Some are due now; as many as one call takes are moved, in order of their due times."""
        model = self.model
        for pick in picks:
            job = nth(model.at("scheduled", "retries"), pick)
            if not job.due:
                self.turns += 1
                job.due = self.turns
                key = self.queue.keys.retries if job.place == "retries" else self.queue.keys.scheduled
                self.queue.client.zadd(key, {job.id: job.due})
        due = sorted((job for job in model.at("scheduled", "retries") if job.due), key=lambda job: (job.place, job.due))
        assert self.queue.promote(limit=limit) == len(due[:limit])
        for job in due[:limit]:
            model.push(job, job.lane)

    # -- what must be true -----------------------------------------------------------------------

    def parked(self) -> list[tuple[str, str, str]]:
        """Id, lane and meta of each parked message."""
        found = self.queue.client.eval(PARKED, 1, self.queue.keys.parked)
        return [(id_.decode(), lane.decode(), meta.decode()) for id_, lane, meta in found]

    def everything(self) -> list[Any]:
        k = self.queue.keys
        with self.queue.client.pipeline(transaction=False) as pipe:
            pipe.hgetall(k.index)
            pipe.zrange(k.scheduled, 0, -1)
            pipe.zrange(k.retries, 0, -1)
            pipe.zrange(k.dead, 0, -1)
            pipe.hkeys(k.cancelled)
            pipe.zrange(k.lanes, 0, -1)
            pipe.zrange(k.workers, 0, -1)
            pipe.xrange(k.recent)
            pipe.hgetall(k.stats)
            pipe.keys(k.errors.replace("{", "\\{") + "*")
            for lane in self.model.lanes:
                pipe.xrange(k.lane(lane))
                pipe.xpending_range(k.lane(lane), "workers", min="-", max="+", count=1000)
            *found, last = pipe.execute()
        for item in (item for pending in [*found[11::2], last] for item in pending):
            del item["time_since_delivered"]
        found[9].sort()  # KEYS has no order
        return [*found, last]

    @invariant()
    def agrees(self) -> None:
        self.sound = False
        model = self.model
        index, scheduled, retries, dead, marks, lanes, workers, recent, stats, errors, *streams = self.everything()
        places = {job.id: job.place for job in model.jobs.values() if job.place not in ("ended", "queued", "running")}
        running: dict[str, tuple[str, str]] = {}
        metas: dict[str, str] = {}
        for at, (lane, waiting) in enumerate(model.lanes.items()):
            entries, pending = streams[2 * at : 2 * at + 2]
            consumers = {item["message_id"]: item["consumer"].decode() for item in pending}
            queued: list[str] = []
            for entry, fields in entries:
                job_id = fields[b"id"].decode()
                assert job_id not in places, f"{job_id} is in two places"
                places[job_id] = entry.decode() + (f"/{lane}" if lane else "")
                metas[job_id] = fields[b"meta"].decode()
                if (consumer := consumers.pop(entry, None)) is not None:
                    running[job_id] = (lane, consumer)
                else:
                    queued.append(job_id)
            assert queued == [job.id for job in waiting]
            assert consumers == {}, "pending, and no longer there"
        assert places == {job_id.decode(): place.decode() for job_id, place in index.items()}
        assert running == {
            job.id: (job.held.entry.lane, job.held.consumer) for job in model.jobs.values() if job.held is not None
        }
        for name, members in (("scheduled", scheduled), ("retries", retries), ("dead", dead)):
            assert sorted(members) == sorted(job.id.encode() for job in model.at(name))
        parked = self.parked()
        metas |= {job_id: meta for job_id, _, meta in parked}
        assert {job_id: lane for job_id, lane, _ in parked} == {
            job.id: job.lane for job in model.at("scheduled", "retries", "dead")
        }
        assert {job_id: json.loads(meta).get("crashes", 0) for job_id, meta in metas.items()} == {
            job.id: job.crashes for job in model.jobs.values() if job.place != "ended"
        }
        assert {mark.decode() for mark in marks} == {job.id for job in model.jobs.values() if job.marked}
        assert {lane.decode() for lane in lanes} == set(model.lanes) - {""}
        assert {name.decode() for name in workers} == {name for name, lease in model.leases.items() if lease != "gone"}
        assert [tuple(json.loads(fields[b"r"])[i] for i in (0, 2)) for _, fields in recent] == model.ended
        assert {verb.decode(): int(count) for verb, count in stats.items() if verb != b"born"} == +model.counts
        assert {key.decode().rpartition(":")[2] for key in errors} == {
            job.id for job in model.jobs.values() if job.failed
        }
        self.sound = True

    def teardown(self) -> None:
        """Everybody goes, the keeper does the rest, and nothing is left."""
        if not self.sound:
            return
        model = self.model
        self.pause("resume")
        for consumer in list(model.leases)[1:]:
            self.queue.leave(consumer)
            left = any(held.valid for held in model.held if held.consumer == consumer)
            model.leases[consumer] = "condemned" if left else "gone"
        while self.reclaim_one(500):
            pass
        self.agrees()
        for held in list(model.held):
            if not held.valid:  # a zombie's outcome comes at last
                assert self.queue.settle(held.consumer, self.item(held, "succeeded"), number=10_000) == b"0"
                self.queue.client.delete(self.queue.keys.call + held.consumer)
                model.held.remove(held)
        while waiting := model.at("dead", "scheduled", "retries"):
            del waiting
            self.revive(0, fresh=True)
        while model.at("queued") or model.held:
            if model.held:
                self.settle(0, ["succeeded"] * 3, again=False)
            else:
                self.read(KEEPER, 500)
        self.agrees()
        assert {job.place for job in model.jobs.values()} <= {"ended"}
        assert self.queue.leftovers() == {}
        assert not_at_rest(self.queue.client, self.queue.name, workers=1) == []


def nth(items: list[Any], pick: int) -> Any:
    return items[pick % len(items)]


def explore(url: str, *, examples: int, steps: int, search: bool = True) -> None:
    """`search`: other sequences each time, and the shortest that fails; else the same each time, up to the first that fails."""
    phases = [Phase.generate, Phase.shrink] if search else [Phase.generate]
    profile = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=phases,
        derandomize=not search,
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    with RawQueue(url, recent=100_000) as queue:

        def machine() -> Machine:
            return Machine(queue)

        factory: Any = hypothesis.seed(seed())(machine) if search else machine
        run_state_machine_as_test(factory, settings=profile)


@pytest.fixture
def url(redis_url: str, redis_server: RedisServer) -> str:
    """By the socket: thousands of calls one after the other."""
    assert redis_url == redis_server.url
    return redis_server.unix_url


def test_any_sequence_agrees_with_the_model(url: str) -> None:
    explore(url, examples=80, steps=40)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_many_long_sequences_agree_with_the_model(url: str) -> None:
    explore(url, examples=1500, steps=120)


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("enqueue", "elseif known > number", "elseif false"),
        ("enqueue", "if known == number then", "if false then"),
        ("settle", "redis.call('XACK', key, 'workers', entry) == 1", "redis.call('XACK', key, 'workers', entry) >= 0"),
        ("settle", "local marked = marks and", "local marked = false and"),
        pytest.param("settle", "return lane == 'suspects' and lane or", "return", marks=pytest.mark.long),
        ("reclaim", "return line[1]", "return nil"),
        ("reclaim", "limit - taken + 1", "limit - taken"),
        ("reclaim", "crashes >= most", "crashes > most"),
        ("promote", "redis.call('HDEL', parked, id)", ""),
        ("cancel", "redis.call('DEL', errors)", ""),
        ("revive", "message[4] == expected", "true"),
        ("remove", "if not pending.err and pending[1] then", "if false then"),
        ("leave", "if pending > 0 then", "if false then"),
    ],
)  # fmt: skip
def test_a_broken_script_is_found(url: str, monkeypatch: pytest.MonkeyPatch, name: str, right: str, wrong: str) -> None:
    whole = scripts.script(name)
    assert right in whole.source
    source = whole.source.replace(right, wrong)
    broken = scripts.Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())

    def find(asked: str) -> scripts.Script:
        return broken if asked == name else scripts.script(asked)

    monkeypatch.setattr("tests.support.raw_queue.script", find)
    with pytest.raises(AssertionError):
        explore(url, examples=1000, steps=40, search=False)
