"""Load: what a producer is to enqueue, and how. It travels to child processes as one JSON argument.

The same for every system: the kinds of jobs with the names of their arguments, the moments of a paced producer, the due times. It needs
the standard library alone.

| kind | arguments | what it does |
| --- | --- | --- |
| Noop | n, s | nothing |
| Sleep | n, ms | sleeps |
| Stamp | n, at_ns, us | notes how long ago `at_ns` was (`time.monotonic_ns()` at the call), then spins for `us` |
| Late | n, due_ms | notes how long ago `due_ms` was (epoch), its due time |
| Cpu | n, us | spins |
| Flaky | n | raises on its first run when `tally.stumbles(n)`, and is retried as soon as the system can |
| Payload | n, data | nothing; `data` has `payload` characters |
| Echo | n | returns n; its result is kept, and the producer waits for it |
| Ranked | n, rank | notes its rank: see `RANKS` |
| Rich | n | nothing, with callbacks, retry_on, a timeout and log context around it |

Every one marks its number n each time that it runs (`tally.marks`); number 0 calls `tally.begin()`.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

JobName = Literal["Noop", "Sleep", "Stamp", "Late", "Cpu", "Flaky", "Payload", "Echo", "Ranked", "Rich"]
Mode = Literal["one", "concurrent", "bulk", "paced", "results"]

RANKS = (("high", 0), ("middle", -1), ("middle", 0), ("middle", 1), ("low", 0))
"""Queue and priority of `Ranked` jobs, the most urgent first; job n has rank n % 5. Queues in strict order; lower priority runs first."""
STUMBLE = 20
"""Every so many `Flaky` jobs one fails on its first run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Jobs to enqueue.

    Attributes:
        job: which kind.
        jobs: how many.
        mode: one by one; from concurrent callers; by the system's own bulk call; one by one at the moments of `gaps`; or each followed by
            the wait for its result, from `callers` callers.
        callers: how many, when concurrent or for results.
        pause_ms: mean pause between two jobs, when paced.
        sleep_ms: for how long a `Sleep` job sleeps.
        spin_us: for how long a `Cpu` or `Stamp` job keeps the processor.
        payload: characters of a `Payload` job's data.
        spread_ms: `Late` jobs are due evenly over so long; 0: all at one instant.
        lead_ms: the first `Late` job is due so long after the producer's start; time enough to enqueue all.
    """

    job: JobName = "Noop"
    jobs: int
    mode: Mode = "bulk"
    callers: int = 1
    pause_ms: int = 10
    sleep_ms: int = 10
    spin_us: int = 0
    payload: int = 0
    spread_ms: int = 1_000
    lead_ms: int = 1_000

    def dump(self) -> str:
        """As an argument of a command."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Load:
        """From an argument of a command."""
        return cls(**json.loads(text))

    def runs(self, n: int) -> int:
        """How often job n is to run."""
        return 2 if self.job == "Flaky" and n % STUMBLE == STUMBLE - 1 else 1

    def due_ms(self, n: int, began_ms: int) -> int:
        """When `Late` job n is due, of a producer that began at `began_ms` (epoch)."""
        return began_ms + self.lead_ms + n * self.spread_ms // self.jobs

    def gaps(self) -> Iterator[float]:
        """Seconds from one paced job to the next: half to one and a half of the mean; like chance has it when the jobs are to be a load.

        A producer adds them up and sleeps until the sum is reached, so that the mean is kept.
        """
        mean = self.pause_ms / 1000
        for _ in range(self.jobs):
            yield random.expovariate(1 / mean) if self.spin_us else mean * random.uniform(0.5, 1.5)


@dataclass(frozen=True, slots=True)
class Produced:
    """What enqueueing took.

    Attributes:
        seconds: from before the first call until after the last.
        cpu_seconds: of the producer's process, in that time.
        delays: with mode "results", how long each call and the wait for its result took, in ms.
    """

    seconds: float
    cpu_seconds: float
    delays: list[float] = field(default_factory=list[float])
