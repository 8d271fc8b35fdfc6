"""A web application that takes photos: it answers at once, and leaves the work to jobs.

AIOJOBS_RT_REDIS_URL=embedded://./photos-data/redis uvicorn examples.photos.app:app
AIOJOBS_RT_REDIS_URL=embedded://./photos-data/redis python -m aiojobs_rt worker examples.photos.jobs
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from anyio.to_thread import run_sync
from fastapi import Depends, FastAPI, File, HTTPException, Request, UploadFile
from fastapi.responses import FileResponse
from pydantic import BaseModel

from aiojobs_rt import EnqueueError, JobHandle, perform_all_later
from examples.photos import jobs
from examples.photos.jobs import WIDTHS, ApplyFilter, MakeThumbnail, Recognise
from examples.photos.storage import MOST_BYTES, NotAPhoto, PhotoGone, Storage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class Accepted(BaseModel):
    """The answer to an upload: job ids by what the jobs do."""

    id: UUID
    jobs: dict[str, str]


class Photo(BaseModel):
    """What there is of a photo by now. `jobs` holds their states, as `JobHandle.status` gives them."""

    id: UUID
    thumbnails: list[str]
    filtered: str | None
    labels: list[str] | None
    jobs: dict[str, str]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    app.state.storage = jobs.open_storage()
    async with jobs.adapter:
        yield


app = FastAPI(title="Photos", lifespan=lifespan)


def storage_of(request: Request) -> Storage:
    storage: Storage = request.app.state.storage
    return storage


PhotoStorage = Annotated[Storage, Depends(storage_of)]


@app.post("/photos", status_code=202)
async def add_photo(file: Annotated[UploadFile, File()], storage: PhotoStorage) -> Accepted:
    content = await file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise HTTPException(413, f"{MOST_BYTES} bytes is the most")
    try:
        photo_id = await run_sync(storage.add, content)
    except NotAPhoto as error:
        raise HTTPException(422, str(error)) from None
    work = {f"thumbnail-{width}": MakeThumbnail.bind(photo_id, width=width) for width in WIDTHS}
    work |= {"filter": ApplyFilter.bind(photo_id)}
    try:
        handles = await perform_all_later([*work.values(), Recognise.bind(photo_id)])
    except EnqueueError as error:
        await run_sync(storage.delete, photo_id)
        raise HTTPException(503, "no photos can be taken at the moment, try again later") from error
    ids = {name: handle.id for name, handle in zip([*work, "recognise"], handles, strict=True)}
    await run_sync(storage.write_json, photo_id, "jobs.json", ids)
    return Accepted(id=photo_id, jobs=ids)


@app.get("/photos/{photo_id}")
async def show_photo(photo_id: UUID, storage: PhotoStorage) -> Photo:
    try:
        names = await run_sync(storage.names, photo_id)
        labels = json.loads(storage.read(photo_id, "labels.json")) if "labels.json" in names else None
        ids: dict[str, str] = json.loads(storage.read(photo_id, "jobs.json")) if "jobs.json" in names else {}
    except PhotoGone as error:
        raise HTTPException(404, str(error)) from None
    return Photo(
        id=photo_id,
        thumbnails=[name for name in names if name.startswith("thumbnail-")],
        filtered="filtered.jpg" if "filtered.jpg" in names else None,
        labels=labels,
        jobs={name: await JobHandle.of(job_id, adapter=jobs.adapter).status() for name, job_id in ids.items()},
    )


@app.get("/photos/{photo_id}/{name}")
async def show_file(photo_id: UUID, name: str, storage: PhotoStorage) -> FileResponse:
    try:
        return FileResponse(await run_sync(storage.path, photo_id, name))
    except PhotoGone as error:
        raise HTTPException(404, str(error)) from None


@app.delete("/photos/{photo_id}", status_code=204)
async def delete_photo(photo_id: UUID, storage: PhotoStorage) -> None:
    try:
        await run_sync(storage.delete, photo_id)
    except PhotoGone as error:
        raise HTTPException(404, str(error)) from None
