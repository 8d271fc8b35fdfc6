"""What a worker knows of a queue that it serves: its lease, its lanes, and every entry that it holds.

A `Delivery` is held from the moment it was read until Redis has settled it; what Redis says is pending here and is not held is a phantom.
"""

from __future__ import annotations

import re
import time
from collections import deque
from math import inf
from typing import TYPE_CHECKING

from aiojobs_rt.adapters.redis.keys import RETURNED, SUSPECTS, queue_keys
from aiojobs_rt.core.message import ENCRYPTED, JobMessage, MalformedMessage, parse
from aiojobs_rt.encryption import open_arguments
from aiojobs_rt.settings import settings

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

REMEMBER_CANCELS = 60.0
NUMBERED = re.compile(r"p-?[0-9]{1,18}")
REMEMBER_SETTLED = 20_000
SLACK = 8
"""A worker reads jobs of up to so many times its `max_payload`: what enqueued them may have a larger one."""

PLAIN_SIZE = 200
"""Bytes of a job that succeeded, in a settle call, about."""

Verdict = tuple[str, tuple[str | bytes | int, ...]]
"""What settle.lua is told of a job: the verb and its arguments."""

SUCCEEDED: Verdict = ("succeeded", ())


class Delivery:
    """An entry of a stream that was delivered to this worker, and, once that is decided, what becomes of it.

    Attributes:
        gone: it was put back; an outcome that comes later is dropped.
        verb, extra, record: what settle.lua is told of it.
        size: bytes that it takes in the call, about.
    """

    __slots__ = (
        "consumer",
        "entry",
        "extra",
        "fields",
        "gone",
        "lane",
        "message",
        "record",
        "served",
        "since",
        "size",
        "verb",
    )

    verb: str
    extra: tuple[str | bytes | int, ...]
    record: bytes
    size: int

    jobs = 1
    answered: asyncio.Future[bool] | None = None
    """Nobody waits for the answer."""

    def __init__(self, served: Served, lane: str, entry: bytes, fields: list[bytes], since: float) -> None:
        self.served = served
        self.consumer = served.consumer
        self.lane = lane
        self.entry = entry
        self.fields = fields
        self.since = since
        self.gone = False
        self.message: JobMessage | None = None

    def decide(self, verb: str, extra: tuple[str | bytes | int, ...], record: bytes) -> None:
        """Note what becomes of it."""
        self.verb = verb
        self.extra = extra
        self.record = record
        self.size = (
            PLAIN_SIZE
            if not extra
            else PLAIN_SIZE + 100 + sum(len(part) for part in extra if not isinstance(part, int))
        )

    @property
    def job_id(self) -> str | bytes:
        """The job's id; one made from the entry for what is no job, under which it is indexed, released and buried."""
        if self.message is not None:
            return self.message.id
        if len(self.fields) == 8 and self.fields[0] == b"id":
            return self.fields[1]
        return f"{self.served.name}.malformed-{self.entry.decode()}"

    def read(self) -> JobMessage:
        """Its message.

        Raises:
            MalformedMessage: it holds none.
            NewerMessage: for a newer worker.
            DecryptionError: its arguments are encrypted, and can't be decrypted (here, when it is a MissingKey).
        """
        if self.message is None:
            fields = self.fields
            if len(fields) == 8 and fields[0] == b"id" and fields[6] == b"meta":
                if len(fields[5]) + len(fields[7]) > self.served.most_bytes:
                    raise self.served.too_large(len(fields[5]), len(fields[7]))
                message = parse(fields[1], fields[3], fields[5], fields[7], queue=self.served.queue)
                if message.extra and ENCRYPTED in message.extra:
                    message.args = open_arguments(message.id, message.job, message.args)
                self.message = message
            else:
                self.message = parse(b"", b"", b"", b"", queue=self.served.queue)
        return self.message


class Served:
    """A queue, as one worker serves it.

    Args:
        name: the queue's name; of a sharded one, the shard's (`bulk~3`).
        worker: the worker's name; consumers are named after it and an epoch, so that a lost lease is never taken for a held one.
        prefix: what all keys begin with.
        lease: seconds.
    """

    def __init__(self, name: str, *, worker: str, prefix: str, lease: float) -> None:
        self.name = name
        self.queue = name.partition("~")[0]
        """As jobs know it: without the shard."""
        self.keys = queue_keys(prefix, name)
        self.lease = lease
        self.most_bytes = SLACK * settings().max_payload
        """Arguments and meta of a job that take more together are not parsed."""
        self.worker = worker
        self.epoch = 0
        self.consumer = f"{worker}.0"
        self.registered = False
        self.born = b""
        self.deadline = 0.0
        self.asked_at = 0.0
        """time.monotonic() of the first beat that is not answered yet; 0: all are."""
        self.spares_until = 0.0
        """time.monotonic() until which this worker takes nobody for dead: Redis was away."""
        self.paused = False
        self.lanes: list[str] = [""]
        """In the order in which they are read."""
        self.held: dict[str, dict[bytes, Delivery]] = {"": {}}
        self.remembered: deque[tuple[float, str, list[bytes], dict[bytes, Verdict]]] = deque()
        self.remembered_count = 0
        self.cancels: dict[str, float] = {}
        self.suspicious = 0
        """How many beats running Redis had more pending for this consumer than is held."""
        self.look_for_phantoms = False
        self.phantoms_told = -inf
        """time.monotonic() of the last log line about phantoms that were found."""
        self.phantoms_untold = 0
        """How many were found since."""
        self.promoting = False
        """Whether more jobs have fallen due than one call of this worker's promoter moves."""
        self.empty: set[str] = set()
        """Lanes that were empty when they were last read."""
        self.on_suspect_gone: Callable[[Served], None] = _nobody_waits
        """Called when the one suspect that was here has gone: the next one may be read."""
        self.refusal = ""
        """With what Redis refused to have it read the last time, if it did."""
        self.refused_until = 0.0
        """time.monotonic() until which it is not read, for that reason."""

    @property
    def deadline(self) -> float:
        """time.monotonic() until which the lease is known to hold: when the last answered renewal was sent, plus the lease."""
        return self._deadline

    @deadline.setter
    def deadline(self, deadline: float) -> None:
        self._deadline = deadline
        self.safe_until = deadline - self.lease / 6
        """No read and no job starts after this (time.monotonic): the lease could pass meanwhile."""

    def too_large(self, args: int, meta: int) -> MalformedMessage:
        """What is wrong with a job of so many bytes; it keeps its payload, and can be retried by a worker that reads more."""
        return MalformedMessage(
            f"arguments of {args:,} and meta of {meta:,} bytes are more than this worker reads ({self.most_bytes:,}: {SLACK} times its "
            "AIOJOBS_RT_MAX_PAYLOAD, or max_payload in aiojobs_rt.toml)"
        )

    def lease_ms(self) -> int:
        """The lease's length."""
        return int(self.lease * 1000)

    def grace_ms(self) -> int:
        """For how long nobody reclaims after Redis was away: a third of a lease, at least 5 s."""
        return int(max(self.lease / 3, 5.0) * 1000)

    def note_question(self) -> None:
        """A beat is about to be sent."""
        self.asked_at = self.asked_at or time.monotonic()

    def note_answer(self) -> None:
        """A beat was answered. After so long a silence that living workers' leases may have passed, they get time to renew them.

        Renewed each third, a lease passes in no outage shorter than two thirds of it; a sixth may be over before the first beat in it.
        """
        now = time.monotonic()
        if self.asked_at and now - self.asked_at > 0.4 * self.lease:
            self.spares_until = now + self.grace_ms() / 1000
        self.asked_at = 0.0

    def may_reclaim(self) -> bool:
        """Whether who has no valid lease by now is dead, and not cut off as this worker was."""
        return time.monotonic() >= self.spares_until

    def may_read(self, now: float) -> bool:
        """Whether a read may start now (time.monotonic)."""
        return self.registered and now < self.safe_until and now >= self.refused_until

    def hold(self, delivery: Delivery) -> None:
        """Note that an entry is here."""
        self.held.setdefault(delivery.lane, {})[delivery.entry] = delivery

    def let_go(self, lane: str, entries: list[bytes], verdicts: dict[bytes, Verdict]) -> None:
        """Note that entries were settled, and remember them for a lease: a Redis that failed over may have forgotten it.

        Args:
            lane: whose they are.
            entries: all of them.
            verdicts: what settle.lua was told of those that did not simply succeed.
        """
        self.drop(lane, entries)
        now = time.monotonic()
        self.remembered.append((now, lane, entries, verdicts))
        self.remembered_count += len(entries)
        while self.remembered and (
            now - self.remembered[0][0] > self.lease or self.remembered_count > REMEMBER_SETTLED
        ):
            self.remembered_count -= len(self.remembered.popleft()[2])

    def drop(self, lane: str, entries: Iterable[bytes]) -> None:
        """Note that entries are no longer here."""
        held = self.held[lane]
        for entry in entries:
            held.pop(entry, None)
        if lane == SUSPECTS and not held:
            self.on_suspect_gone(self)

    def settled_lately(self, lane: str) -> dict[bytes, Verdict]:
        """Entries of a lane that were settled within the last lease, as far as they are remembered, and how."""
        return {
            entry: verdicts.get(entry, SUCCEEDED)
            for _, settled_lane, entries, verdicts in self.remembered
            if settled_lane == lane
            for entry in entries
        }

    def holds_suspect(self) -> bool:
        """Whether a job that may have crashed two workers is here: one at a time."""
        return bool(self.held.get(SUSPECTS))

    def count_held(self, lane: str) -> int:
        """How many entries of a lane are here."""
        return len(self.held.get(lane, ()))

    def set_lanes(self, named: list[str]) -> bool:
        """Take over the lanes that Redis names, in order of priority; the main lane stands at priority 0. Whether they are others."""
        before = self.lanes
        ahead = [lane for lane in named if lane in (RETURNED, SUSPECTS)]
        numbered = sorted(int(lane[1:]) for lane in named if NUMBERED.fullmatch(lane))
        self.lanes = [
            *ahead,
            *(f"p{number}" for number in numbered if number < 0),
            "",
            *(f"p{number}" for number in numbered if number > 0),
        ]
        for lane in self.lanes:
            self.held.setdefault(lane, {})
        return self.lanes != before

    def note_cancel(self, job_id: str) -> None:
        """Remember a cancel for a while: the job may be on its way here."""
        self.cancels[job_id] = time.monotonic()

    def forget_old_cancels(self) -> None:
        """A job that is dead, and revived later under its id, must not be cancelled once more."""
        if self.cancels:
            since = time.monotonic() - REMEMBER_CANCELS
            self.cancels = {job_id: at for job_id, at in self.cancels.items() if at >= since}

    def next_epoch(self) -> None:
        """Begin anew under another consumer's name, after the lease was lost. What is held of the old one is no longer ours."""
        self.epoch += 1
        self.consumer = f"{self.worker}.{self.epoch}"
        self.registered = False
        self.deadline = 0.0
        self.suspicious = 0
        for held in self.held.values():
            held.clear()
        self.remembered.clear()
        self.remembered_count = 0


def _nobody_waits(served: Served) -> None: ...


__all__ = ["Delivery", "Served"]
