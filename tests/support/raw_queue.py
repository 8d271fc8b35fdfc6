"""One queue, driven script by script: what producers and workers send, without them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import redis
from redis.exceptions import NoScriptError

from aiojobs_rt.adapters.redis.keys import control_channel, queue_keys
from aiojobs_rt.adapters.redis.scripts import script
from tests.support.acl import as_default

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFIX = "aiojobs"
CHANNEL = control_channel(PREFIX)
DEAD_AGE_MS = 60_000
LEASE_MS = 30_000
GRACE_MS = 10_000


@dataclass(frozen=True, slots=True)
class Entry:
    """A delivered entry."""

    lane: str
    entry: bytes
    fields: tuple[bytes, ...]

    @property
    def id(self) -> str:
        return self.fields[1].decode()

    @property
    def args(self) -> bytes:
        return self.fields[5]

    @property
    def meta(self) -> bytes:
        return self.fields[7]


class RawQueue:
    """`with RawQueue(url) as queue:`. Call numbers count up by themselves unless given."""

    def __init__(
        self, url: str, name: str = "q", *, prefix: str = PREFIX, recent: int = 100, dead_jobs: int = 1000
    ) -> None:
        self.client: Any = redis.Redis.from_url(as_default(url))  # its commands are typed for replies of every kind
        self.name = name
        self.keys = queue_keys(prefix, name)
        self.channel = control_channel(prefix)
        self.recent = recent
        self.dead_jobs = dead_jobs
        self._numbers: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def run(self, name: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        found = script(name)
        try:
            return self.client.execute_command("EVALSHA", found.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return self.client.execute_command("EVAL", found.source, len(keys), *keys, *arguments)

    # -- producers -------------------------------------------------------------------------------

    def enqueue(
        self, *ids: str, route: str = "", number: int | None = None, by: str = "producer", args: str = "{}"
    ) -> bytes:
        return self.enqueue_routed(*((id_, route) for id_ in ids), number=number, by=by, args=args)

    def enqueue_routed(
        self, *jobs: tuple[str, str], number: int | None = None, by: str = "producer", args: str = "{}"
    ) -> bytes:
        k = self.keys
        parts: list[Any] = [self._number(by, number), self.channel, self.name]
        for id_, route in jobs:
            priority = route.split("+")[0].split("@")[0]
            tail = f',"priority":{priority}}}' if priority not in ("", "0") else "}"
            parts += (id_, "Job", args, tail, route)
        answer: bytes = self.run("enqueue", (k.stream, k.index, k.call + by, k.scheduled, k.parked, k.lanes), parts)
        return answer

    def pause(self, action: str = "pause") -> Any:
        return self.run("pause", [self.keys.paused], [action, self.channel, self.name])

    def cancel(self, id_: str) -> bytes:
        k = self.keys
        keys = (
            k.index, k.stream, k.cancelled, k.scheduled, k.retries, k.parked, k.recent, k.stats, k.errors + id_, k.result + id_,
        )  # fmt: skip
        answer: bytes = self.run("cancel", keys, (id_, self.channel, self.name, self.recent))
        return answer

    def revive(self, id_: str, expected: str, meta: str) -> bytes:
        k = self.keys
        keys = (k.stream, k.index, k.scheduled, k.retries, k.dead, k.parked, k.lanes, k.result)
        (answer,) = self.run("revive", keys, (self.channel, self.name, id_, expected, meta))
        return bytes(answer)

    def remove(self, id_: str, *, only_dead: bool = False) -> bytes:
        k = self.keys
        keys = (k.index, k.stream, k.scheduled, k.retries, k.dead, k.parked, k.recent, k.stats, k.errors, k.result)
        (answer,) = self.run("remove", keys, (self.recent, "dead" if only_dead else "", id_))
        return bytes(answer)

    def look(self, id_: str) -> str:
        k = self.keys
        keys = (k.index, k.stream, k.workers, k.recent, k.result + id_, k.moved + id_, k.outgoing)
        state: bytes = self.run("look", keys, (id_,))[0]
        return state.decode()

    def reached(self, id_: str) -> list[bytes]:
        k = self.keys
        answer: list[bytes] = self.run(
            "reached", (k.index, k.stream, k.parked, k.moved + id_, k.outgoing, k.progress + id_), (id_,)
        )
        return answer

    # -- workers ---------------------------------------------------------------------------------

    def register(self, consumer: str, *, lease_ms: int = LEASE_MS) -> Any:
        k = self.keys
        keys = (k.workers, k.grace, k.stream, k.lanes, k.wake + consumer, k.stats)
        return self.run("register", keys, (consumer, lease_ms, GRACE_MS))

    def renew(self, consumer: str, *, born: bytes | None = None, lease_ms: int = LEASE_MS) -> str:
        k = self.keys
        known = born if born is not None else self.client.hget(k.stats, "born")
        state: bytes = self.run(
            "renew", (k.workers, k.grace, k.wake + consumer, k.stats), (consumer, lease_ms, GRACE_MS, known or b"")
        )[0]
        return state.decode()

    def leave(self, consumer: str) -> int:
        k = self.keys
        left: int = self.run("leave", (k.workers, k.stream, k.lanes, k.wake + consumer, k.call + consumer), (consumer,))
        return left

    def beat(self, consumer: str) -> Any:
        k = self.keys
        keys = (k.workers, k.stream, k.lanes, k.cancelled, k.scheduled, k.retries, k.paused, k.outgoing)
        return self.run("beat", keys, (consumer,))

    def read(self, consumer: str, *, count: int = 1, lane: str = "") -> list[Entry]:
        reply: Any = self.client.execute_command(
            "XREADGROUP", "GROUP", "workers", consumer, "COUNT", count, "STREAMS", self.keys.lane(lane), ">"
        )
        if not reply:
            return []
        (found,) = reply.values() if isinstance(reply, dict) else [entries for _, entries in reply]
        entries = (
            found[0] if found and isinstance(found[0], list) and found[0] and isinstance(found[0][0], tuple) else found
        )
        return [
            Entry(lane, entry, tuple(part for pair in fields.items() for part in pair)) for entry, fields in entries
        ]

    def settle(self, consumer: str, *items: tuple[Entry, str, Sequence[Any]], number: int | None = None) -> bytes:
        """Settle: entry, verb, and the verb's four arguments (none for `succeeded`)."""
        k = self.keys
        keys = (
            k.stream, k.index, k.call + consumer, k.recent, k.stats, k.retries, k.parked, k.dead, k.cancelled, k.lanes,
            k.outgoing, k.scheduled, k.result, k.errors, k.moved,
        )  # fmt: skip
        kinds = list(dict.fromkeys((entry.lane, verb) for entry, verb, _ in items))
        parts: list[Any] = [
            self._number(consumer, number), self.channel, self.name, self.recent, self.dead_jobs, DEAD_AGE_MS, len(kinds),
        ]  # fmt: skip
        for lane, verb in kinds:
            parts += (lane, "Job", verb)
        for entry, verb, extra in items:
            how = "succeeded" if verb == "kept" else verb
            record = f'["{entry.id}","Job","{how}",0,0,0,"{consumer}"]' if verb in ENDS else ""
            parts += (kinds.index((entry.lane, verb)) + 1, entry.entry, entry.id, record, *extra)
        answer: bytes = self.run("settle", keys, parts)
        return answer

    def reclaim(self, me: str, *, limit: int = 500, most: int = 3) -> Any:
        k = self.keys
        keys = (
            k.stream, k.index, k.workers, k.grace, k.lanes, k.cancelled, k.parked, k.dead, k.recent, k.stats, k.errors,
            k.wake, k.call, k.result,
        )  # fmt: skip
        return self.run(
            "reclaim", keys, (self.channel, self.name, me, limit, self.recent, self.dead_jobs, DEAD_AGE_MS, most)
        )

    def promote(self, *, limit: int = 500) -> int:
        k = self.keys
        keys = (k.stream, k.index, k.scheduled, k.retries, k.parked, k.lanes)
        moved: int = self.run("promote", keys, (self.channel, self.name, limit))[0]
        return moved

    def arrive(self, outgoing: dict[bytes, bytes], hop: str) -> int:
        k = self.keys
        id_ = outgoing[b"id"].decode()
        keys = (
            k.stream, k.index, k.retries, k.parked, k.lanes, f"{k.arrived}{id_}:{hop}", k.errors + id_, k.moved + id_,
            k.dead,
        )  # fmt: skip
        arrived: int = self.run(
            "arrive",
            keys,
            (
                self.channel,
                self.name,
                id_,
                outgoing[b"delay"],
                outgoing[b"message"],
                outgoing[b"errors"],
                DEAD_AGE_MS,
                ERROR,
            ),
        )
        return arrived

    def admit(self, *ids: str, route: str = "") -> bytes:
        k = self.keys
        parts = [part for id_ in ids for part in (id_, "Job", "{}", "}", route)]
        keys = (k.stream, k.index, k.scheduled, k.parked, k.lanes, k.arrived)
        answer: bytes = self.run("admit", keys, (self.channel, self.name, 60_000, *parts))
        return answer

    def progress(self, id_: str, moves: int) -> int:
        saved: int = self.run("progress", [self.keys.progress + id_], (moves, "{}", 60_000))
        return saved

    # -- what a test looks at ----------------------------------------------------------------------

    def expire(self, *consumers: str) -> None:
        """As if their leases had passed."""
        now = self.now_ms()
        self.client.zadd(self.keys.workers, dict.fromkeys(consumers, now - 1))

    def now_ms(self) -> int:
        seconds, micros = self.client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def pending(self, consumer: str, *, lane: str = "") -> int:
        found: Any = self.client.xpending_range(
            self.keys.lane(lane), "workers", min="-", max="+", count=10_000, consumername=consumer
        )
        return len(found)

    def snapshot(self) -> dict[bytes, bytes]:
        """Every key's serialised value."""
        return {key: self.client.dump(key) or b"" for key in sorted(self.client.scan_iter(count=1000))}

    def leftovers(self) -> dict[str, Any]:
        """What is there of jobs; empty when none is left."""
        k, found = self.keys, {}
        for key in (k.index, k.parked, k.cancelled):
            found[key] = self.client.hgetall(key)
        for key in (k.scheduled, k.retries, k.dead):
            found[key] = self.client.zrange(key, 0, -1)
        lanes = ["", *(lane.decode() for lane in self.client.zrange(k.lanes, 0, -1))]
        for key in (*map(k.lane, lanes), k.outgoing):
            found[key] = self.client.xrange(key)
        for pattern in (k.errors, k.moved):
            found[pattern] = list(self.client.scan_iter(pattern.replace("{", "\\{") + "*"))
        return {key: value for key, value in found.items() if value}

    def _number(self, who: str, given: int | None) -> int:
        number = given if given is not None else self._numbers.get(who, 0) + 1
        self._numbers[who] = max(number, self._numbers.get(who, 0))
        return number


ENDS = frozenset({"succeeded", "kept", "dead", "discarded", "cancelled"})
SUCCEEDED: tuple[str, tuple[Any, ...]] = ("succeeded", ())
KEPT: tuple[str, tuple[Any, ...]] = ("kept", (60_000, b'{"outcome":"succeeded","result":1}', "", ""))
RELEASED: tuple[str, tuple[Any, ...]] = ("released", ("", "", "", ""))
DISCARDED: tuple[str, tuple[Any, ...]] = ("discarded", (0, "", "", ""))
CANCELLED: tuple[str, tuple[Any, ...]] = ("cancelled", (0, "", "", ""))
ERROR = '{"error":"ValueError","message":"boom","traceback":"","at":1,"worker":"w"}'


def retried(entry: Entry, *, delay_ms: int = 0, queue: str = "") -> tuple[Entry, str, tuple[Any, ...]]:
    return entry, "retried", (delay_ms, entry.meta, ERROR, queue)


def snoozed(entry: Entry, *, delay_ms: int = 60_000) -> tuple[Entry, str, tuple[Any, ...]]:
    return entry, "snoozed", (delay_ms, entry.meta, "", "")


def dead(entry: Entry) -> tuple[Entry, str, tuple[Any, ...]]:
    return entry, "dead", (entry.meta, ERROR, 0, "")


def released(entry: Entry) -> tuple[Entry, str, tuple[Any, ...]]:
    return entry, *RELEASED


def succeeded(entry: Entry) -> tuple[Entry, str, tuple[Any, ...]]:
    return entry, *SUCCEEDED
