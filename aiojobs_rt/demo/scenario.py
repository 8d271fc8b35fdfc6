"""Which jobs the demo enqueues, and what must have become of each."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING

from aiojobs_rt.demo.jobs import Caption, Run, Sepia, Thumbnail

if TYPE_CHECKING:
    from collections.abc import Iterator

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
