"""The ledger: what jobs did, written outside Redis, and the check of that history.

A job writes a line when its run starts and one when it ends. Each line is one `write` to a file opened with O_APPEND: lines of several
processes never mix, and what was written stays when the process is killed a moment later.
"""

from __future__ import annotations

import itertools
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

Event = Literal["start", "end", "note"]


@dataclass(frozen=True, slots=True)
class Line:
    """What one job wrote at one moment (time.monotonic, which all processes of a machine share)."""

    at: float
    pid: int
    job_id: str
    executions: int
    event: str
    text: str


@dataclass(slots=True)
class Run:
    """One run of a job, from its start; `ended` is None when it never wrote its end."""

    job_id: str
    pid: int
    executions: int
    started: float
    ended: float | None = None


class Ledger:
    """A file to which the jobs of any number of processes write.

    Args:
        path: the file; made when it is missing.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: int | None = None

    def write(self, job_id: str, executions: int, event: Event, text: str = "") -> None:
        """Append a line; it is there when this returns."""
        if self._file is None:
            self._file = os.open(self.path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
        line = f"{time.monotonic():.6f} {os.getpid()} {job_id} {executions} {event} {text}\n"
        os.write(self._file, line.encode())

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def read(self) -> History:
        """What was written so far."""
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            text = ""
        lines: list[Line] = []
        for line in text.splitlines():
            at, pid, job_id, executions, event, *more = line.split(" ", 5)
            lines.append(Line(float(at), int(pid), job_id, int(executions), event, more[0] if more else ""))
        return History(lines)

    def count(self, event: Event) -> int:
        """How many lines of a kind there are; cheaper than `read`, for waiting."""
        try:
            return self.path.read_bytes().count(b" %s " % event.encode())
        except FileNotFoundError:
            return 0


@dataclass(slots=True)
class Verdict:
    """How a history compares with what was enqueued. Each list holds job ids.

    Attributes:
        lost: enqueued, and never ended.
        unexpected: ended, and neither enqueued nor attempted.
        duplicated: ended more than once.
        overlapping: two runs of one job at the same time.
        unfinished: started, and that run never ended.
    """

    lost: list[str] = field(default_factory=list[str])
    unexpected: list[str] = field(default_factory=list[str])
    duplicated: list[str] = field(default_factory=list[str])
    overlapping: list[str] = field(default_factory=list[str])
    unfinished: list[str] = field(default_factory=list[str])


class History:
    """Lines in the order in which they were written."""

    def __init__(self, lines: list[Line]) -> None:
        self.lines = lines

    def of(self, event: Event) -> list[Line]:
        return [line for line in self.lines if line.event == event]

    def ids(self, event: Event) -> list[str]:
        return [line.job_id for line in self.lines if line.event == event]

    def notes(self) -> list[str]:
        return [line.text for line in self.lines if line.event == "note"]

    def pids(self) -> set[int]:
        """The processes in which jobs ended."""
        return {line.pid for line in self.of("end")}

    def runs(self) -> list[Run]:
        """All runs, in order of their starts."""
        runs: list[Run] = []
        running: dict[tuple[str, int], Run] = {}
        for line in self.lines:
            key = line.job_id, line.pid
            if line.event == "start":
                run = running[key] = Run(line.job_id, line.pid, line.executions, line.at)
                runs.append(run)
            elif line.event == "end":
                running.pop(key).ended = line.at
        return runs

    def runs_of(self, job_id: str) -> list[Run]:
        return [run for run in self.runs() if run.job_id == job_id]

    def most_at_once(self) -> int:
        """The largest number of runs at one moment; a run that never ended counts as over when its process wrote last."""
        last: dict[int, float] = {line.pid: line.at for line in self.lines}
        changes = [(run.started, 1) for run in self.runs()]
        changes += [(run.ended if run.ended is not None else last[run.pid], -1) for run in self.runs()]
        most = now = 0
        for _, change in sorted(changes):
            now += change
            most = max(most, now)
        return most

    def judge(self, enqueued: Collection[str], attempted: Iterable[str] = ()) -> Verdict:
        """Compare with what was enqueued, and with what may have been (its outcome was not known)."""
        ended = self.ids("end")
        possible = {*enqueued, *attempted}
        verdict = Verdict(
            lost=sorted(set(enqueued) - set(ended)),
            unexpected=sorted(set(ended) - possible),
            duplicated=sorted({job_id for job_id in ended if ended.count(job_id) > 1})
            if len(ended) != len(set(ended))
            else [],
        )
        by_job: dict[str, list[Run]] = {}
        for run in self.runs():
            by_job.setdefault(run.job_id, []).append(run)
        for job_id, runs in sorted(by_job.items()):
            if any(run.ended is None for run in runs):
                verdict.unfinished.append(job_id)
            for before, after in itertools.pairwise(runs):
                if before.ended is not None and after.started < before.ended:
                    verdict.overlapping.append(job_id)
        return verdict

    def check(self, enqueued: Collection[str], attempted: Iterable[str] = ()) -> Verdict:
        """As `judge`, and assert what always holds: nothing lost, nothing unexpected, and executions that never go down."""
        verdict = self.judge(enqueued, attempted)
        assert not verdict.lost, f"lost {len(verdict.lost)}: {verdict.lost[:5]}"
        assert not verdict.unexpected, f"nobody enqueued {verdict.unexpected[:5]}"
        executions: dict[str, int] = {}
        for run in self.runs():
            assert run.executions >= executions.get(run.job_id, 1), f"executions of {run.job_id} went down"
            executions[run.job_id] = run.executions
        return verdict

    def check_exact(self, enqueued: Collection[str], attempted: Iterable[str] = ()) -> None:
        """As `check`, on a run in which no lease was broken: each job ran once."""
        verdict = self.check(enqueued, attempted)
        assert not verdict.duplicated, f"ran twice: {verdict.duplicated[:5]}"
        assert not verdict.overlapping, f"ran twice at once: {verdict.overlapping[:5]}"
        assert not verdict.unfinished, f"began and never ended: {verdict.unfinished[:5]}"
