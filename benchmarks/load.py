"""Load: what a producer is to enqueue, and how. It travels to child processes as one JSON argument."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

JobName = Literal["Noop", "Sleep", "Stamp", "Late"]
Mode = Literal["one", "concurrent", "bulk", "paced"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Jobs to enqueue.

    Attributes:
        job: which of benchmarks/jobs.py.
        jobs: how many.
        mode: one by one, from concurrent callers, in bulk, or one by one with pauses.
        callers: how many, when concurrent.
        pause_ms: mean pause between two jobs, when paced; each is drawn from half to one and a half of it.
        sleep_ms: for how long a `Sleep` job sleeps.
        spread_ms: `Late` jobs are due evenly over so long.
    """

    job: JobName = "Noop"
    jobs: int
    mode: Mode = "bulk"
    callers: int = 1
    pause_ms: int = 10
    sleep_ms: int = 10
    spread_ms: int = 1_000

    def dump(self) -> str:
        """As an argument of a command."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Load:
        """From an argument of a command."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Produced:
    """What enqueueing took.

    Attributes:
        seconds: from before the first call until after the last.
        cpu_seconds: of the producer's process, in that time.
    """

    seconds: float
    cpu_seconds: float
