"""From Redis' replies to records. Nothing on the wire is trusted: what can't be read is shown as far as it can."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson

from aiojobs_rt.adapters.redis.records import ended_of
from aiojobs_rt.admin.records import Attempt, JobDetails, JobSummary, QueueSummary
from aiojobs_rt.core.message import ENCRYPTED, JobMessage, MalformedMessage, NewerMessage, parse
from aiojobs_rt.core.progress import json_object, progress_from
from aiojobs_rt.core.secret_values import SECRET, STARS, hidden
from aiojobs_rt.encryption import is_sealed

if TYPE_CHECKING:
    from aiojobs_rt.adapters.base import Ended

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OF_EARLIER_RUNS = ("failed_at", "dead", "unknown_since", "unknown_tries")
NO_NAME = "(malformed)"
NOT_SHOWN = b"[encrypted]"


def instant(at_ms: Any) -> datetime | None:
    """Redis' time as an aware datetime; None for 0 and for what is no time."""
    if not isinstance(at_ms, int) or at_ms <= 0:
        return None
    try:
        return _EPOCH + timedelta(milliseconds=at_ms)
    except OverflowError:
        return None


def text(raw: bytes) -> str:
    """Bytes for people."""
    return raw.decode(errors="replace")


def message_of(job_id: bytes, job: bytes, meta: bytes, queue: str) -> JobMessage | None:
    """The message without its arguments; None when it can't be read."""
    try:
        return parse(job_id, job, b"", meta, queue=queue)
    except (MalformedMessage, NewerMessage):
        return None


def summary(
    job_id: bytes, job: bytes, meta: bytes, *, queue: str, state: str, at_ms: int, consumer: bytes
) -> JobSummary:
    """A job of a page."""
    message = message_of(job_id, job, meta, queue)
    found = JobSummary(
        id=text(job_id),
        job=text(job) or NO_NAME,
        queue=queue,
        state=state,
        at=instant(at_ms),
        worker=worker_of(consumer),
    )
    if message is None:
        return found
    return replace(
        found,
        enqueued_at=instant(message.enqueued_at_ms),
        priority=message.priority,
        failures=message.failures,
        crashes=message.crashes,
    )


def finished(line: bytes, queue: str) -> JobSummary | None:
    """A job of the recently finished, from its line; None when it can't be read."""
    try:
        job_id, job, outcome, enqueued_ms, began_ms, took_us, worker, *rest = orjson.loads(line)
        return JobSummary(
            id=str(job_id),
            job=str(job) or NO_NAME,
            queue=queue,
            state=str(outcome),
            at=instant(began_ms + took_us // 1000),
            enqueued_at=instant(enqueued_ms),
            worker=str(worker),
            took=took_us / 1_000_000 if enqueued_ms else None,
            reason=str(rest[0]) if rest else "",
        )
    except (ValueError, TypeError):
        return None


def details(job_id: str, queue: str, fields: list[Any]) -> JobDetails:
    """A job that is in Redis, from the answer of inspect.lua."""
    state, _, at_ms, lane, job, args, meta, consumer, marked, errors, *saved = fields
    known = json_object(meta)
    encrypted = is_sealed(args) or ENCRYPTED in known
    found = JobDetails(
        id=job_id,
        job=text(job) or NO_NAME,
        queue=queue,
        state=text(state),
        at=instant(at_ms),
        worker=worker_of(consumer),
        cancelled=bool(marked),
        encrypted=encrypted,
        args=NOT_SHOWN if encrypted else hidden(args, known[SECRET]) if SECRET in known else args,
        meta=known,
        attempts=tuple(_attempt(error) for error in errors),
        steps=progress_from(meta, *saved),
    )
    if lane in (b"returned", b"suspects"):
        found.meta["lane"] = text(lane)
    message = message_of(job_id.encode(), job, meta, queue)
    if message is None:
        return found
    return replace(
        found,
        enqueued_at=instant(message.enqueued_at_ms),
        priority=message.priority,
        failures=message.failures,
        crashes=message.crashes,
        interruptions=message.interruptions,
        reason=str(message.extra.get("dead", "")),
    )


def ended(job_id: str, queue: str, line: bytes, record: bytes) -> JobDetails:
    """A job that has ended, from its line in `recent` and the record of its result, as far as they are kept."""
    known = finished(line, queue) if line else None
    found = JobDetails(
        id=job_id,
        job=known.job if known else "",
        queue=queue,
        state=known.state if known else "",
        at=known.at if known else None,
        enqueued_at=known.enqueued_at if known else None,
        worker=known.worker if known else "",
        took=known.took if known else None,
        reason=known.reason if known else "",
        meta={},
    )
    if not record:
        return found
    kept = ended_of(record)
    found = replace(found, state=kept.outcome, reason=found.reason or kept.error, encrypted=kept.encrypted)
    return replace(found, result=shown_result(kept))


def shown_result(ended: Ended) -> bytes | None:
    """What operators see of a result."""
    if ended.result is None:
        return None
    if ended.encrypted:
        return NOT_SHOWN
    return orjson.dumps(STARS) if ended.secret else ended.result


def together(name: str, parts: list[QueueSummary]) -> QueueSummary:
    """The shards of a queue, in one."""
    latencies = [part.latency for part in parts if part.latency is not None]
    return QueueSummary(
        name=name,
        waiting=sum(part.waiting for part in parts),
        running=sum(part.running for part in parts),
        scheduled=sum(part.scheduled for part in parts),
        retrying=sum(part.retrying for part in parts),
        dead=sum(part.dead for part in parts),
        latency=max(latencies, default=None),
        workers=tuple(sorted({worker for part in parts for worker in part.workers})),
        dead_workers=tuple(sorted({worker for part in parts for worker in part.dead_workers})),
        stranded=sum(part.stranded for part in parts),
        paused=any(part.paused for part in parts),
    )


def fresh_meta(meta: bytes, *, queue: str, now_ms: int) -> bytes | None:
    """The meta of a dead job that is to run again as if for the first time; None when it can't be read.

    Its counts begin anew, so that its policies apply as they would to a new job, and so does the time in which it has to start.
    """
    try:
        message = parse(b"", b"", b"", meta, queue=queue)
    except NewerMessage:
        return meta  # for a worker that knows it
    except MalformedMessage:
        return None
    extra = {key: value for key, value in message.extra.items() if key not in _OF_EARLIER_RUNS}
    revived = extra.get("revived", 0)
    extra |= {"due": now_ms, "revived": revived + 1 if isinstance(revived, int) else 1}
    return replace(message, failures=0, crashes=0, interruptions=0, executions={}, extra=extra).meta()


def worker_of(consumer: bytes) -> str:
    """The worker's name: a consumer's without its epoch."""
    return text(consumer).rpartition(".")[0]


def whole(number: bytes | None) -> int:
    """An integer that a worker wrote; 0 when it is none."""
    return int(number) if number is not None and number.isdigit() else 0


def _attempt(record: bytes) -> Attempt:
    fields = json_object(record)
    return Attempt(
        error=str(fields.get("error", "")),
        message=str(fields.get("message", "")),
        traceback=str(fields.get("traceback", "")),
        at=instant(fields.get("at")),
        worker=str(fields.get("worker", "")),
    )
