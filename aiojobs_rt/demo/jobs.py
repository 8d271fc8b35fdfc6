"""The demo's jobs: what an application writes. Its worker is started with this module's name:

python -m aiojobs_rt worker aiojobs_rt.demo.jobs
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003 - perform's annotations are read at run time

import anyio
from PIL import UnidentifiedImageError

from aiojobs_rt.demo import pictures
from aiojobs_rt.job import Job
from aiojobs_rt.policies import retry_on


class ServiceBusy(Exception):  # noqa: N818 - it says what happened
    """A pretended outside service had no time for us."""


@dataclass(frozen=True, slots=True)
class Run:
    """The last run of a job that succeeded: what every job here returns.

    Attributes:
        executions: which run it was; 1: the first succeeded.
        enqueued_at: by Redis' clock, which is this machine's.
        started_at: when `perform` began.
        finished_at: when the image was written.
    """

    executions: int
    enqueued_at: datetime
    started_at: datetime
    finished_at: datetime


class PictureJob(Job):
    """What the demo's jobs have in common."""

    queue = "pictures"
    timeout = 20
    keep_result = 600

    def run_since(self, started_at: datetime) -> Run:
        """What to return from a run that began then."""
        return Run(self.executions, self.enqueued_at, started_at, datetime.now(UTC))


@retry_on(UnidentifiedImageError, wait=0.3, attempts=3)
class Thumbnail(PictureJob):
    """A smaller copy. A file that is no image is tried three times, then the job is dead."""

    async def perform(self, picture: Path, target: Path, *, width: int) -> Run:
        """Write a copy of `picture` to `target`, at most `width` pixels wide and high."""
        began = datetime.now(UTC)
        await anyio.to_thread.run_sync(pictures.shrink, picture, target, width)  # CPU work: not on the event loop
        return self.run_since(began)


class Sepia(PictureJob):
    """A filtered copy, in brown tones."""

    async def perform(self, picture: Path, target: Path) -> Run:
        """Write a brown copy of `picture` to `target`."""
        began = datetime.now(UTC)
        await anyio.to_thread.run_sync(pictures.tint, picture, target)
        return self.run_since(began)


@retry_on(ServiceBusy, wait=0.2, attempts=5)
class Caption(PictureJob):
    """A copy with a caption, which a pretended outside service writes. It is busy at first, so the job is retried."""

    async def perform(self, picture: Path, target: Path, *, busy_runs: int) -> Run:
        """Write a captioned copy of `picture` to `target`; fail in the first `busy_runs` runs."""
        began = datetime.now(UTC)
        if self.executions <= busy_runs:
            raise ServiceBusy(f"no caption for {picture.name} now, try later")
        await anyio.to_thread.run_sync(pictures.caption, picture, target, f"This is {picture.stem}")
        return self.run_since(began)
