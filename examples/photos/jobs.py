"""What is done with a photo after its upload. The worker is started with this module's name."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID  # noqa: TC003 - perform's annotations are read at run time

from anyio.to_thread import run_sync

from aiojobs_rt import Job, RedisAdapter, discard_on, retry_on
from examples.photos.recogniser import Recogniser, RecogniserBusy, StubRecogniser
from examples.photos.storage import PhotoGone, Storage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

WIDTHS = (160, 640)

adapter = RedisAdapter(os.environ.get("AIOJOBS_RT_REDIS_URL", "embedded://./photos-data/redis"))
connect_recogniser: Callable[[], Recogniser] = StubRecogniser


def open_storage() -> Storage:
    """The photos of this application, for the web process and for the worker."""
    return Storage(Path(os.environ.get("PHOTOS_FOLDER", "photos-data/photos")))


@dataclass(frozen=True, slots=True)
class AppState:
    """What the jobs of one worker share: made once, when it starts."""

    storage: Storage
    recogniser: Recogniser


@discard_on(PhotoGone)
class ApplicationJob(Job):
    """The base of this application's jobs. A photo that is gone needs no work: its jobs are discarded, not retried."""

    adapter = adapter
    queue = "photos"
    timeout = 60
    keep_result = 3600
    state: AppState

    @staticmethod
    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[AppState]:
        yield AppState(open_storage(), connect_recogniser())


class MakeThumbnail(ApplicationJob):
    async def perform(self, photo_id: UUID, *, width: int) -> str:
        # CPU work goes to a thread: the worker's event loop stays free for other jobs.
        return await run_sync(self.state.storage.make_thumbnail, photo_id, width)


class ApplyFilter(ApplicationJob):
    async def perform(self, photo_id: UUID) -> str:
        return await run_sync(self.state.storage.make_filtered, photo_id)


@retry_on(RecogniserBusy, wait=1, attempts=10)
class Recognise(ApplicationJob):
    async def perform(self, photo_id: UUID) -> list[str]:
        image = await run_sync(self.state.storage.read, photo_id)
        labels = await self.state.recogniser.labels_of(image)
        await run_sync(self.state.storage.write_json, photo_id, "labels.json", labels)
        self.logger.info("photo %s shows %s", photo_id, ", ".join(labels))
        return labels
