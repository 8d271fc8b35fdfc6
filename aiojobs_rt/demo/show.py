"""What the demo prints: a bar that lives while jobs run (plain lines when the output is no terminal), and a closing table."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

LINE_EVERY_MS = 1_000


@dataclass(frozen=True, slots=True)
class Counts:
    """Where the demo's jobs are at one moment.

    Attributes:
        total: all of them.
        waiting: on the stream.
        scheduled: not due yet.
        running: with the worker.
        retrying: failed, and waiting for their next run.
        dead: given up.
    """

    total: int
    waiting: int
    scheduled: int
    running: int
    retrying: int
    dead: int

    @property
    def open(self) -> int:
        """How many need more work."""
        return self.waiting + self.scheduled + self.running + self.retrying

    @property
    def done(self) -> int:
        """How many are over, and not dead."""
        return self.total - self.open - self.dead

    def __str__(self) -> str:
        return (
            f"waiting {self.waiting:>4}   scheduled {self.scheduled:>3}   running {self.running:>3}   "
            f"retrying {self.retrying:>3}   done {self.done:>4}   dead {self.dead}"
        )


@dataclass(frozen=True, slots=True)
class Summary:
    """What the closing table tells. Times are in ms.

    Attributes:
        jobs: how many succeeded.
        seconds: from the first enqueued to the last that succeeded.
        waits: per job that was not retried: from when it was due to its start.
        runs: per job: how long its last run took.
        retries: how many runs failed and were tried again.
        died: how many are dead.
        error: the last error of the dead job.
        folder: where the thumbnails are.
    """

    jobs: int
    seconds: float
    waits: Sequence[float]
    runs: Sequence[float]
    retries: int
    died: int
    error: str
    folder: Path


class Screen:
    """The demo's output."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)

    def say(self, text: str) -> None:
        """One line."""
        self._console.print(text, markup=False)

    @contextmanager
    def progress(self, total: int) -> Generator[Callable[[Counts], None]]:
        """While jobs run: yields what is to be called with the counts, as often as they are known."""
        if not self._console.is_terminal:
            yield _Lines(self.say)
            return
        bar = Progress(BarColumn(bar_width=None), MofNCompleteColumn(), TimeElapsedColumn(), expand=True)
        task = bar.add_task("", total=total)
        with Live(bar, console=self._console, transient=True) as live:

            def show(counts: Counts) -> None:
                bar.update(task, completed=counts.total - counts.open)
                live.update(Group(bar, str(counts)))

            yield show

    def sum_up(self, summary: Summary) -> None:
        """The closing table."""
        table = Table(show_header=False, title="What became of the jobs", title_justify="left")
        table.add_row(
            "done", f"{summary.jobs} jobs in {summary.seconds:.1f} s: {summary.jobs / summary.seconds:.0f} jobs/s"
        )
        table.add_row("from due to start", _percentiles(summary.waits))
        table.add_row("run time", _percentiles(summary.runs))
        table.add_row("retries", str(summary.retries))
        table.add_row("dead", f"{summary.died}: {summary.error}")
        table.add_row("thumbnails", str(summary.folder))
        self._console.print(table, markup=False)


class _Lines:
    """Prints the counts once a second, and when all jobs have ended."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._last_ms = -LINE_EVERY_MS

    def __call__(self, counts: Counts) -> None:
        now_ms = time.monotonic_ns() // 1_000_000
        if now_ms - self._last_ms >= LINE_EVERY_MS or not counts.open:
            self._say(str(counts))
            self._last_ms = now_ms


def _percentiles(values: Sequence[float]) -> str:
    ranked = sorted(values)
    p50, p99 = (ranked[min(len(ranked) - 1, int(len(ranked) * share))] for share in (0.5, 0.99))
    return f"p50 {p50:.0f} ms, p99 {p99:.0f} ms"
