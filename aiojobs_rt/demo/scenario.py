"""Which jobs the demo enqueues, and what must have become of each."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count, islice
from typing import TYPE_CHECKING

from aiojobs_rt.demo import pictures
from aiojobs_rt.demo.jobs import Caption, Sepia, Thumbnail
from aiojobs_rt.demo.show import Summary

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from aiojobs_rt.demo.jobs import Run
    from aiojobs_rt.job import Bound

WIDTHS = (64, 128, 256, 512)
BROKEN = "broken.jpg"


@dataclass(frozen=True, slots=True)
class Planned:
    """A job to enqueue, and what is expected of it.

    Attributes:
        job: class and arguments, ready for `perform_all_later`.
        target: the image that it is to write.
        width: of that image, in pixels; None: any.
        wait: seconds until it is due.
        retries: how often it is to be retried.
        dies: whether it ends in the dead set.
    """

    job: Bound[Run]
    target: Path
    width: int | None = None
    wait: float = 0.0
    retries: int = 0
    dies: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended.

    Attributes:
        planned: what was expected of it.
        outcome: "succeeded", "dead", ...; "lost" when nobody knows.
        run: what it returned, if it succeeded.
        retries: how often it was retried.
        error: its last error, if it did not succeed.
    """

    planned: Planned
    outcome: str
    run: Run | None = None
    retries: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Gallery:
    """Where the images are.

    Attributes:
        folder: the demo's own; the originals are in `pictures`, what the jobs make in `thumbnails`.
    """

    folder: Path

    @property
    def pictures(self) -> Path:
        """The folder of the originals."""
        return self.folder / "pictures"

    @property
    def thumbnails(self) -> Path:
        """The folder of what the jobs make."""
        return self.folder / "thumbnails"

    def picture(self, number: int) -> Path:
        """The original of a number."""
        return self.pictures / f"picture-{number:03}.jpg"


def plan(jobs: int, gallery: Gallery) -> list[Planned]:
    """So many jobs: for each picture its thumbnails, a filtered and a captioned copy; one on a file that is no image."""
    broken = Planned(
        Thumbnail.bind(gallery.pictures / BROKEN, gallery.thumbnails / BROKEN, width=WIDTHS[0]),
        gallery.thumbnails / BROKEN,
        retries=2,
        dies=True,
    )
    return [broken, *islice(_copies(gallery), jobs - 1)]


def pictures_of(planned: list[Planned]) -> int:
    """How many originals those jobs need."""
    per_picture = len(WIDTHS) + 2
    return -(-(len(planned) - 1) // per_picture)


def faults_of(ended: Sequence[Ended]) -> list[str]:
    """What is not as planned, a sentence each. Opens every image."""
    return [fault for job in ended if (fault := _fault_of(job))]


def sum_up(ended: Sequence[Ended], *, began: float, folder: Path) -> Summary:
    """What the closing table tells; `began` is when the first job was enqueued, in seconds since the epoch."""
    done = [(job.planned, job.run) for job in ended if job.run is not None]
    dead = [job for job in ended if job.outcome == "dead"]
    return Summary(
        jobs=len(done),
        seconds=max((run.finished_at.timestamp() for _, run in done), default=began) - began,
        waits=[_wait_ms(run, planned) for planned, run in done if not planned.retries],
        runs=[(run.finished_at - run.started_at).total_seconds() * 1000 for _, run in done],
        retries=sum(job.retries for job in ended),
        died=len(dead),
        error=dead[0].error if dead else "none",
        folder=folder,
    )


def _fault_of(job: Ended) -> str:
    planned, name = job.planned, job.planned.target.name
    expected = "dead" if planned.dies else "succeeded"
    if job.outcome != expected:
        return f"the job for {name} is {job.outcome} instead of {expected}: {job.error}"
    if job.retries != planned.retries:
        return f"the job for {name} was retried {job.retries} time(s) instead of {planned.retries}"
    if job.run is None:
        return f"{planned.target} is there, although its job is dead" if planned.target.exists() else ""
    if (wait_ms := _wait_ms(job.run, planned)) < -1:
        return f"the job for {name} started {-wait_ms:.0f} ms too early"
    return pictures.fault_of(planned.target, width=planned.width)


def _wait_ms(run: Run, planned: Planned) -> float:
    """From when a job was due to when it started."""
    return ((run.started_at - run.enqueued_at).total_seconds() - planned.wait) * 1000


def _copies(gallery: Gallery) -> Iterator[Planned]:
    for number in count(1):
        source = gallery.picture(number)

        def target(kind: str, source: Path = source) -> Path:
            return gallery.thumbnails / f"{source.stem}-{kind}.jpg"

        for width in WIDTHS:
            path = target(str(width))
            yield Planned(Thumbnail.bind(source, path, width=width), path, width)
        wait = 0.5 + number % 10 / 10
        yield Planned(Sepia.set(wait=wait).bind(source, target("sepia")), target("sepia"), wait=wait)
        busy_runs = number % 3
        yield Planned(
            Caption.bind(source, target("caption"), busy_runs=busy_runs), target("caption"), retries=busy_runs
        )
