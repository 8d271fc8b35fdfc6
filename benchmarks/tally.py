"""The tally: what a benchmarked worker process ran, counted inside it, and read by the suite when it has ended.

Each job marks its number. So "every job ran exactly once" is checked job by job, and costs a job some 50 ns. The first job notes time and
CPU: what a process needs to start is not the jobs' cost.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

FOLDER = "BENCHMARKS_TALLY"
JOBS = "BENCHMARKS_JOBS"

marks = bytearray(int(os.environ.get(JOBS, "0")))
"""How often each job ran, by its number."""
delays: list[float] = []
"""How late jobs began, in ms, as far as they measure it."""
_began: list[float] = []


@dataclass(frozen=True, slots=True)
class Tally:
    """What all workers of a run counted.

    Attributes:
        lost: how many jobs never ran.
        repeated: how many runs there were beyond the first of each job.
        delays: in ms.
        began: time.monotonic() of the first job.
        cpu_began: CPU seconds that the process had used by then.
    """

    lost: int
    repeated: int
    delays: list[float]
    began: float
    cpu_began: float


def begin() -> None:
    """Note that the first job begins. Called by job number 0."""
    _began[:] = time.monotonic(), time.process_time()


def write() -> None:
    """Leave the tally of this process in the folder that the environment names, if it does."""
    folder = os.environ.get(FOLDER)
    if folder is None:
        return
    path = Path(folder) / str(os.getpid())
    path.with_suffix(".marks").write_bytes(marks)
    path.with_suffix(".json").write_text(json.dumps({"began": _began, "delays": delays}))


def environment(folder: Path, jobs: int) -> dict[str, str]:
    """What the environment of a worker must say."""
    return {FOLDER: str(folder), JOBS: str(jobs)}


def read(folder: Path, jobs: int) -> Tally:
    """The sum of what the workers wrote.

    Raises:
        RuntimeError: none did.
    """
    counts = [0] * jobs
    late: list[float] = []
    began: list[tuple[float, float]] = []
    for path in folder.glob("*.json"):
        fields = json.loads(path.read_text())
        late += fields["delays"]
        if fields["began"]:
            began.append(tuple(fields["began"]))
        for number, times in enumerate(path.with_suffix(".marks").read_bytes()):
            counts[number] += times
    if not began:
        raise RuntimeError("no worker wrote a tally in which the first job ran")
    first = min(began)
    return Tally(counts.count(0), sum(times - 1 for times in counts if times > 1), late, *first)
