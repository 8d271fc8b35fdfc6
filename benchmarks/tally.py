"""The tally: what a benchmarked worker process ran, counted inside it, and read by the suite when it has ended.

Each job marks its number. So "every job ran exactly once" is checked job by job, and costs a job some 50 ns. The first job notes time and
CPU: what a process needs to start is not the jobs' cost. It needs the standard library alone.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.load import STUMBLE

if TYPE_CHECKING:
    from benchmarks.load import Load

FOLDER = "BENCHMARKS_TALLY"
JOBS = "BENCHMARKS_JOBS"
WORKERS = "BENCHMARKS_WORKERS"

marks = bytearray(int(os.environ.get(JOBS, "0")))
"""How often each job ran, by its number."""
delays: list[float] = []
"""How late jobs began, in ms, as far as they measure it."""
ranks = bytearray()
"""The ranks of `Ranked` jobs, in the order of their starts."""
_began: list[float] = []
_ready: list[float] = []


@dataclass(frozen=True, slots=True)
class Tally:
    """What all workers of a run counted.

    Attributes:
        lost: how many runs never were.
        repeated: how many runs there were beyond those that each job is to have.
        delays: in ms.
        began: time.monotonic() of the first job.
        cpu_began: CPU seconds that all worker processes together had used by then.
        shares: how many runs each worker process had.
        overtaken: how many `Ranked` jobs began after one of a lower rank.
    """

    lost: int
    repeated: int
    delays: list[float]
    began: float
    cpu_began: float
    shares: list[int] = field(default_factory=list[int])
    overtaken: int = 0


def ready() -> None:
    """Note that this process is about to take jobs; of several workers, wait for the last, so that all begin together.

    Called once, before the first job, where a system lets one. Without it the start of a process counts as the jobs' cost when it does not
    get the first job.
    """
    _ready[:] = [time.process_time()]
    folder, workers = os.environ.get(FOLDER), int(os.environ.get(WORKERS, "1"))
    if folder is None or workers < 2:
        return
    (Path(folder) / f"{os.getpid()}.ready").touch()
    deadline = time.monotonic() + 30
    while len(list(Path(folder).glob("*.ready"))) < workers and time.monotonic() < deadline:
        time.sleep(0.005)
    _ready[:] = [time.process_time()]


def begin() -> None:
    """Note that the first job begins. Called by job number 0."""
    _began[:] = time.monotonic(), time.process_time()


def spin(us: int) -> None:
    """Keep the processor for so many microseconds of this thread's CPU time."""
    end = time.thread_time_ns() + us * 1000
    while time.thread_time_ns() < end:
        pass


def stumbles(n: int) -> bool:
    """Whether `Flaky` job n, which has marked this run, is to fail now: its first run in this process, every so many jobs."""
    return n % STUMBLE == STUMBLE - 1 and marks[n] == 1


def write() -> None:
    """Leave the tally of this process in the folder that the environment names, if it does."""
    folder = os.environ.get(FOLDER)
    if folder is None:
        return
    path = Path(folder) / str(os.getpid())
    path.with_suffix(".marks").write_bytes(marks)
    path.with_suffix(".ranks").write_bytes(ranks)
    cpu_began = _began[1] if _began else _ready[0] if _ready else 0.0
    path.with_suffix(".json").write_text(json.dumps({"began": _began[:1], "cpu_began": cpu_began, "delays": delays}))


def environment(folder: Path, jobs: int, workers: int = 1) -> dict[str, str]:
    """What the environment of a worker must say."""
    return {FOLDER: str(folder), JOBS: str(jobs), WORKERS: str(workers)}


def read(folder: Path, load: Load, *, times: int = 1) -> Tally:
    """The sum of what the workers wrote, of a load that was enqueued so many times.

    Raises:
        RuntimeError: none did.
    """
    counts = [0] * load.jobs
    late: list[float] = []
    began: list[float] = []
    cpu_began = 0.0
    shares: list[int] = []
    overtaken = 0
    for path in sorted(folder.glob("*.json")):
        fields = json.loads(path.read_text())
        late += fields["delays"]
        began += fields["began"]
        cpu_began += fields["cpu_began"]
        marked = path.with_suffix(".marks").read_bytes()
        shares.append(sum(marked))
        counts = [before + ran for before, ran in zip(counts, marked, strict=True)]
        if (ranked := path.with_suffix(".ranks")).exists():
            overtaken += _overtaken(ranked.read_bytes())
    if not began:
        raise RuntimeError("no worker wrote a tally in which the first job ran")
    odd = [ran - times * load.runs(n) for n, ran in enumerate(counts)]
    lost, repeated = -sum(more for more in odd if more < 0), sum(more for more in odd if more > 0)
    return Tally(lost, repeated, late, min(began), cpu_began, shares, overtaken)


def _overtaken(order: bytes) -> int:
    lowest = found = 0
    for rank in order:
        if rank < lowest:
            found += 1
        lowest = max(lowest, rank)
    return found
