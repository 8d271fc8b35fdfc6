"""Examine: is the server fit for jobs, and do the queues run? Each finding says what to do.

What the Redis user may not read (INFO, CONFIG GET) is said to be unknown, and is no error.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from redis import exceptions

from aiojobs_rt.admin.calls import MOST_JOBS
from aiojobs_rt.admin.records import Finding, ListedState

if TYPE_CHECKING:
    from collections.abc import Container

    from aiojobs_rt.adapters.redis.connection import Argument
    from aiojobs_rt.admin.admin import Admin
    from aiojobs_rt.admin.records import QueueSummary

OLDEST_REDIS = (6, 2)
SKEW = 2.0
LATE = 60.0
NEARLY_FULL = 0.9
LOOKED_THROUGH: tuple[ListedState, ...] = ("waiting", "scheduled", "retrying")
MOST_NAMES = 5


async def examine(admin: Admin, known: Container[str] | None = None) -> list[Finding]:
    """Look at the server, its clock and all queues.

    Args:
        admin: of which Redis.
        known: the names of the jobs that its workers know, as far as that is to be looked at; None: it is not.

    Raises:
        RedisUnavailable: Redis is not there.
    """
    findings = [await _version(admin), *await examine_server(admin, unknown=True), await _clock(admin)]
    queues = await admin.queues()
    if not queues:
        findings.append(Finding("OK", "queues", "No queue has been used yet."))
    for queue in queues:
        findings += _queue(queue)
        if known is not None:
            findings += await _strangers(admin, queue.name, known)
    return findings


async def examine_server(admin: Admin, *, unknown: bool = False) -> list[Finding]:
    """Whether the server keeps jobs: eviction, memory, persistence. What can't be read is left out unless `unknown`.

    Raises:
        RedisUnavailable: Redis is not there.
    """
    found: list[Finding] = []
    memory = await _info(admin, "memory")
    persistence = await _info(admin, "persistence")
    policy = await _config(admin, "maxmemory-policy") or memory.get("maxmemory_policy", "")
    if policy:
        found.append(_eviction(policy, limited=memory.get("maxmemory", "0") != "0"))
    elif unknown:
        found.append(_unreadable("eviction", "maxmemory-policy", "is noeviction"))
    limit, used = _number(memory.get("maxmemory")), _number(memory.get("used_memory"))
    if limit and used > limit * NEARLY_FULL:
        found.append(
            Finding(
                "WARN",
                "memory",
                f"Redis uses {used / limit:.0%} of its maxmemory; at 100% enqueueing fails.",
                "Raise maxmemory, or start more workers.",
            )
        )
    append_only = await _config(admin, "appendonly") or {"1": "yes", "0": "no"}.get(
        persistence.get("aof_enabled", ""), ""
    )
    save = await _config(admin, "save")
    if append_only or save is not None:
        found.append(_persistence(append_only == "yes", save, persistence))
    elif unknown:
        found.append(_unreadable("persistence", "appendonly", "is yes"))
    return found


async def _version(admin: Admin) -> Finding:
    try:
        reply: list[Any] = await admin.call("HELLO")
    except exceptions.ResponseError:
        return Finding("ERROR", "version", "The server does not know HELLO.", "Use Redis 6.2 or newer, or Valkey.")
    fields = dict(zip(reply[::2], reply[1::2], strict=False))
    version: str = fields.get(b"version", b"0").decode()
    name: str = fields.get(b"server", b"redis").decode()
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < OLDEST_REDIS:
        return Finding("ERROR", "version", f"This is {name} {version}.", "Use Redis 6.2 or newer, or Valkey.")
    return Finding("OK", "version", f"This is {name} {version}.")


async def _clock(admin: Admin) -> Finding:
    before = time.time()
    seconds, micros = await admin.call("TIME")
    skew = int(seconds) + int(micros) / 1e6 - (before + time.time()) / 2
    if abs(skew) <= SKEW:
        return Finding("OK", "clock", f"Redis' clock and this machine's differ by {abs(skew):.2f} s.")
    side = "ahead of" if skew > 0 else "behind"
    return Finding(
        "WARN",
        "clock",
        f"Redis' clock is {abs(skew):.1f} s {side} this machine's.",
        "Jobs run by Redis' clock; `wait_until` is an instant of yours: keep both machines on NTP.",
    )


def _eviction(policy: str, *, limited: bool) -> Finding:
    if policy == "noeviction":
        return Finding("OK", "eviction", "maxmemory-policy is noeviction.")
    throws = "jobs" if policy.startswith("allkeys") else "results and what makes enqueueing exact"
    return Finding(
        "ERROR" if limited and policy.startswith("allkeys") else "WARN",
        "eviction",
        f"maxmemory-policy is {policy}: at maxmemory Redis throws {throws} away.",
        "CONFIG SET maxmemory-policy noeviction, and in redis.conf.",
    )


def _persistence(append_only: bool, save: str | None, told: dict[str, str]) -> Finding:  # noqa: FBT001 - private
    if "err" in (told.get("aof_last_write_status"), told.get("rdb_last_bgsave_status")):
        return Finding(
            "ERROR", "persistence", "Redis could not write its data to disk.", "Look at its log, and at the disk."
        )
    if append_only:
        return Finding("OK", "persistence", "The append-only file is on.")
    if save:
        return Finding(
            "WARN",
            "persistence",
            "Only snapshots are saved: a crash of Redis loses the jobs since the last one.",
            "CONFIG SET appendonly yes, and in redis.conf.",
        )
    if save is None:
        return _unreadable("persistence", "save", "or appendonly is on")
    return Finding(
        "WARN",
        "persistence",
        "Persistence is off: a restart of Redis loses all jobs.",
        "CONFIG SET appendonly yes, and in redis.conf.",
    )


def _queue(queue: QueueSummary) -> list[Finding]:
    subject = f"queue {queue.name}"
    found: list[Finding] = []
    due = queue.waiting + queue.retrying + queue.scheduled
    if due and not queue.workers:
        found.append(
            Finding(
                "ERROR" if queue.waiting else "WARN",
                subject,
                f"No worker serves it: {_jobs(queue.waiting)} waiting, {queue.scheduled + queue.retrying} due later.",
                f"Start one: python -m aiojobs_rt worker MODULE -q {queue.name}",
            )
        )
    if queue.dead_workers:
        found.append(
            Finding(
                "WARN",
                subject,
                f"{len(queue.dead_workers)} dead worker(s) hold {_jobs(queue.stranded)}.",
                "Another worker puts them back within a third of its lease."
                if queue.workers
                else "Start a worker: it puts them back.",
            )
        )
    if queue.paused:
        found.append(
            Finding("WARN", subject, "It is paused: nothing is taken from it.", "Resume it when that is over.")
        )
    elif queue.workers and queue.latency is not None and queue.latency > LATE:
        found.append(
            Finding(
                "WARN",
                subject,
                f"The oldest of {_jobs(queue.waiting)} has waited for {queue.latency:.0f} s.",
                "Start more workers, or raise --concurrency if the jobs mostly wait for I/O.",
            )
        )
    if queue.dead:
        found.append(
            Finding(
                "WARN",
                subject,
                f"{_jobs(queue.dead)} dead.",
                f"See why: python -m aiojobs_rt jobs list -q {queue.name} --state dead",
            )
        )
    if found:
        return found
    served = f"{len(queue.workers)} worker(s), {_jobs(queue.waiting)} waiting, {queue.running} running."
    return [Finding("OK", subject, served)]


async def _strangers(admin: Admin, queue: str, known: Container[str]) -> list[Finding]:
    """Whether jobs of a queue are of classes that nobody knows; the first 500 in each state are looked at, and it is said where there are more."""
    names: Counter[str] = Counter()
    partly: list[str] = []
    for state in LOOKED_THROUGH:
        page = await admin.jobs(queue, state, limit=MOST_JOBS)
        names.update(job.job for job in page.jobs if job.id and job.job not in known)
        if page.next:
            partly.append(state)
    looked = f" Only the first {MOST_JOBS} jobs {' and '.join(partly)} were looked at." if partly else ""
    if not names:
        return [Finding("OK", f"queue {queue}", f"No job of an unknown class was found.{looked}")] if partly else []
    shown = ", ".join(f"{name} ({count})" for name, count in names.most_common(MOST_NAMES))
    more = f" and {len(names) - MOST_NAMES} more names" if len(names) > MOST_NAMES else ""
    return [
        Finding(
            "WARN",
            f"queue {queue}",
            f"{_jobs(names.total())} of classes that these modules do not define: {shown}{more}.{looked}",
            "Name their modules too, here and for the worker. Was a class renamed? `name = ...` on it keeps its old name.",
        )
    ]


def _unreadable(subject: str, setting: str, wish: str) -> Finding:
    return Finding(
        "WARN", subject, f"This user may not read {setting}.", f"Ask who runs the server whether {setting} {wish}."
    )


async def _config(admin: Admin, name: str) -> str | None:
    """A setting of the server; None when it can't be read."""
    reply = await _ask(admin, "CONFIG", "GET", name)
    return reply[1].decode() if isinstance(reply, list) and len(reply) == 2 else None


async def _info(admin: Admin, section: str) -> dict[str, str]:
    """A section of INFO; empty when it can't be read."""
    reply = await _ask(admin, "INFO", section)
    lines = reply.decode(errors="replace").splitlines() if isinstance(reply, bytes) else []
    return dict(line.split(":", 1) for line in lines if ":" in line)


async def _ask(admin: Admin, *command: Argument) -> Any:
    try:
        return await admin.call(*command)
    except exceptions.ResponseError:  # forbidden, or renamed
        return None


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdigit() else 0


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count:,} jobs"
