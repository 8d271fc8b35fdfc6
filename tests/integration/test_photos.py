"""examples/photos: the web application in this process, its worker in another, an embedded Redis between them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import httpx
import pytest
from PIL import Image, ImageDraw

from aiojobs_rt import EnqueueError, RedisAdapter
from aiojobs_rt.core import registry
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator

    Condition = Callable[[], bool | Awaitable[bool]]

ROOT = Path(__file__).parents[2]
ALL_DONE: dict[str, str] = dict.fromkeys(("thumbnail-160", "thumbnail-640", "filter", "recognise"), "succeeded")

# A recogniser that does as the test says, by files in FOLDER: `busy` holds how many calls fail before one succeeds;
# while there is `gate`, a call does not return. It notes its calls in `calls`.
WORKER = """
import asyncio, os
from pathlib import Path
from examples.photos import jobs
from examples.photos.recogniser import RecogniserBusy

folder = Path(os.environ["SCRIPTED_FOLDER"])

class ScriptedRecogniser:
    calls = 0

    async def labels_of(self, image: bytes) -> list[str]:
        self.calls += 1
        (folder / "calls").write_text(str(self.calls))
        while (folder / "gate").exists():
            await asyncio.sleep(0.01)
        if self.calls <= int((folder / "busy").read_text()):
            raise RecogniserBusy("as the test says")
        return ["cat", f"{len(image)} bytes"]

jobs.connect_recogniser = ScriptedRecogniser
"""


class Photos:
    """The application's client, and its worker."""

    def __init__(self, folder: Path, client: httpx.AsyncClient) -> None:
        self.client = client
        self._folder = folder
        self.gate = folder / "gate"
        self.busy = folder / "busy"
        self.busy.write_text("0")

    @property
    def calls(self) -> int:
        """How often the recogniser was asked."""
        path = self._folder / "calls"
        return int(path.read_text()) if path.exists() else 0

    @contextmanager
    def worker(self) -> Generator[None]:
        """A worker process, as the README starts it, but for its recogniser."""
        (self._folder / "scripted_photos.py").write_text(textwrap.dedent(WORKER))
        log = self._folder / "worker.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "aiojobs_rt", "worker", "scripted_photos", "-c", "4"],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(self._folder), "SCRIPTED_FOLDER": str(self._folder)},
                stdout=output,
                stderr=output,
            )
        try:
            yield
            process.terminate()
            assert process.wait(timeout=15) == 0, log.read_text()
            assert "Traceback" not in log.read_text()
        finally:
            process.kill()
            process.wait()

    async def upload(self, content: bytes) -> httpx.Response:
        return await self.client.post("/photos", files={"file": ("holiday.jpg", content, "image/jpeg")})

    async def show(self, photo_id: str) -> dict[str, Any]:
        response = await self.client.get(f"/photos/{photo_id}")
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def all_done(self, photo_id: str) -> dict[str, Any]:
        """Wait until its jobs have succeeded; what there is of the photo then."""
        await until(self._has_jobs(photo_id, ALL_DONE), what=f"the end of all jobs of {photo_id}")
        return await self.show(photo_id)

    async def is_recognising(self, photo_id: str) -> None:
        """Wait until the recogniser's job runs."""
        await until(self._has_jobs(photo_id, {"recognise": "running"}), what="the recogniser's job")

    def _has_jobs(self, photo_id: str, wanted: dict[str, str]) -> Condition:
        async def has() -> bool:
            states: dict[str, str] = (await self.show(photo_id))["jobs"]
            return wanted.items() <= states.items()

        return has


async def until(condition: Condition, *, what: str) -> None:
    await wait_until(condition, timeout=20, what=what)


@pytest.fixture
async def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Photos]:
    url = f"embedded://{tmp_path}/redis"
    monkeypatch.setenv("AIOJOBS_RT_REDIS_URL", url)
    monkeypatch.setenv("PHOTOS_FOLDER", str(tmp_path / "photos"))
    monkeypatch.setattr(registry, "_classes", {})
    from examples.photos import jobs
    from examples.photos.app import app

    adapter = RedisAdapter(url)
    monkeypatch.setattr(jobs, "adapter", adapter)
    monkeypatch.setattr(jobs.ApplicationJob, "adapter", adapter)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://photos") as client,
    ):
        yield Photos(tmp_path, client)


def a_photo(width: int = 900, height: int = 600, kind: str = "JPEG") -> bytes:
    image = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    ImageDraw.Draw(image).ellipse((width // 4, height // 4, width // 2, height // 2), fill="crimson")
    buffer = BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.acceptance(7)
async def test_the_upload_is_answered_however_long_the_jobs_take(photos: Photos) -> None:
    photos.gate.touch()  # no recogniser's call ends before this test says so
    with photos.worker():
        response = await photos.upload(a_photo())
        assert response.status_code == 202
        accepted = response.json()
        assert set(accepted) == {"id", "jobs"}
        assert set(accepted["jobs"]) == set(ALL_DONE)
        await photos.is_recognising(accepted["id"])
        # others are answered too while it runs, and the endpoint knows nothing of its end
        assert (await photos.upload(a_photo())).status_code == 202
        assert (await photos.show(accepted["id"]))["labels"] is None
        photos.gate.unlink()
        await photos.all_done(accepted["id"])


@pytest.mark.acceptance(7)
async def test_the_upload_is_answered_when_no_worker_runs(photos: Photos) -> None:
    accepted = (await photos.upload(a_photo())).json()
    photo = await photos.show(accepted["id"])
    assert photo["jobs"] == dict.fromkeys(ALL_DONE, "queued")
    assert photo["thumbnails"] == []
    assert photo["filtered"] is None
    assert photo["labels"] is None


@pytest.mark.acceptance(9)
async def test_the_jobs_make_thumbnails_a_filtered_copy_and_labels(photos: Photos) -> None:
    content = a_photo(900, 600, "PNG")
    with photos.worker():
        photo_id = (await photos.upload(content)).json()["id"]
        photo = await photos.all_done(photo_id)
    assert photo["thumbnails"] == ["thumbnail-160.jpg", "thumbnail-640.jpg"]
    assert photo["labels"] == ["cat", f"{len(content)} bytes"]

    async def image(name: str) -> Image.Image:
        response = await photos.client.get(f"/photos/{photo_id}/{name}")
        assert response.headers["content-type"] == "image/jpeg"
        return Image.open(BytesIO(response.content))

    assert (await image("thumbnail-160.jpg")).size == (160, 107)
    assert (await image("thumbnail-640.jpg")).size == (640, 427)
    filtered = await image(photo["filtered"])
    assert filtered.size == (900, 600)
    red, green, blue = filtered.convert("RGB").getpixel((300, 200))  # type: ignore[misc] # an image of three bands
    assert max(red, green, blue) - min(red, green, blue) < 8


async def test_a_busy_recogniser_is_asked_again(photos: Photos) -> None:
    photos.busy.write_text("2")
    with photos.worker():
        photo_id = (await photos.upload(a_photo())).json()["id"]
        await photos.all_done(photo_id)
    assert photos.calls == 3


async def test_the_jobs_of_a_deleted_photo_are_discarded(photos: Photos) -> None:
    """Deleted while one job runs and before the others start: none fails, none is retried."""
    from aiojobs_rt import JobHandle
    from examples.photos import jobs

    early = (await photos.upload(a_photo())).json()
    assert (await photos.client.delete(f"/photos/{early['id']}")).status_code == 204
    photos.gate.touch()
    with photos.worker():
        late = (await photos.upload(a_photo())).json()
        await until(lambda: photos.calls == 1, what="the recogniser's call")
        assert (await photos.client.delete(f"/photos/{late['id']}")).status_code == 204
        photos.gate.unlink()

        ids = [*early["jobs"].values(), late["jobs"]["recognise"]]

        async def all_discarded() -> bool:
            return {await JobHandle.of(job_id, adapter=jobs.adapter).status() for job_id in ids} == {"discarded"}

        await until(all_discarded, what="the end of the jobs")
    assert photos.calls == 1
    assert (await photos.client.get(f"/photos/{late['id']}")).status_code == 404
    assert (await photos.client.get(f"/photos/{late['id']}/original")).status_code == 404
    assert (await photos.client.delete(f"/photos/{late['id']}")).status_code == 404


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no image"),
        (a_photo()[:600], "can't be read"),
        (b"%PDF-1.7 a document", "no image"),
        (a_photo()[:2000], "can't be read"),
        (a_photo(kind="BMP"), "no image"),
        (b"\x89PNG\r\n\x1a\n" + b"\0\0\0\x05IHDR12345" + crc32(b"IHDR12345").to_bytes(4, "big"), "can't be read"),
    ],
    ids=["empty", "cut off in its head", "no format", "cut off", "a format that is not taken", "a head too short"],
)
async def test_what_is_no_photo_is_refused_at_upload(photos: Photos, content: bytes, reason: str) -> None:
    response = await photos.upload(content)
    assert response.status_code == 422
    assert reason in response.json()["detail"]
    assert await queue_is_empty()


async def test_too_many_pixels_are_refused(photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    from examples.photos import storage

    monkeypatch.setattr(storage, "MOST_PIXELS", 900 * 600 - 1)
    response = await photos.upload(a_photo())
    assert response.status_code == 422
    assert "its 540000 pixels are too many" in response.json()["detail"]


async def test_too_many_bytes_are_refused(photos: Photos) -> None:
    from examples.photos.storage import MOST_BYTES

    assert (await photos.upload(b"x" * (MOST_BYTES + 1))).status_code == 413
    assert await queue_is_empty()


async def test_unknown_photos_and_names(photos: Photos) -> None:
    photo_id = (await photos.upload(a_photo())).json()["id"]
    assert (await photos.client.get(f"/photos/{photo_id}/original")).content == a_photo()
    for path in (
        "/photos/00000000-0000-0000-0000-000000000000",
        f"/photos/{photo_id}/nothing.jpg",
        f"/photos/{photo_id}/..",
        f"/photos/{photo_id}/%2e%2e",
        f"/photos/{photo_id}/..%2f..%2fworker.log",
    ):
        assert (await photos.client.get(path)).status_code in (404, 405), path
    assert (await photos.client.get("/photos/42")).status_code == 422


async def test_a_photo_whose_jobs_cant_be_enqueued_is_not_kept(
    photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from examples.photos import app

    async def refuse(_: object) -> None:
        raise EnqueueError("Redis is away")

    monkeypatch.setattr(app, "perform_all_later", refuse)
    assert (await photos.upload(a_photo())).status_code == 503
    assert list((tmp_path / "photos").iterdir()) == []


async def queue_is_empty() -> bool:
    from aiojobs_rt.admin import Admin
    from examples.photos import jobs

    async with Admin(jobs.adapter) as admin:
        return await admin.queue_names() == []
