"""Which promises a history keeps: what the ledger says, compared with what was enqueued and with what was broken on purpose.

`tests/support/ledger.py` reads the lines; here stands what may be said about them:

* lost: acknowledged, and neither ended nor accounted for otherwise;
* unexpected: ended, and neither acknowledged nor attempted;
* duplicated: ended more than once; *unexplained* unless the earlier run's worker was hurt while it had the job;
* overlapping: two runs of one job at the same time; unexplained unless the earlier run's worker was hurt before the later one began;
* repeated: a run that never ended, of a worker that nobody hurt, and that was followed by another;
* early, late: against the due time;
* downward: executions of a job that went down;
* at rest: what Redis still holds when all is done.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiojobs_rt.adapters.redis.keys import is_permanent, queue_keys

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from tests.support.ledger import History, Run

SLACK = 0.005
"""Seconds: Redis counts milliseconds, and a line is written a moment after its event."""


@dataclass(frozen=True, slots=True)
class Harm:
    """A worker was killed or stopped, or lost its lease otherwise, at `at` (time.monotonic); what it held then may run again.

    `until` is when it has noticed at the latest: before that it may begin what it held, though that runs elsewhere by now.
    """

    pid: int
    at: float
    why: str
    until: float = 0.0

    def hit(self, since: float, to: float) -> bool:
        """Whether its worker was hurt at some moment between the two."""
        return self.at <= to + SLACK and max(self.at, self.until) >= since - SLACK


@dataclass(slots=True)
class Findings:
    """What is wrong with a history; each list holds a line for people. `explained` is not wrong: job id and why it ran again."""

    lost: list[str] = field(default_factory=list[str])
    unexpected: list[str] = field(default_factory=list[str])
    duplicated: list[str] = field(default_factory=list[str])
    overlapping: list[str] = field(default_factory=list[str])
    repeated: list[str] = field(default_factory=list[str])
    early: list[str] = field(default_factory=list[str])
    late: list[str] = field(default_factory=list[str])
    downward: list[str] = field(default_factory=list[str])
    explained: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def violations(self) -> dict[str, list[str]]:
        """What must be empty, by name."""
        names = ("lost", "unexpected", "duplicated", "overlapping", "repeated", "early", "late", "downward")
        return {name: found for name in names if (found := getattr(self, name))}


def examine(
    history: History,
    acknowledged: Collection[str],
    *,
    attempted: Iterable[str] = (),
    harms: Iterable[Harm] = (),
    accounted: Collection[str] = (),
    due: Mapping[str, tuple[float, float]] | None = None,
    lateness: float | None = None,
) -> Findings:
    """Compare a history with what may have happened.

    Args:
        history: what the jobs wrote.
        acknowledged: ids whose enqueue returned.
        attempted: ids whose enqueue has an unknown outcome.
        harms: what was done to workers.
        accounted: ids with a final outcome that writes no end (dead after three crashes, cancelled).
        due: per id, the earliest and the latest moment (time.monotonic) that its due time can be.
        lateness: seconds after its due time within which a job must have started; None: no limit.
    """
    findings = Findings()
    ended = history.ids("end")
    findings.lost = sorted(set(acknowledged) - set(ended) - set(accounted))
    findings.unexpected = sorted(set(ended) - {*acknowledged, *attempted})
    harmed: dict[int, list[Harm]] = {}
    for harm in harms:
        harmed.setdefault(harm.pid, []).append(harm)
    by_job: dict[str, list[Run]] = {}
    for run in history.runs():
        by_job.setdefault(run.job_id, []).append(run)
    for job_id, every in by_job.items():
        runs = every[:1]
        for run in every[1:]:
            stale = next((harm for harm in harmed.get(run.pid, []) if harm.at <= run.started <= harm.until), None)
            if stale is not None and run.executions <= runs[-1].executions:
                findings.explained[job_id] = stale.why  # a zombie began what it held
            else:
                runs.append(run)
        for before, after in itertools.pairwise(runs):
            _compare(findings, before, after, harmed.get(before.pid, []))
        if due and job_id in due:
            earliest, latest = due[job_id]
            started = runs[0].started
            if started < earliest - SLACK:
                findings.early.append(f"{job_id} by {earliest - started:.3f} s")
            if lateness is not None and started > latest + lateness:
                findings.late.append(f"{job_id} by {started - latest:.3f} s")
    return findings


def _compare(findings: Findings, before: Run, after: Run, harms: list[Harm]) -> None:
    line = f"{before.job_id}: run {before.executions} in {before.pid}, then {after.executions} in {after.pid}"
    if after.executions < before.executions:
        findings.downward.append(line)
    why = next((harm.why for harm in harms if harm.hit(before.started, after.started)), None)
    if why is not None:
        findings.explained[before.job_id] = why
    elif before.ended is None:
        findings.repeated.append(line)
    elif after.started < before.ended:
        findings.overlapping.append(line)
    else:
        findings.duplicated.append(line)


def not_at_rest(client: Any, queue: str, *, prefix: str = "aiojobs", workers: int = 0) -> list[str]:
    """What a queue still holds of jobs, workers or calls when all is done; empty when it is clean.

    Args:
        client: a synchronous client whose replies are bytes.
        queue: its name.
        prefix: of the keys.
        workers: how many living workers may hold a lease and a consumer.
    """
    k = queue_keys(prefix, queue)
    found: list[str] = []
    lanes = ["", *(lane.decode() for lane in client.zrange(k.lanes, 0, -1)), "returned", "suspects"]
    for lane in dict.fromkeys(lanes):
        stream = k.lane(lane)
        if not client.exists(stream):
            continue
        if length := client.xlen(stream):
            found.append(f"{stream}: {length} entries")
        for group in client.xinfo_groups(stream):
            if group["pending"]:
                found.append(f"{stream}: {group['pending']} pending")
            if group["consumers"] > workers:
                found.append(f"{stream}: {group['consumers']} consumers")
    if length := client.xlen(k.outgoing):
        found.append(f"{k.outgoing}: {length} entries")
    found += [f"{key}: {size} fields" for key in (k.index, k.parked, k.cancelled) if (size := client.hlen(key))]
    found += [f"{key}: {size} due" for key in (k.scheduled, k.retries) if (size := client.zcard(key))]
    if client.zcard(k.workers) > workers:
        found.append(f"{k.workers}: {client.zcard(k.workers)} leases")
    found += [
        f"{key.decode()}: no TTL"
        for key in client.scan_iter(match=k.base.replace("{", "\\{") + "*", count=1000)
        if not is_permanent(key.decode()) and client.ttl(key) == -1
    ]
    return found
